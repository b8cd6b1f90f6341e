package inventory

// Event is a fact about the stock of a SKU. The set is closed: only this package's types implement it.
type Event interface {
	// EventType returns the name that the event is stored under.
	EventType() string
	isStockEvent()
}

// Opened is the first event of a SKU's stock: from now on the SKU is that product's.
type Opened struct {
	SKU     string `json:"sku"`
	Product string `json:"product"`
}

// Received says that units have arrived.
type Received struct {
	Quantity  int    `json:"quantity"`
	Reference string `json:"reference,omitzero"`
}

// Adjusted says that a count found more or fewer units than were known.
type Adjusted struct {
	Delta  int    `json:"delta"`
	Reason string `json:"reason,omitzero"`
}

// Reserved says that available units are kept for an order.
type Reserved struct {
	Order    string `json:"order"`
	Quantity int    `json:"quantity"`
}

// Released says that units reserved for an order are available again.
type Released struct {
	Order    string `json:"order"`
	Quantity int    `json:"quantity"`
}

// Shipped says that units reserved for an order have left.
type Shipped struct {
	Order    string `json:"order"`
	Quantity int    `json:"quantity"`
}

// Sold says that available units have left for an order that had not reserved them.
type Sold struct {
	Order    string `json:"order"`
	Quantity int    `json:"quantity"`
}

// Returned says that units of an order have come back and are available.
type Returned struct {
	Order    string `json:"order"`
	Quantity int    `json:"quantity"`
}

// EventType returns "stock.opened".
func (Opened) EventType() string { return "stock.opened" }

// EventType returns "stock.received".
func (Received) EventType() string { return "stock.received" }

// EventType returns "stock.adjusted".
func (Adjusted) EventType() string { return "stock.adjusted" }

// EventType returns "stock.reserved".
func (Reserved) EventType() string { return "stock.reserved" }

// EventType returns "stock.released".
func (Released) EventType() string { return "stock.released" }

// EventType returns "stock.shipped".
func (Shipped) EventType() string { return "stock.shipped" }

// EventType returns "stock.sold".
func (Sold) EventType() string { return "stock.sold" }

// EventType returns "stock.returned".
func (Returned) EventType() string { return "stock.returned" }

func (Opened) isStockEvent()   {}
func (Received) isStockEvent() {}
func (Adjusted) isStockEvent() {}
func (Reserved) isStockEvent() {}
func (Released) isStockEvent() {}
func (Shipped) isStockEvent()  {}
func (Sold) isStockEvent()     {}
func (Returned) isStockEvent() {}

// Events returns one zero value of each event of a SKU's stock.
func Events() []Event {
	return []Event{Opened{}, Received{}, Adjusted{}, Reserved{}, Released{}, Shipped{}, Sold{}, Returned{}}
}
