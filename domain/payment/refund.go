package payment

import "github.com/millrace/millrace/domain/money"

// Refund gives captured money back until a total is reached.
type Refund struct {
	// Total is what shall have been given back in all, earlier refunds included: what the returned units of the order had
	// cost. A command that is repeated, or comes after a later one, thereby gives nothing back twice.
	Total money.Money
}

// Decide answers with Refunded and the amount that was missing, with no event if that much was given back already, or
// with rule.Invalid, ErrNotCaptured, or rule.NotAllowed for more than was captured.
func (c Refund) Decide(s State) ([]Event, error) {
	switch {
	case s.Status != StatusCaptured && s.Status != StatusRefunded:
		return nil, ErrNotCaptured
	case c.Total.Currency != s.Captured.Currency:
		return nil, errCurrency(c.Total.Currency, s.Captured.Currency)
	case c.Total.IsNegative():
		return nil, errAmount
	case c.Total.Minor > s.Captured.Minor:
		return nil, errTooMuch("refunded", c.Total, s.Captured)
	case c.Total.Minor <= s.Refunded.Minor:
		return nil, nil
	}
	return []Event{Refunded{Amount: money.Money{Minor: c.Total.Minor - s.Refunded.Minor, Currency: c.Total.Currency}}}, nil
}
