package payments

import (
	"time"

	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
)

// Step is what the process does next about an order.
type Step string

// The steps that exist.
const (
	// Nothing is to be done now.
	Nothing Step = ""
	// Authorise asks the provider to keep the order's total.
	Authorise Step = "authorise"
	// Expire gives up on a payment whose deadline has passed.
	Expire Step = "expire"
	// Void lets go of what the provider keeps for an order that was cancelled.
	Void Step = "void"
	// Capture takes the money for an order that was sent.
	Capture Step = "capture"
	// Refund gives back what returned units had cost.
	Refund Step = "refund"
)

// Next decides what is to be done about an order whose payment is in a state, at a time.
func Next(o order.State, p payment.State, now time.Time) Step {
	if !o.Exists() || o.Imported {
		return Nothing
	}
	switch p.Status {
	case "":
		switch {
		case o.Status == order.StatusCancelled:
			return Void
		case o.Status != order.StatusPending:
			return Nothing
		case !o.PaymentDue.IsZero() && !now.Before(o.PaymentDue):
			return Expire
		}
		return Authorise
	case payment.StatusAuthorised:
		if o.Status == order.StatusCancelled {
			return Void
		}
		if o.Status == order.StatusFulfilled || o.Status == order.StatusReturned {
			return Capture
		}
	case payment.StatusCaptured:
		if back, err := o.ReturnedAmount(); err == nil && back.Minor > p.Refunded.Minor {
			return Refund
		}
	default: // declined, voided, or refunded in full: final
	}
	return Nothing
}
