package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/graph"
	"github.com/millrace/millrace/internal/admission"
)

// admissionFlags bound what one api process has at work at a time.
type admissionFlags struct {
	RequestTimeout   time.Duration `default:"10s" env:"MILLRACE_REQUEST_TIMEOUT" help:"How long a query or a mutation may take, from when it has been read; what it asks of servers has to fit."`
	MaxConcurrency   int           `default:"256" env:"MILLRACE_MAX_CONCURRENCY" placeholder:"N" help:"Operations that may be at work at once, at most: the limit adapts below it."`
	MaxSubscriptions int           `default:"10000" env:"MILLRACE_MAX_SUBSCRIPTIONS" placeholder:"N" help:"Subscriptions that may run at once."`
	MaxConnections   int           `default:"10000" env:"MILLRACE_MAX_CONNECTIONS" placeholder:"N" help:"Connections that clients may have open at once."`
}

func (f admissionFlags) check() error {
	if f.RequestTimeout <= 0 {
		return usageError{fmt.Errorf("--request-timeout (MILLRACE_REQUEST_TIMEOUT) must be above zero, not %s", f.RequestTimeout)}
	}
	for _, s := range []struct {
		name  string
		value int
	}{
		{"--max-concurrency (MILLRACE_MAX_CONCURRENCY)", f.MaxConcurrency},
		{"--max-subscriptions (MILLRACE_MAX_SUBSCRIPTIONS)", f.MaxSubscriptions},
		{"--max-connections (MILLRACE_MAX_CONNECTIONS)", f.MaxConnections},
	} {
		if s.value < 1 {
			return usageError{fmt.Errorf("%s must be above zero, not %d", s.name, s.value)}
		}
	}
	return nil
}

const (
	// initialConcurrency is where the limit begins. It is far more than the processors can do at once, because mutations mostly wait for
	// the disk, together: the writer commits what it has in one batch.
	initialConcurrency = 64
	// leastConcurrency is what the limit does not go below: enough for the writer to have batches.
	leastConcurrency = 32
)

// Priorities of operations, indexes into priorities.
const (
	buying = iota
	changing
	browsing
	reporting
)

// priorities are what an api process does, the most urgent first. Who buys waits longest before being refused; who browses notices a wait,
// and tries again. Reads get no more than a part of the limit: more of them at once only make each other late, and a read model that hangs
// cannot keep anybody from buying.
var priorities = []admission.Class{
	buying:    {Name: "checkout", Share: 1, Queue: 128, Wait: time.Second},
	changing:  {Name: "cart", Share: 0.9, Queue: 128, Wait: time.Second},
	browsing:  {Name: "browse", Share: 0.25, Queue: 32, Wait: 100 * time.Millisecond},
	reporting: {Name: "report", Share: 0.1, Queue: 4, Wait: 100 * time.Millisecond},
}

// fieldPriorities are those of root fields. A mutation that is not here counts as changing, anything else as browsing.
var fieldPriorities = map[string]int{
	"checkout": buying, "orderCancel": buying,
	// What a buyer looks at on the way through the checkout.
	"cart": changing, "order": changing, "orderUpdated": changing,
	"salesReport": reporting, "orders": reporting, "events": reporting, "projections": reporting, "projectionProgress": reporting,
}

// priority returns how urgent an operation is: as its least urgent field, so that nobody gains by adding one.
func priority(op graph.Operation) int {
	least := buying
	for _, field := range op.Fields {
		p, ok := fieldPriorities[field]
		switch {
		case ok:
		case field == "__typename": // costs nothing
			continue
		case op.Kind == "mutation":
			p = changing
		default:
			p = browsing
		}
		least = max(least, p)
	}
	return least
}

// newLimiter returns the limiter of an api process.
func (f admissionFlags) newLimiter(s *shop) (*admission.Limiter, error) {
	return admission.New(admission.Options{
		Classes: priorities, Min: min(leastConcurrency, f.MaxConcurrency), Initial: min(initialConcurrency, f.MaxConcurrency), Max: f.MaxConcurrency,
		Metrics: s.registry,
	})
}

var (
	errBusy    = &graph.Error{Code: graph.Overloaded, Message: "There is more to do than this server takes on; nothing has happened, try again shortly.", RetryAfter: time.Second}
	errLogAway = &graph.Error{Code: graph.Unavailable, Message: "The shop cannot take orders for the moment; try again shortly.", RetryAfter: time.Second}
)

// admit refuses, before anything of it runs, what there is no room for, and mutations while the log cannot take them.
func admit(limiter *admission.Limiter, side *writeSide) func(context.Context, graph.Operation) (graph.Release, error) {
	return func(ctx context.Context, op graph.Operation) (graph.Release, error) {
		if op.Kind == "mutation" && side.refuses() {
			return nil, errLogAway
		}
		slot, err := limiter.Acquire(ctx, priority(op))
		switch {
		case errors.Is(err, admission.ErrOverloaded):
			return nil, errBusy
		case err != nil:
			return nil, err
		}
		return slot.Release, nil
	}
}

// refuse refuses what would have to be refused if it were understood.
func refuse(limiter *admission.Limiter, side *writeSide) func(graph.Operation) *graph.Error {
	return func(op graph.Operation) *graph.Error {
		switch {
		case op.Kind == "mutation" && side.refuses():
			return errLogAway
		case limiter.Refuse(priority(op)):
			return errBusy
		}
		return nil
	}
}
