package inventory

import "github.com/millrace/millrace/domain/internal/text"

// Adjust puts the number of units right after a count, a find or a loss.
type Adjust struct {
	// Delta is how many units more there are than was known; negative if fewer.
	Delta int
	// Reason has at most 500 characters; may be empty.
	Reason string
}

// Decide answers with Adjusted, ErrNotFound, rule.Invalid, or rule.OutOfStock if fewer units are available than would be
// taken away: what is reserved is promised.
func (c Adjust) Decide(s State) ([]Event, error) {
	switch {
	case !s.Opened():
		return nil, ErrNotFound.At("sku")
	case c.Delta == 0:
		return nil, ErrNothing
	case c.Delta < -MaxQuantity || c.Delta > MaxQuantity:
		return nil, errDelta(c.Delta)
	}
	if err := text.Line(c.Reason, 0, maxReason); err != nil {
		return nil, err.At("reason")
	}
	switch {
	case c.Delta > MaxOnHand-s.OnHand:
		return nil, errTooMany(s).At("delta")
	case -c.Delta > s.Available():
		return nil, errShort(s).At("delta")
	}
	return []Event{Adjusted(c)}, nil
}
