package payment

import "github.com/millrace/millrace/domain/internal/text"

// Decline records that the provider will not keep the money.
type Decline struct {
	Order string
	// Reason has at most 500 characters; may be empty.
	Reason string
}

// Decide answers with Declined, with no event if the payment was declined already, or with rule.Invalid, or
// rule.NotAllowed once it has been authorised.
func (c Decline) Decide(s State) ([]Event, error) {
	if c.Order == "" {
		return nil, errNoOrder
	}
	if err := text.Block(c.Reason, 0, maxReason); err != nil {
		return nil, err.At("reason")
	}
	switch s.Status {
	case "":
		return []Event{Declined(c)}, nil
	case StatusDeclined:
		return nil, nil
	default:
		return nil, errStatus("declined", s.Status)
	}
}
