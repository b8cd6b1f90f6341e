package payments_test

import (
	"context"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
	"github.com/millrace/millrace/processes/payments"
)

var (
	confirmed  = order.Confirmed{}.EventType()
	authorised = payment.Authorised{}.EventType()
)

func always(token string) func(int) string { return func(int) string { return token } }

// A provider that does not answer for some of a crowd holds up nobody else.
func TestACrowdIsConfirmedWhileACallHangs(t *testing.T) {
	t.Parallel()
	const orders, promised = 2000, 1000 // a second
	f := setup(t, 10*time.Minute)
	const slow = 7
	numbers := f.buyMany(orders, func(i int) string {
		if i == slow {
			return "slow"
		}
		return "ok"
	})
	f.listed(orders)
	answer := make(chan struct{})
	p := &provider{authorise: func(_ context.Context, r payments.AuthoriseRequest) (string, error) {
		if r.Token == "slow" {
			<-answer
		}
		return "ref", nil
	}}
	began := time.Now()
	f.run(p, func(o *payments.Options) { o.Interval, o.Lease = 0, 10*time.Minute })
	f.eventually(2*time.Minute, "all others are confirmed", func() bool { return f.events(confirmed) == orders-1 })
	rate := float64(orders-1) / time.Since(began).Seconds()
	t.Logf("%.0f orders/s", rate)
	if os.Getenv("MILLRACE_TEST_PROMISES") != "" && rate < promised {
		t.Errorf("%.0f orders/s were confirmed, want %d", rate, promised)
	}
	if s := f.order(numbers[slow]).Status; s != order.StatusPending {
		t.Errorf("the order whose payment is not known is %s", s)
	}
	close(answer)
	f.settled(10*time.Second, numbers[slow], order.StatusConfirmed, payment.StatusAuthorised)
	if got := p.called("authorise"); got != orders {
		t.Errorf("%d authorisations were asked for, want %d", got, orders)
	}
}

// Neither of two runners takes so much that the other has nothing to do, and nothing is done by both.
func TestTwoRunnersShareACrowd(t *testing.T) {
	t.Parallel()
	const orders, atATime = 200, 20
	f := setup(t, 10*time.Minute)
	f.buyMany(orders, always("ok"))
	f.listed(orders)
	var both sync.WaitGroup
	both.Add(2)
	providers := make([]*provider, 2)
	for i := range providers {
		asked := sync.OnceFunc(both.Done)
		providers[i] = &provider{authorise: func(context.Context, payments.AuthoriseRequest) (string, error) {
			asked()
			both.Wait() // nobody gets on alone
			return "ref", nil
		}}
		f.run(providers[i], func(o *payments.Options) {
			o.Concurrency, o.CallTimeout, o.Lease = atATime, 5*time.Minute, 10*time.Minute
		})
	}
	f.eventually(time.Minute, "all orders are confirmed", func() bool { return f.events(confirmed) == orders })
	first, second := providers[0].called("authorise"), providers[1].called("authorise")
	if first+second != orders {
		t.Errorf("%d and %d authorisations were asked for, want %d together", first, second, orders)
	}
	t.Logf("one has done %d, the other %d", first, second)
}

// What a runner had under way when it died is done by another when the leases end, and has its effect once.
func TestWhatTheDeadHadUnderWayIsDone(t *testing.T) {
	t.Parallel()
	const orders, atATime = 300, 64
	f := setup(t, 10*time.Minute)
	numbers := f.buyMany(orders, always("ok"))
	f.listed(orders)
	dead, full := make(chan struct{}), make(chan struct{})
	var mu sync.Mutex
	answered, stuck := 0, 0
	dying := &provider{authorise: func(context.Context, payments.AuthoriseRequest) (string, error) {
		mu.Lock()
		if answered < atATime/2 {
			answered++
			mu.Unlock()
			return "ref", nil
		}
		if stuck++; stuck == atATime {
			close(full)
		}
		mu.Unlock()
		<-dead // the money is kept, and nobody is told
		return "", errBroken
	}}
	run := func(p *provider) {
		f.run(p, func(o *payments.Options) { o.Concurrency, o.CallTimeout, o.Lease = atATime, time.Second, 3*time.Second })
	}
	run(dying)
	t.Cleanup(func() { close(dead) }) // before the runner is waited for
	<-full
	heir := &provider{}
	run(heir)
	f.eventually(time.Minute, "all orders are confirmed", func() bool { return f.events(confirmed) == orders })
	for _, n := range numbers {
		f.settled(time.Second, n, order.StatusConfirmed, payment.StatusAuthorised)
	}
	if n := f.events(authorised); n != orders {
		t.Errorf("%d payments are recorded, want %d", n, orders)
	}
	if got := heir.called("authorise"); got != orders-answered {
		t.Errorf("the other asked for %d authorisations, want the %d of which nothing was heard", got, orders-answered)
	}
}
