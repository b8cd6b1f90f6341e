package payment

import "github.com/millrace/millrace/domain/money"

// Capture takes authorised money, all of it or less. It happens once: what is not taken then is let go.
type Capture struct{ Amount money.Money }

// Decide answers with Captured, with no event if that amount was captured already, or with rule.Invalid, ErrNotAuthorised,
// or rule.NotAllowed for another amount than was captured, for more than is authorised, and after a void.
func (c Capture) Decide(s State) ([]Event, error) {
	switch s.Status {
	case StatusAuthorised:
	case StatusCaptured, StatusRefunded:
		if c.Amount != s.Captured {
			return nil, errRecaptured(c.Amount, s.Captured)
		}
		return nil, nil
	case StatusVoided:
		return nil, errStatus("captured", s.Status)
	default:
		return nil, ErrNotAuthorised
	}
	switch {
	case c.Amount.Currency != s.Authorised.Currency:
		return nil, errCurrency(c.Amount.Currency, s.Authorised.Currency)
	case c.Amount.IsNegative():
		return nil, errAmount
	case c.Amount.Minor > s.Authorised.Minor:
		return nil, errTooMuch("captured", c.Amount, s.Authorised)
	}
	return []Event{Captured(c)}, nil
}
