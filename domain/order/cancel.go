package order

import (
	"slices"

	"github.com/millrace/millrace/domain/internal/text"
)

// Cancel calls an order off of which nothing has been sent.
type Cancel struct {
	// Reason has at most 500 characters; may be empty.
	Reason string
	// By is ByBuyer, ByStaff or BySystem.
	By string
}

// Decide answers with Cancelled, with no event if the order is cancelled already, or with ErrNotFound, rule.Invalid for
// the reason, or rule.NotAllowed once units have been sent.
func (c Cancel) Decide(s State) ([]Event, error) {
	if !s.Exists() {
		return nil, ErrNotFound
	}
	if err := text.Block(c.Reason, 0, maxReason); err != nil {
		return nil, err.At("reason")
	}
	switch s.Status {
	case StatusCancelled:
		return nil, nil
	case StatusPending, StatusConfirmed:
		if slices.ContainsFunc(s.Lines, func(l Line) bool { return l.Fulfilled > 0 }) {
			return nil, errSent()
		}
		return []Event{Cancelled(c)}, nil
	default:
		return nil, errStatus("cancelled", s.Status)
	}
}
