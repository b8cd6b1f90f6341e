package inventory

// Sell sends units off to an order that had not reserved them, as historic invoices have not.
type Sell struct {
	Order    string
	Quantity int
}

// Decide answers with Sold, ErrNotFound, rule.Invalid, or rule.OutOfStock, whose message says how many are available.
func (c Sell) Decide(s State) ([]Event, error) {
	if err := movable(s, c.Quantity); err != nil {
		return nil, err
	}
	if c.Quantity > s.Available() {
		return nil, errShort(s)
	}
	return []Event{Sold(c)}, nil
}
