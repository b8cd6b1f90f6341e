package commands

import (
	"context"
	"errors"

	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
	"github.com/millrace/millrace/domain/rule"
	"github.com/millrace/millrace/internal/es"
)

// The use cases in this file are for the process that talks to the payment provider, which does everything at least once:
// each of them, repeated, answers without an event.

// ErrNotDue is the refusal to expire a payment before its deadline.
var ErrNotDue = errors.New("commands: the payment is not due yet")

// ReasonDeclined is the reason of an order's cancellation by DeclinePayment.
const ReasonDeclined = "the payment was declined"

var errNotCancelled = rule.New(rule.NotAllowed, "the payment of an order that is not cancelled cannot be let go")

// AuthorisePayment records that the provider keeps an order's total for the shop.
type AuthorisePayment struct {
	OrderID string
	// Reference is what the provider calls the authorisation.
	Reference string
}

// PaymentResult is an order and its payment as a command left them.
type PaymentResult struct {
	Payment  payment.State
	Order    order.State
	Position int64
}

// AuthorisePayment confirms the order by the same append. The authorisation of an order that was cancelled meanwhile is
// recorded, and nothing else: it is there to be voided.
func (a *App) AuthorisePayment(ctx context.Context, in AuthorisePayment) (PaymentResult, error) {
	return a.settle(ctx, "payment.authorise", in.OrderID, func(s *settlement) error {
		if err := s.pay(payment.Authorise{Order: in.OrderID, Amount: s.order.Total, Reference: in.Reference}.Decide); err != nil {
			return err
		}
		if s.order.Status != order.StatusPending {
			return nil
		}
		events, err := order.Confirm{}.Decide(s.order)
		if err != nil {
			return err
		}
		s.order = es.Append(s.decision, s.orders, events...)
		return nil
	})
}

// DeclinePayment records that the provider does not keep the money.
type DeclinePayment struct {
	OrderID string
	// Reason is the provider's; may be empty.
	Reason string
}

// DeclinePayment cancels an order that waits for the payment, and releases its stock, by the same append.
func (a *App) DeclinePayment(ctx context.Context, in DeclinePayment) (PaymentResult, error) {
	return a.settle(ctx, "payment.decline", in.OrderID, func(s *settlement) error {
		if err := s.pay(payment.Decline{Order: in.OrderID, Reason: in.Reason}.Decide); err != nil {
			return err
		}
		return s.cancelPending(ReasonDeclined)
	})
}

// ExpirePayment gives up on the payment of an order whose deadline has passed.
type ExpirePayment struct{ OrderID string }

// ExpirePayment cancels the order and releases its stock, unless it has been confirmed or cancelled meanwhile. Before the
// deadline it returns ErrNotDue.
func (a *App) ExpirePayment(ctx context.Context, in ExpirePayment) (PaymentResult, error) {
	return a.settle(ctx, "payment.expire", in.OrderID, func(s *settlement) error {
		if s.order.Status == order.StatusPending && (s.order.PaymentDue.IsZero() || s.decision.Now.Before(s.order.PaymentDue)) {
			return ErrNotDue
		}
		return s.cancelPending("the payment did not arrive in time")
	})
}

// VoidPayment records that the provider keeps no money any more for a cancelled order.
type VoidPayment struct{ OrderID string }

// VoidPayment voids an authorised payment. One of which nothing had been heard is recorded as declined: the provider was
// told to let go of whatever it has. An order that is not cancelled is refused with rule.NotAllowed.
func (a *App) VoidPayment(ctx context.Context, in VoidPayment) (PaymentResult, error) {
	const reason = "the order was cancelled"
	return a.settle(ctx, "payment.void", in.OrderID, func(s *settlement) error {
		if s.order.Status != order.StatusCancelled {
			return errNotCancelled
		}
		if s.payment.Status == "" {
			return s.pay(payment.Decline{Order: in.OrderID, Reason: reason}.Decide)
		}
		return s.pay(payment.Void{Reason: reason}.Decide)
	})
}

// CapturePayment records that the shop has the money for an order.
type CapturePayment struct{ OrderID string }

// CapturePayment records the capture of the order's total.
func (a *App) CapturePayment(ctx context.Context, in CapturePayment) (PaymentResult, error) {
	return a.settle(ctx, "payment.capture", in.OrderID, func(s *settlement) error {
		return s.pay(payment.Capture{Amount: s.order.Total}.Decide)
	})
}

// RefundPayment records that the provider has given money back.
type RefundPayment struct {
	OrderID string
	// Refund is what had been given back in all once the provider was done.
	Refund payment.Refund
}

// RefundPayment records what is not recorded yet of what was given back.
func (a *App) RefundPayment(ctx context.Context, in RefundPayment) (PaymentResult, error) {
	return a.settle(ctx, "payment.refund", in.OrderID, func(s *settlement) error { return s.pay(in.Refund.Decide) })
}

// settlement is one decision about an order and its payment.
type settlement struct {
	decision *es.Decision
	orders   es.Stream[order.State]
	payments es.Stream[payment.State]
	order    order.State
	payment  payment.State
}

func (s *settlement) pay(decide func(payment.State) ([]payment.Event, error)) error {
	events, err := decide(s.payment)
	if err != nil {
		return err
	}
	s.payment = es.Append(s.decision, s.payments, events...)
	return nil
}

func (s *settlement) cancelPending(reason string) (err error) {
	if s.order.Status != order.StatusPending {
		return nil
	}
	s.order, err = cancelOrder(s.decision, s.orders, order.Cancel{Reason: reason, By: order.BySystem})
	return err
}

func (a *App) settle(ctx context.Context, name, orderID string, decide func(*settlement) error) (PaymentResult, error) {
	if !isOrderID(orderID) {
		return PaymentResult{}, order.ErrNotFound
	}
	var r PaymentResult
	orders, payments := Orders.Stream(orderID), Payments.Stream(orderID)
	outcome, err := a.executor.Execute(ctx, es.Command{
		Name:    name,
		Streams: []string{orders.Name(), payments.Name()},
		Decide: func(d *es.Decision) error {
			if err := d.Need(orders.Name(), payments.Name()); err != nil {
				return err
			}
			s := settlement{decision: d, orders: orders, payments: payments}
			var err error
			if s.order, err = es.State(d, orders); err != nil {
				return err
			}
			if s.payment, err = es.State(d, payments); err != nil {
				return err
			}
			if !s.order.Exists() {
				return order.ErrNotFound
			}
			if err := decide(&s); err != nil {
				return err
			}
			r = PaymentResult{Payment: s.payment, Order: s.order}
			return nil
		},
	})
	if err != nil {
		return PaymentResult{}, err
	}
	r.Position = outcome.Position
	return r, nil
}
