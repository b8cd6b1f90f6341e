package cart

import "github.com/millrace/millrace/domain/money"

// Event is a fact about a cart. The set is closed: only this package's types implement it.
type Event interface {
	// EventType returns the name that the event is stored under.
	EventType() string
	isCartEvent()
}

// Created is the first event of a cart.
type Created struct {
	Currency money.Currency `json:"currency"`
}

// LineAdded says that units of a SKU were put into the cart, on top of those that it has already.
type LineAdded struct {
	SKU       string      `json:"sku"`
	Product   string      `json:"product"`
	Title     string      `json:"title"`
	UnitPrice money.Money `json:"unitPrice"`
	Quantity  int         `json:"quantity"`
}

// LineChanged says how many units of a SKU the cart has from now on.
type LineChanged struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

// LineRemoved says that the cart has no more units of a SKU.
type LineRemoved struct {
	SKU string `json:"sku"`
}

// CheckedOut says that the cart became an order.
type CheckedOut struct {
	Order string `json:"order"`
}

// EventType returns "cart.created".
func (Created) EventType() string { return "cart.created" }

// EventType returns "cart.line_added".
func (LineAdded) EventType() string { return "cart.line_added" }

// EventType returns "cart.line_changed".
func (LineChanged) EventType() string { return "cart.line_changed" }

// EventType returns "cart.line_removed".
func (LineRemoved) EventType() string { return "cart.line_removed" }

// EventType returns "cart.checked_out".
func (CheckedOut) EventType() string { return "cart.checked_out" }

func (Created) isCartEvent()     {}
func (LineAdded) isCartEvent()   {}
func (LineChanged) isCartEvent() {}
func (LineRemoved) isCartEvent() {}
func (CheckedOut) isCartEvent()  {}

// Events returns one zero value of each event of a cart.
func Events() []Event {
	return []Event{Created{}, LineAdded{}, LineChanged{}, LineRemoved{}, CheckedOut{}}
}
