package order

import "github.com/millrace/millrace/domain/internal/text"

// Fulfill sends all units of an order that have not been sent yet.
type Fulfill struct {
	// Tracking is the carrier's name for the parcel, of at most 200 characters; may be empty.
	Tracking string
}

// Decide answers with Fulfilled, with no event if every unit has been sent already, or with ErrNotFound, rule.Invalid for
// the tracking, or rule.NotAllowed before the order is confirmed and after it was cancelled or returned.
func (c Fulfill) Decide(s State) ([]Event, error) {
	if !s.Exists() {
		return nil, ErrNotFound
	}
	if err := text.Line(c.Tracking, 0, maxTracking); err != nil {
		return nil, err.At("tracking")
	}
	switch s.Status {
	case StatusFulfilled:
		return nil, nil
	case StatusConfirmed:
	default:
		return nil, errStatus("fulfilled", s.Status)
	}
	var left []LineQuantity
	for _, l := range s.Lines {
		if n := l.Quantity - l.Fulfilled; n > 0 {
			left = append(left, LineQuantity{ID: l.ID, Quantity: n})
		}
	}
	return []Event{Fulfilled{Lines: left, Tracking: c.Tracking}}, nil
}
