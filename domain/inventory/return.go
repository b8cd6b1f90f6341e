package inventory

// Return takes units of an order back in, to be sold again.
type Return struct {
	Order    string
	Quantity int
}

// Decide answers with Returned, ErrNotFound, or rule.Invalid.
func (c Return) Decide(s State) ([]Event, error) {
	if err := movable(s, c.Quantity); err != nil {
		return nil, err
	}
	if c.Quantity > MaxOnHand-s.OnHand {
		return nil, errTooMany(s)
	}
	return []Event{Returned(c)}, nil
}
