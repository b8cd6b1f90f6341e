package order

// Confirm says that the payment of an order is certain.
type Confirm struct{}

// Decide answers with Confirmed, with no event if the order has been confirmed before, however far it has come since, or
// with ErrNotFound, or rule.NotAllowed if it was cancelled.
func (c Confirm) Decide(s State) ([]Event, error) {
	switch s.Status {
	case "":
		return nil, ErrNotFound
	case StatusPending:
		return []Event{Confirmed{}}, nil
	case StatusCancelled:
		return nil, errStatus("confirmed", s.Status)
	default:
		return nil, nil
	}
}
