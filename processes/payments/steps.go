package payments

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
	"github.com/millrace/millrace/internal/es"
)

// do decides on the states of this moment whether the task is still to be done, and does it.
func (r *Runner) do(ctx context.Context, t task) error {
	o, _, err := es.Load(ctx, r.o.Reader, commands.Orders.Stream(t.order))
	if err != nil {
		return fmt.Errorf("reading order %s: %w: %w", t.order, es.ErrUnavailable, err)
	}
	p, _, err := es.Load(ctx, r.o.Reader, commands.Payments.Stream(t.order))
	if err != nil {
		return fmt.Errorf("reading the payment of order %s: %w: %w", t.order, es.ErrUnavailable, err)
	}
	if Next(o, p, time.Now()) != t.step {
		return nil // the list was late
	}
	switch t.step {
	case Authorise:
		return r.authorise(ctx, t, o)
	case Expire:
		_, err = r.o.Commands.ExpirePayment(ctx, commands.ExpirePayment{OrderID: t.order})
	case Void:
		err = r.call(ctx, func(ctx context.Context) error {
			return r.o.Provider.Void(ctx, VoidRequest{Order: t.order, Reference: p.Reference})
		})
		if err == nil {
			_, err = r.o.Commands.VoidPayment(ctx, commands.VoidPayment{OrderID: t.order})
		}
	case Capture:
		err = r.call(ctx, func(ctx context.Context) error {
			return r.o.Provider.Capture(ctx, CaptureRequest{Order: t.order, Reference: p.Reference, Amount: o.Total})
		})
		if err == nil {
			_, err = r.o.Commands.CapturePayment(ctx, commands.CapturePayment{OrderID: t.order})
		}
	case Refund:
		err = r.refund(ctx, t, o, p)
	default:
		err = fmt.Errorf("there is no step %q", t.step)
	}
	return err
}

func (r *Runner) authorise(ctx context.Context, t task, o order.State) error {
	token, err := r.o.Commands.OpenPaymentToken(ctx, o.PaymentToken)
	switch {
	case commands.IsForgotten(err):
		_, err = r.o.Commands.DeclinePayment(ctx, commands.DeclinePayment{OrderID: t.order, Reason: "the buyer has been forgotten"})
		return err
	case err != nil:
		return err
	}
	var reference string
	err = r.call(ctx, func(ctx context.Context) (err error) {
		reference, err = r.o.Provider.Authorise(ctx, AuthoriseRequest{Order: t.order, Token: token, Amount: o.Total, Attempt: t.attempt})
		return err
	})
	if d, ok := declined(err); ok {
		_, err = r.o.Commands.DeclinePayment(ctx, commands.DeclinePayment{OrderID: t.order, Reason: d.Reason})
		return err
	}
	if err != nil {
		return err
	}
	_, err = r.o.Commands.AuthorisePayment(ctx, commands.AuthorisePayment{OrderID: t.order, Reference: reference})
	return err
}

func (r *Runner) refund(ctx context.Context, t task, o order.State, p payment.State) error {
	total, err := o.ReturnedAmount()
	if err != nil {
		return err
	}
	err = r.call(ctx, func(ctx context.Context) error {
		return r.o.Provider.Refund(ctx, RefundRequest{Order: t.order, Reference: p.Reference, Total: total})
	})
	if err != nil {
		return err
	}
	_, err = r.o.Commands.RefundPayment(ctx, commands.RefundPayment{OrderID: t.order, Refund: payment.Refund{Total: total}})
	return err
}

// call asks the provider, unless the breaker is open.
func (r *Runner) call(ctx context.Context, ask func(context.Context) error) error {
	if !r.breaker.TryAcquirePermit() {
		r.o.Metrics.refused()
		return errBreakerOpen
	}
	ctx, cancel := context.WithTimeout(ctx, r.o.CallTimeout)
	defer cancel()
	err := ask(ctx)
	if _, final := declined(err); err != nil && !final {
		r.breaker.RecordFailure()
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("the payment provider did not answer within %s", r.o.CallTimeout)
		}
		return fmt.Errorf("the payment provider failed: %w", err)
	}
	r.breaker.RecordSuccess()
	return err
}
