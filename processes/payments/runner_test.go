package payments_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
	"github.com/millrace/millrace/processes/payments"
	"github.com/millrace/millrace/processes/sandbox"
)

// The sandbox's tokens settle as clients are promised.
func TestSandbox(t *testing.T) {
	t.Parallel()
	const deadline = 6 * time.Second
	f := setup(t, deadline)
	f.run(sandbox.Provider{}, nil)
	ok, declined, unknown, flaky := f.buy("ok"), f.buy("declined"), f.buy("tok_1234"), f.buy("flaky")
	f.settled(2*time.Second, ok.State.Number, order.StatusConfirmed, payment.StatusAuthorised)
	f.settled(2*time.Second, declined.State.Number, order.StatusCancelled, payment.StatusDeclined)
	f.settled(2*time.Second, unknown.State.Number, order.StatusCancelled, payment.StatusDeclined)
	f.settled(5*time.Second, flaky.State.Number, order.StatusConfirmed, payment.StatusAuthorised)

	bought := time.Now()
	timeout := f.buy("timeout")
	f.eventually(2*deadline, "the order is cancelled", func() bool { return f.order(timeout.State.Number).Status == order.StatusCancelled })
	if after := time.Since(bought); after < deadline {
		t.Errorf("the order was cancelled after %v, before its deadline", after)
	}
	if s := f.stock(); s.Reserved != 4 { // those of ok and flaky
		t.Errorf("%d units are reserved, want 4", s.Reserved)
	}
	// The provider might have heard, so that it is told to let go.
	f.settled(10*time.Second, timeout.State.Number, order.StatusCancelled, payment.StatusDeclined)

	_, err := f.app.OrderFulfill(t.Context(), commands.OrderFulfill{OrderID: ok.State.Number})
	must(t, err)
	f.settled(5*time.Second, ok.State.Number, order.StatusFulfilled, payment.StatusCaptured)

	_, err = f.app.OrderCancel(t.Context(), commands.OrderCancel{OrderID: flaky.State.Number, Staff: true})
	must(t, err)
	f.settled(5*time.Second, flaky.State.Number, order.StatusCancelled, payment.StatusVoided)
}

func TestAnAuthorisationThatComesTooLateIsVoided(t *testing.T) {
	t.Parallel()
	f := setup(t, time.Minute)
	asked, answer := make(chan struct{}), make(chan struct{})
	p := &provider{authorise: func(_ context.Context, r payments.AuthoriseRequest) (string, error) {
		close(asked)
		<-answer
		return "ref", nil
	}}
	f.run(p, func(o *payments.Options) { o.Grace = time.Minute })
	r := f.buy("ok")
	<-asked
	_, err := f.app.OrderCancel(t.Context(), commands.OrderCancel{OrderID: r.State.Number, AccessToken: r.AccessToken})
	must(t, err)
	close(answer)
	f.settled(5*time.Second, r.State.Number, order.StatusCancelled, payment.StatusVoided)
	if p.called("void") != 1 {
		t.Errorf("the provider was told %d times to let go, want once", p.called("void"))
	}
	if s := f.stock(); s.Reserved != 0 {
		t.Errorf("%d units are reserved, want none", s.Reserved)
	}
}

// Whoever dies with a task is followed by another when the lease ends.
// The buyer is forgotten after an authorisation whose answer was lost: the provider keeps the money, until it is told not to.
func TestWhatAForgottenBuyerMayHavePaidIsVoided(t *testing.T) {
	t.Parallel()
	f := setup(t, 3*time.Second)
	lost := make(chan struct{})
	p := &provider{authorise: func(context.Context, payments.AuthoriseRequest) (string, error) {
		select {
		case <-lost:
		default:
			close(lost)
		}
		return "", errBroken
	}}
	o := f.buy("ok")
	f.run(p, nil)
	<-lost
	_, err := f.app.PersonForget(f.t.Context(), commands.PersonForget{Email: "ada@example.org"})
	must(t, err)
	f.eventually(time.Minute, "the authorisation is voided", func() bool { return p.called("void "+o.State.Number) == 1 })
	if status := f.order(o.State.Number).Status; status != order.StatusCancelled {
		t.Errorf("the order is %s", status)
	}
}

