package inventory

import "github.com/millrace/millrace/domain/internal/text"

// Receive takes delivered units in.
type Receive struct {
	Quantity int
	// Reference is the sender's own word for the delivery, of at most 200 characters; may be empty.
	Reference string
}

// Decide answers with Received, ErrNotFound, or rule.Invalid.
func (c Receive) Decide(s State) ([]Event, error) {
	if !s.Opened() {
		return nil, ErrNotFound.At("sku")
	}
	if c.Quantity < 1 || c.Quantity > MaxQuantity {
		return nil, errQuantity(c.Quantity)
	}
	if err := text.Line(c.Reference, 0, maxReference); err != nil {
		return nil, err.At("reference")
	}
	if c.Quantity > MaxOnHand-s.OnHand {
		return nil, errTooMany(s).At("quantity")
	}
	return []Event{Received(c)}, nil
}
