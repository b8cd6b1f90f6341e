package inventory

// Release makes units available again that an order had reserved.
type Release struct {
	Order    string
	Quantity int
}

// Decide answers with Released, ErrNotFound, rule.Invalid, or rule.NotAllowed if fewer units are reserved.
func (c Release) Decide(s State) ([]Event, error) {
	if err := movable(s, c.Quantity); err != nil {
		return nil, err
	}
	if c.Quantity > s.Reserved {
		return nil, errNotReserved(s, c.Quantity)
	}
	return []Event{Released(c)}, nil
}