func TestATaskOfTheDeadIsTakenOver(t *testing.T) {
	t.Parallel()
	f := setup(t, time.Minute)
	r := f.buy("ok")
	_, err := f.pool.Exec(t.Context(), `INSERT INTO process_attempts (process, task, attempts, next_at)
		VALUES ('payments', 'authorise ' || $1, 1, now() + interval '3 seconds')`, r.State.Number)
	must(t, err)
	p := &provider{}
	f.run(p, nil)
	other := f.buy("ok")
	f.settled(5*time.Second, other.State.Number, order.StatusConfirmed, payment.StatusAuthorised)
	called := p.called("authorise " + r.State.Number)
	const leased = `SELECT count(*) FROM process_attempts WHERE attempts = 1 AND next_at > now() AND task = 'authorise ' || $1`
	if f.one(leased, r.State.Number) == 1 && called > 0 {
		t.Error("a task was tried by another while it was under lease")
	}
	f.settled(10*time.Second, r.State.Number, order.StatusConfirmed, payment.StatusAuthorised)
}

func TestTwoRunnersDoEverythingOnce(t *testing.T) {
	t.Parallel()
	const orders = 100
	f := setup(t, time.Minute)
	p := &provider{}
	f.run(p, nil)
	f.run(p, nil)
	numbers := make([]string, orders)
	for i := range numbers {
		numbers[i] = f.buy("ok").State.Number
	}
	for _, n := range numbers {
		f.settled(20*time.Second, n, order.StatusConfirmed, payment.StatusAuthorised)
	}
	if got := p.called("authorise"); got != orders {
		t.Errorf("%d authorisations were asked for, want %d", got, orders)
	}
}

// Lists that are late or rebuilt, and attempts that were forgotten, repeat nothing.
func TestWhatWasDoneIsNotRepeated(t *testing.T) {
	t.Parallel()
	f := setup(t, time.Minute)
	p := &provider{}
	f.run(p, nil)
	r := f.buy("ok")
	f.settled(5*time.Second, r.State.Number, order.StatusConfirmed, payment.StatusAuthorised)
	f.eventually(5*time.Second, "the lists are up to date", func() bool {
		return f.one(`SELECT count(*) FROM payments_1.payments`) == 1 && f.one(`SELECT count(*) FROM payments_1.orders WHERE status = 'CONFIRMED'`) == 1
	})
	for _, sql := range []string{
		`DELETE FROM process_attempts`,
		`UPDATE payments_1.orders SET status = 'PENDING'`,
		`DELETE FROM payments_1.payments`,
	} {
		_, err := f.pool.Exec(t.Context(), sql)
		must(t, err)
	}
	f.eventually(5*time.Second, "the task is claimed again", func() bool { return f.one(`SELECT count(*) FROM process_attempts`) == 1 })
	next := f.buy("ok") // claimed after the other, by a runner that goes through its tasks in order
	f.settled(5*time.Second, next.State.Number, order.StatusConfirmed, payment.StatusAuthorised)
	if got := p.called("authorise " + r.State.Number); got != 1 {
		t.Errorf("the authorisation was asked for %d times, want once", got)
	}
}

