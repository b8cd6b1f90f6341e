package inventory

// Ship sends units off that an order had reserved.
type Ship struct {
	Order    string
	Quantity int
}

// Decide answers with Shipped, ErrNotFound, rule.Invalid, or rule.NotAllowed if fewer units are reserved.
func (c Ship) Decide(s State) ([]Event, error) {
	if err := movable(s, c.Quantity); err != nil {
		return nil, err
	}
	if c.Quantity > s.Reserved {
		return nil, errNotReserved(s, c.Quantity)
	}
	return []Event{Shipped(c)}, nil
}
