package cart

import "github.com/millrace/millrace/domain/money"

// Create begins a cart, with lines or without.
type Create struct {
	Currency money.Currency
	Lines    []NewLine
}

// Decide answers with Created and a LineAdded for each line, or with ErrExists, or every rule.Invalid that the lines
// break, joined.
func (c Create) Decide(s State) ([]Event, error) {
	if s.Exists() {
		return nil, ErrExists
	}
	if !c.Currency.Valid() {
		return nil, errCurrency(c.Currency)
	}
	created := Created{Currency: c.Currency}
	lines, err := add(Evolve(s, created), c.Lines)
	if err != nil {
		return nil, err
	}
	return append([]Event{created}, lines...), nil
}