func TestImportedOrdersTriggerNothing(t *testing.T) {
	t.Parallel()
	f := setup(t, time.Minute)
	p := &provider{}
	f.run(p, nil)
	_, err := f.writer.Execute(t.Context(), f.app.ImportOrder(commands.ImportOrder{
		Number: "536365", PlacedAt: time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC), Country: "France",
		Lines: []commands.ImportOrderLine{{Place: 1, SKU: "MUG", Title: "Mug", Quantity: 3, UnitPrice: money.Money{Minor: 500, Currency: "GBP"}}},
	}))
	must(t, err)
	later := f.buy("ok")
	f.settled(5*time.Second, later.State.Number, order.StatusConfirmed, payment.StatusAuthorised)
	if n := f.one(`SELECT count(*) FROM payments_1.orders WHERE order_id = '536365'`) + f.one(`SELECT count(*) FROM payments_1.payments WHERE order_id = '536365'`); n != 0 {
		t.Errorf("the imported order is in %d lists", n)
	}
	if got := p.called("authorise"); got != 1 {
		t.Errorf("%d authorisations were asked for, want that of the other order", got)
	}
}

func TestAnAuthorisationThatFailsForLongIsParkedVisibly(t *testing.T) {
	t.Parallel()
	f := setup(t, time.Minute)
	var mended atomic.Bool
	p := &provider{authorise: func(_ context.Context, r payments.AuthoriseRequest) (string, error) {
		if !mended.Load() {
			return "", errBroken
		}
		return "ref", nil
	}}
	registry := prometheus.NewRegistry()
	f.run(p, func(o *payments.Options) {
		o.MaxAttempts, o.Backoff, o.Metrics = 3, 10*time.Millisecond, payments.NewMetrics(registry)
	})
	r := f.buy("ok")
	f.eventually(10*time.Second, "the task is parked", func() bool { return len(f.parked()) == 1 })
	task := "authorise " + r.State.Number
	want := payments.Parked{
		Task: task, Step: payments.Authorise, Order: r.State.Number, Attempts: 3, Error: "the payment provider failed: out of order",
	}
	if got := f.parked()[0]; got != want {
		t.Errorf("parked is %+v, want %+v", got, want)
	}
	if n := figure(t, registry, "millrace_payment_tasks_parked"); n != 1 {
		t.Errorf("the metric shows %d parked tasks, want 1", n)
	}
	mended.Store(true)
	f.retry(task)
	f.settled(5*time.Second, r.State.Number, order.StatusConfirmed, payment.StatusAuthorised)
	if got := f.parked(); len(got) != 0 {
		t.Errorf("still parked is %+v", got)
	}
}

// settlings are the steps that move money which is owed, each with what makes it due for an order that is paid, and how it ends.
var settlings = map[payments.Step]struct {
	due     func(f *fixture, number string)
	order   order.Status
	payment payment.Status
}{
	payments.Capture: {(*fixture).fulfil, order.StatusFulfilled, payment.StatusCaptured},
	payments.Void: {
		due: func(f *fixture, number string) {
			_, err := f.app.OrderCancel(f.t.Context(), commands.OrderCancel{OrderID: number, Staff: true})
			must(f.t, err)
		},
		order: order.StatusCancelled, payment: payment.StatusVoided,
	},
	payments.Refund: {
		due: func(f *fixture, number string) {
			f.fulfil(number)
			f.settled(10*time.Second, number, order.StatusFulfilled, payment.StatusCaptured)
			f.returned(number)
		},
		order: order.StatusReturned, payment: payment.StatusRefunded,
	},
}

func TestMoneyThatIsOwedIsAskedForUntilThereIsAnAnswer(t *testing.T) {
	t.Parallel()
	for step, s := range settlings {
		t.Run(string(step), func(t *testing.T) {
			t.Parallel()
			const usual = 20 // attempts
			f := setup(t, time.Minute)
			var answers atomic.Bool
			p := &provider{settle: func(asked payments.Step, _ string) error {
				if asked == step && !answers.Load() {
					return errBroken
				}
				return nil
			}}
			f.run(p, func(o *payments.Options) { o.Backoff, o.MaxBackoff = time.Millisecond, time.Millisecond })
			number := f.buy("ok").State.Number
			f.settled(10*time.Second, number, order.StatusConfirmed, payment.StatusAuthorised)
			s.due(f, number)
			f.eventually(time.Minute, "it was asked for more often than other things", func() bool { return p.called(string(step)) > usual+1 })
			if parked := f.parked(); len(parked) > 0 {
				t.Errorf("parked is %+v", parked)
			}
			answers.Store(true)
			f.settled(10*time.Second, number, s.order, s.payment)
		})
	}
}

