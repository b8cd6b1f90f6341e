package main

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

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
	return errors.Join(
		aboveZero("--request-timeout (MILLRACE_REQUEST_TIMEOUT)", f.RequestTimeout),
		aboveZero("--max-concurrency (MILLRACE_MAX_CONCURRENCY)", f.MaxConcurrency),
		aboveZero("--max-subscriptions (MILLRACE_MAX_SUBSCRIPTIONS)", f.MaxSubscriptions),
		aboveZero("--max-connections (MILLRACE_MAX_CONNECTIONS)", f.MaxConnections),
	)
}

// Priorities of operations, indexes into priorities.
const (
	buying = iota
	changing
	browsing
	reporting
)

// priorities are what an api process does, the most urgent first. Who buys waits longest before being refused, and is let in however late the process
// is; who browses notices a wait, and tries again.
var priorities = []admission.Class{
	buying:    {Name: "checkout", Share: 1, Queue: 128, Wait: time.Second, Patience: 250 * time.Millisecond},
	changing:  {Name: "cart", Share: 0.9, Queue: 128, Wait: time.Second, Patience: 5 * standingWait},
	browsing:  {Name: "browse", Share: 1, Queue: 128, Wait: 250 * time.Millisecond, Patience: standingWait, Strain: strained},
	reporting: {Name: "report", Share: 0.4, Queue: 4, Wait: 100 * time.Millisecond, Patience: standingWait, Strain: strained},
}

const (
	// standingWait is how long work waits to be let in while some is refused: little more than it takes.
	standingWait = 20 * time.Millisecond
	// strained is how late a process is that does not let in more of what can wait. A request has to wait for an answer from elsewhere some five times.
	strained = 3 * time.Millisecond
)

// limiters are those of an api process. Who buys and who looks have limits of their own, because they load the process differently: commands mostly
// wait for the disk, together, and want to be many so that the writer has batches; reads keep processors busy, so that more than a few of them make each
// other late and everybody else with them. And a read model that hangs cannot keep anybody from buying.
type limiters struct{ buying, looking *admission.Limiter }

const (
	// initialBuying is where the limit of those who buy begins, and leastBuying what it does not go below.
	initialBuying, leastBuying = 64, 32
	// initialLooking and leastLooking are the same for those who look.
	initialLooking, leastLooking = 16, 4
	// lookingPart is the part of the most concurrency that those who look may have.
	lookingPart = 4
)

func (f admissionFlags) newLimiters(s *shop) (l *limiters, err error) {
	looking := max(1, f.MaxConcurrency/lookingPart)
	strain, err := admission.NewStrain(s.registry)
	if err != nil {
		return nil, err
	}
	s.start(strain.Run)
	l = &limiters{}
	if l.buying, err = newLimiter(s, strain.Now, "buying", priorities[:browsing], leastBuying, initialBuying, max(1, f.MaxConcurrency-looking)); err != nil {
		return nil, err
	}
	l.looking, err = newLimiter(s, strain.Now, "looking", priorities[browsing:], leastLooking, initialLooking, looking)
	return l, err
}

func newLimiter(s *shop, strain func() time.Duration, work string, classes []admission.Class, least, initial, most int) (*admission.Limiter, error) {
	return admission.New(admission.Options{
		Classes: classes, Min: min(least, most), Initial: min(initial, most), Max: most,
		Strain: strain, Metrics: prometheus.WrapRegistererWith(prometheus.Labels{"work": work}, s.registry),
	})
}

// place returns where an operation is let in, and as what.
func (l *limiters) place(op graph.Operation) (limiter *admission.Limiter, class int) {
	p := priority(op)
	if p >= browsing {
		return l.looking, p - browsing
	}
	return l.buying, p
}

// crowded reports whether any operations have been refused within the last second.
func (l *limiters) crowded() bool { return l.looking.Crowded() || l.buying.Crowded() }

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

var (
	errBusy    = &graph.Error{Code: graph.Overloaded, Message: "There is more to do than this server takes on; nothing has happened, try again shortly.", RetryAfter: time.Second}
	errLogAway = &graph.Error{Code: graph.Unavailable, Message: "The shop cannot take orders for the moment; try again shortly.", RetryAfter: time.Second}
)

// admit refuses, before anything of it runs, what there is no room for, and mutations while the log cannot take them.
func admit(limiters *limiters, side *writeSide) func(context.Context, graph.Operation) (graph.Release, error) {
	return func(ctx context.Context, op graph.Operation) (graph.Release, error) {
		if op.Kind == "mutation" && side.refuses() {
			return nil, errLogAway
		}
		limiter, class := limiters.place(op)
		slot, err := limiter.Acquire(ctx, class)
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
func refuse(limiters *limiters, side *writeSide) func(graph.Operation) *graph.Error {
	return func(op graph.Operation) *graph.Error {
		if op.Kind == "mutation" && side.refuses() {
			return errLogAway
		}
		if limiter, class := limiters.place(op); limiter.Refuse(class) {
			return errBusy
		}
		return nil
	}
}
