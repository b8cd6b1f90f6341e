package inventory

import "fmt"

// State is the stock of a SKU as its events have made it. The zero State is a SKU that nobody has opened.
type State struct {
	SKU     string `json:"sku,omitzero"`
	Product string `json:"product,omitzero"`
	// OnHand counts the units in the house, those included that are reserved.
	OnHand int `json:"onHand,omitzero"`
	// Reserved counts the units that are kept for orders.
	Reserved int `json:"reserved,omitzero"`
}

// Opened reports whether the SKU has a product, and so a stock.
func (s State) Opened() bool { return s.Product != "" }

// Available returns how many units can be bought now. It is never below zero.
func (s State) Available() int { return s.OnHand - s.Reserved }

// Evolve returns the state after e.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case Opened:
		s.SKU, s.Product = e.SKU, e.Product
	case Received:
		s.OnHand += e.Quantity
	case Adjusted:
		s.OnHand += e.Delta
	case Reserved:
		s.Reserved += e.Quantity
	case Released:
		s.Reserved -= e.Quantity
	case Shipped:
		s.OnHand -= e.Quantity
		s.Reserved -= e.Quantity
	case Sold:
		s.OnHand -= e.Quantity
	case Returned:
		s.OnHand += e.Quantity
	default:
		panic(fmt.Sprintf("inventory: %T is no event of a stock", e))
	}
	return s
}
