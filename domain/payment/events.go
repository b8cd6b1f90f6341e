package payment

import "github.com/millrace/millrace/domain/money"

// Event is a fact about a payment. The set is closed: only this package's types implement it.
type Event interface {
	// EventType returns the name that the event is stored under.
	EventType() string
	isPaymentEvent()
}

// Authorised says that the provider keeps money for the shop.
type Authorised struct {
	Order  string      `json:"order"`
	Amount money.Money `json:"amount"`
	// Reference is what the provider calls the authorisation.
	Reference string `json:"reference,omitzero"`
}

// Declined says that the provider will not keep the money.
type Declined struct {
	Order  string `json:"order"`
	Reason string `json:"reason,omitzero"`
}

// Captured says that the shop has the money.
type Captured struct {
	Amount money.Money `json:"amount"`
}

// Voided says that the authorised money was let go.
type Voided struct {
	Reason string `json:"reason,omitzero"`
}

// Refunded says that the shop gave money back, on top of what it gave back before.
type Refunded struct {
	Amount money.Money `json:"amount"`
}

// EventType returns "payment.authorised".
func (Authorised) EventType() string { return "payment.authorised" }

// EventType returns "payment.declined".
func (Declined) EventType() string { return "payment.declined" }

// EventType returns "payment.captured".
func (Captured) EventType() string { return "payment.captured" }

// EventType returns "payment.voided".
func (Voided) EventType() string { return "payment.voided" }

// EventType returns "payment.refunded".
func (Refunded) EventType() string { return "payment.refunded" }

func (Authorised) isPaymentEvent() {}
func (Declined) isPaymentEvent()   {}
func (Captured) isPaymentEvent()   {}
func (Voided) isPaymentEvent()     {}
func (Refunded) isPaymentEvent()   {}

// Events returns one zero value of each event of a payment.
func Events() []Event {
	return []Event{Authorised{}, Declined{}, Captured{}, Voided{}, Refunded{}}
}
