package order

import (
	"time"

	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/personal"
)

// Event is a fact about an order. The set is closed: only this package's types implement it.
type Event interface {
	// EventType returns the name that the event is stored under.
	EventType() string
	isOrderEvent()
}

// Placed is the first event of an order and holds all that it begins with.
type Placed struct {
	Number   string         `json:"number"`
	Lines    []PlacedLine   `json:"lines"`
	Total    money.Money    `json:"total"`
	Currency money.Currency `json:"currency"`
	// Cart is the ref of the cart that became the order; empty for imported orders.
	Cart string `json:"cart,omitzero"`
	// Subject is a keyed hash of who bought; empty if nobody knows.
	Subject string `json:"subject,omitzero"`
	// Contact is the buyer's e-mail address and where to send the goods.
	Contact personal.Sealed `json:"contact,omitzero"`
	// PaymentToken is what the payment provider knows the buyer's means of payment by.
	PaymentToken personal.Sealed `json:"paymentToken,omitzero"`
	// Customer is the customer's number in the books that the order was imported from.
	Customer string `json:"customer,omitzero"`
	// Country is the English name of the country that the order went to.
	Country  string    `json:"country,omitzero"`
	Imported bool      `json:"imported,omitzero"`
	PlacedAt time.Time `json:"placedAt"`
	// PaymentDue is when the order is cancelled unless it is paid by then; zero if it need not be.
	PaymentDue time.Time `json:"paymentDue,omitzero"`
}

// PlacedLine is what was bought of one SKU at one price.
type PlacedLine struct {
	// ID is unique within the order.
	ID        string      `json:"id"`
	SKU       string      `json:"sku"`
	Product   string      `json:"product"`
	Title     string      `json:"title"`
	Quantity  int         `json:"quantity"`
	UnitPrice money.Money `json:"unitPrice"`
}

// LineQuantity is a number of units of one line.
type LineQuantity struct {
	ID       string `json:"id"`
	Quantity int    `json:"quantity"`
}

// Confirmed says that the payment is certain and the goods can be sent.
type Confirmed struct{}

// Fulfilled says which units have been sent.
type Fulfilled struct {
	Lines []LineQuantity `json:"lines"`
	// Tracking is the carrier's name for the parcel, where there is one.
	Tracking string `json:"tracking,omitzero"`
}

// Cancelled says that nothing will be sent.
type Cancelled struct {
	Reason string `json:"reason,omitzero"`
	// By says who did it: ByBuyer, ByStaff or BySystem.
	By string `json:"by,omitzero"`
}

// Who cancels an order.
const (
	// ByBuyer is who bought.
	ByBuyer = "buyer"
	// ByStaff is who sells.
	ByStaff = "staff"
	// BySystem is the shop by itself, after a declined or missing payment.
	BySystem = "system"
)

// Returned says which units came back, and what they had cost.
type Returned struct {
	Lines  []LineQuantity `json:"lines"`
	Amount money.Money    `json:"amount"`
}

// EventType returns "order.placed".
func (Placed) EventType() string { return "order.placed" }

// EventType returns "order.confirmed".
func (Confirmed) EventType() string { return "order.confirmed" }

// EventType returns "order.fulfilled".
func (Fulfilled) EventType() string { return "order.fulfilled" }

// EventType returns "order.cancelled".
func (Cancelled) EventType() string { return "order.cancelled" }

// EventType returns "order.returned".
func (Returned) EventType() string { return "order.returned" }

func (Placed) isOrderEvent()    {}
func (Confirmed) isOrderEvent() {}
func (Fulfilled) isOrderEvent() {}
func (Cancelled) isOrderEvent() {}
func (Returned) isOrderEvent()  {}

// Events returns one zero value of each event of an order.
func Events() []Event {
	return []Event{Placed{}, Confirmed{}, Fulfilled{}, Cancelled{}, Returned{}}
}
