package payment

import (
	"fmt"

	"github.com/millrace/millrace/domain/money"
)

// Status says where the money is.
type Status string

// The statuses of a payment. One of which nothing is known yet has none.
const (
	// StatusAuthorised is money that the provider keeps for the shop.
	StatusAuthorised Status = "AUTHORISED"
	// StatusDeclined is money that the shop does not get.
	StatusDeclined Status = "DECLINED"
	// StatusCaptured is money that the shop has, at least in part.
	StatusCaptured Status = "CAPTURED"
	// StatusVoided is money that the shop let go.
	StatusVoided Status = "VOIDED"
	// StatusRefunded is money that the shop gave back in full.
	StatusRefunded Status = "REFUNDED"
)

// State is a payment as its events have made it. The zero State is a payment of which nothing is known yet.
type State struct {
	Order  string `json:"order,omitzero"`
	Status Status `json:"status,omitzero"`
	// Authorised, Captured and Refunded are sums over the whole life of the payment: what is captured stays in Authorised.
	Authorised money.Money `json:"authorised"`
	Captured   money.Money `json:"captured"`
	Refunded   money.Money `json:"refunded"`
	// Reference is what the provider calls the authorisation.
	Reference string `json:"reference,omitzero"`
}

// Evolve returns the state after e.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case Authorised:
		none := money.Zero(e.Amount.Currency)
		return State{
			Order: e.Order, Status: StatusAuthorised, Authorised: e.Amount, Captured: none, Refunded: none,
			Reference: e.Reference,
		}
	case Declined:
		s.Order, s.Status = e.Order, StatusDeclined
	case Captured:
		s.Status, s.Captured = StatusCaptured, e.Amount
	case Voided:
		s.Status = StatusVoided
	case Refunded:
		s.Refunded.Minor += e.Amount.Minor
		if s.Refunded == s.Captured {
			s.Status = StatusRefunded
		}
	default:
		panic(fmt.Sprintf("payment: %T is no event of a payment", e))
	}
	return s
}
