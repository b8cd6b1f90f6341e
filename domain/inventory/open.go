package inventory

// Open begins the stock of a SKU and thereby claims the SKU for a product.
type Open struct {
	// SKU is in its normal spelling.
	SKU     string
	Product string
}

// Decide answers with Opened, with no event if the SKU is that product's already, or with rule.Conflict if it is
// another's.
func (c Open) Decide(s State) ([]Event, error) {
	switch {
	case c.SKU == "" || c.Product == "":
		return nil, errNames
	case !s.Opened():
		return []Event{Opened(c)}, nil
	case s.Product != c.Product:
		return nil, errTaken(s.SKU)
	default:
		return nil, nil
	}
}