func TestWhatTheProviderRefusesIsParkedAtOnce(t *testing.T) {
	t.Parallel()
	for step, s := range settlings {
		t.Run(string(step), func(t *testing.T) {
			t.Parallel()
			f := setup(t, time.Minute)
			var mended atomic.Bool
			p := &provider{settle: func(asked payments.Step, _ string) error {
				if asked == step && !mended.Load() {
					return &payments.DeclinedError{Reason: "not with us"}
				}
				return nil
			}}
			f.run(p, nil)
			number := f.buy("ok").State.Number
			f.settled(10*time.Second, number, order.StatusConfirmed, payment.StatusAuthorised)
			s.due(f, number)
			f.eventually(10*time.Second, "it is parked", func() bool { return len(f.parked()) == 1 })
			parked := f.parked()[0]
			if parked.Step != step || parked.Order != number || parked.Attempts != 1 || !strings.Contains(parked.Error, "not with us") {
				t.Errorf("parked is %+v", parked)
			}
			mended.Store(true)
			f.retry(parked.Task)
			f.settled(15*time.Second, number, s.order, s.payment)
			if n := p.called(string(step)); n != 2 {
				t.Errorf("it was asked for %d times, want twice", n)
			}
		})
	}
}

// With room for one only, a task that is due again and again leaves it to the other.
func TestWhatFailsForEverHoldsUpNothing(t *testing.T) {
	t.Parallel()
	f := setup(t, time.Minute)
	var failed atomic.Bool
	broken := f.buy("ok").State.Number
	p := &provider{settle: func(_ payments.Step, order string) error {
		if order == broken || failed.CompareAndSwap(false, true) {
			return errBroken
		}
		return nil
	}}
	f.run(p, func(o *payments.Options) {
		o.Concurrency, o.Backoff, o.MaxBackoff = 1, time.Millisecond, time.Millisecond
	})
	flaky := f.buy("ok").State.Number
	for _, number := range []string{broken, flaky} {
		f.settled(10*time.Second, number, order.StatusConfirmed, payment.StatusAuthorised)
		f.fulfil(number)
	}
	f.settled(20*time.Second, flaky, order.StatusFulfilled, payment.StatusCaptured)
	if s := f.payment(broken).Status; s != payment.StatusAuthorised {
		t.Errorf("the payment that cannot be captured is %s", s)
	}
}

// While nearly every call fails, calls are not made, and deadlines are kept.
func TestTheBreakerOpensAndDeadlinesAreKept(t *testing.T) {
	t.Parallel()
	const orders, deadline = 60, 4 * time.Second
	f := setup(t, deadline)
	p := &provider{authorise: func(context.Context, payments.AuthoriseRequest) (string, error) { return "", errBroken }}
	registry := prometheus.NewRegistry()
	f.run(p, func(o *payments.Options) { o.Backoff, o.Metrics = 50*time.Millisecond, payments.NewMetrics(registry) })
	numbers := make([]string, orders)
	for i := range numbers {
		numbers[i] = f.buy("ok").State.Number
	}
	f.eventually(deadline, "the breaker is open", func() bool { return figure(t, registry, "millrace_payment_breaker_open") == 1 })
	for _, n := range numbers {
		f.eventually(2*deadline, "the order is cancelled", func() bool { return f.order(n).Status == order.StatusCancelled })
	}
	if s := f.stock(); s.Reserved != 0 {
		t.Errorf("%d units are reserved, want none", s.Reserved)
	}
}
