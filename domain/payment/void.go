package payment

import "github.com/millrace/millrace/domain/internal/text"

// Void lets authorised money go.
type Void struct {
	// Reason has at most 500 characters; may be empty.
	Reason string
}

// Decide answers with Voided, with no event if there is no money to let go (never authorised, declined, or voided
// already), or with rule.Invalid, or rule.NotAllowed once the money was captured: then it can only be refunded.
func (c Void) Decide(s State) ([]Event, error) {
	if err := text.Block(c.Reason, 0, maxReason); err != nil {
		return nil, err.At("reason")
	}
	switch s.Status {
	case StatusAuthorised:
		return []Event{Voided(c)}, nil
	case StatusCaptured, StatusRefunded:
		return nil, errStatus("voided", s.Status)
	default:
		return nil, nil
	}
}
