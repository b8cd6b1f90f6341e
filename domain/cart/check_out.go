package cart

// CheckOut makes a cart an order. The order itself is placed in the same append (package order).
type CheckOut struct{ Order string }

// Decide answers with CheckedOut, with no event if the cart became that order already, or with ErrNotFound, ErrClosed or
// ErrEmpty.
func (c CheckOut) Decide(s State) ([]Event, error) {
	if c.Order == "" {
		return nil, errNoOrder
	}
	if s.Status == StatusCheckedOut && s.Order == c.Order {
		return nil, nil
	}
	if err := open(s); err != nil {
		return nil, err
	}
	if len(s.Lines) == 0 {
		return nil, ErrEmpty
	}
	return []Event{CheckedOut(c)}, nil
}
