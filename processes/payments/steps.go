package payments

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
	"github.com/millrace/millrace/domain/personal"
	"github.com/millrace/millrace/internal/es"
)

// known is what a task is decided on: the order and its payment at the head of the log, and what the order is paid with.
type known struct {
	commands.PaymentResult
	token    string
	tokenErr error
	err      error
}

// read returns what is known for each of the tasks, in as many round trips as for one.
func (r *Runner) read(ctx context.Context, tasks []task) []known {
	ids := make([]string, len(tasks))
	for i, t := range tasks {
		ids[i] = t.order
	}
	all := make([]known, len(tasks))
	states, errs := r.o.Commands.PaymentsOf(ctx, ids)
	var sealed []personal.Sealed
	var paying []*known
	for i := range all {
		all[i].PaymentResult, all[i].err = states[i], errs[i]
		if tasks[i].step == Authorise && errs[i] == nil {
			sealed, paying = append(sealed, states[i].Order.PaymentToken), append(paying, &all[i])
		}
	}
	if len(paying) > 0 {
		tokens, errs := r.o.Commands.OpenPaymentTokens(ctx, sealed)
		for i, k := range paying {
			k.token, k.tokenErr = tokens[i], errs[i]
		}
	}
	return all
}

// do decides on the states of this moment whether the task is still to be done, and does it.
func (r *Runner) do(ctx context.Context, t task, k known) error {
	if k.err != nil {
		k = r.read(ctx, []task{t})[0] // it may have been another's fault
	}
	if k.err != nil {
		return fmt.Errorf("reading order %s and its payment: %w: %w", t.order, es.ErrUnavailable, k.err)
	}
	o, p := k.Order, k.Payment
	if Next(o, p, time.Now()) != t.step {
		return nil // the list was late
	}
	var err error
	switch t.step {
	case Authorise:
		return r.authorise(ctx, t, k)
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

func (r *Runner) authorise(ctx context.Context, t task, k known) error {
	if k.tokenErr != nil { // of somebody who has been forgotten since, too: an attempt may have succeeded before, and is voided when the order has expired
		return k.tokenErr
	}
	var reference string
	err := r.call(ctx, func(ctx context.Context) (err error) {
		reference, err = r.o.Provider.Authorise(ctx, AuthoriseRequest{Order: t.order, Token: k.token, Amount: k.Order.Total, Attempt: t.attempt})
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

// errUnanswered says that the provider was asked, and that what came of it is not known.
var errUnanswered = errors.New("the payment provider failed")

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
			return fmt.Errorf("%w: no answer within %s", errUnanswered, r.o.CallTimeout)
		}
		return fmt.Errorf("%w: %w", errUnanswered, err)
	}
	r.breaker.RecordSuccess()
	return err
}
