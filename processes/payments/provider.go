package payments

import (
	"context"
	"errors"

	"github.com/millrace/millrace/domain/money"
)

// Provider moves money. Its methods are called at least once for each request: requests with the same Key are one, also
// while the first is still under way. A DeclinedError is final. Any other error says that the outcome is not known, and the
// request will be repeated. Errors are logged and stored: they must hold neither tokens nor what is personal.
type Provider interface {
	// Authorise has the amount kept for the shop, and returns what the provider calls that.
	Authorise(ctx context.Context, r AuthoriseRequest) (reference string, err error)
	// Capture takes what was authorised.
	Capture(ctx context.Context, r CaptureRequest) error
	// Void lets go of whatever was authorised for the order. That there is nothing is no error, and then nothing must be
	// authorised later either.
	Void(ctx context.Context, r VoidRequest) error
	// Refund gives back so much of what was captured that Total has been given back in all.
	Refund(ctx context.Context, r RefundRequest) error
}

// AuthoriseRequest asks for an authorisation. Its key is the order.
type AuthoriseRequest struct {
	Order string
	// Token is what the provider knows the buyer's means of payment by.
	Token  string
	Amount money.Money
	// Attempt counts the calls for this order, from 1.
	Attempt int
}

// CaptureRequest asks for the money of an authorisation. Its key is the order.
type CaptureRequest struct {
	Order, Reference string
	Amount           money.Money
}

// VoidRequest asks to let an authorisation go. Its key is the order.
type VoidRequest struct {
	Order string
	// Reference is empty where it never arrived.
	Reference string
}

// RefundRequest asks to give money back. Its key is the order with the total.
type RefundRequest struct {
	Order, Reference string
	Total            money.Money
}

// DeclinedError is the provider's final answer that it does not do what it was asked. An order whose authorisation is declined is cancelled;
// anything else that is declined waits for an operator.
type DeclinedError struct {
	// Reason is for people; it may be empty.
	Reason string
}

func (e *DeclinedError) Error() string { return "the payment was declined: " + e.Reason }

func declined(err error) (*DeclinedError, bool) {
	var d *DeclinedError
	return d, errors.As(err, &d)
}
