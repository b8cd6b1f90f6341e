package inventory

// Reserve keeps available units for an order.
type Reserve struct {
	Order    string
	Quantity int
}

// Decide answers with Reserved, ErrNotFound, rule.Invalid, or rule.OutOfStock, whose message says how many are available.
func (c Reserve) Decide(s State) ([]Event, error) {
	if err := movable(s, c.Quantity); err != nil {
		return nil, err
	}
	if c.Quantity > s.Available() {
		return nil, errShort(s)
	}
	return []Event{Reserved(c)}, nil
}

// movable checks what holds for units of every order.
func movable(s State, quantity int) error {
	if !s.Opened() {
		return ErrNotFound
	}
	if quantity < 1 || quantity > MaxQuantity {
		return errQuantity(quantity)
	}
	return nil
}
