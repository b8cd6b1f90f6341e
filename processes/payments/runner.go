package payments

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// Models reads the lists; see projector.Models.
type Models interface {
	Query(ctx context.Context, need projector.Need, sql string, args []any, read func(pgx.Rows) error) error
}

// Feed tells of what is appended to the log; see feed.Feed.
type Feed interface {
	Head() int64
	After(ctx context.Context, after int64, limit int) ([]es.Event, error)
}

// Options are the parts and limits of a Runner.
type Options struct {
	Commands *commands.App
	Models   Models
	Feed     Feed
	Pool     *pgxpool.Pool // the primary's
	Provider Provider
	// Interval is the least pause between looks for new orders, and with it how many of them share a look; 0 means 50 ms.
	Interval time.Duration
	// Concurrency bounds the first authorisations under way; 0 means 256. Half as many each are allowed beside them of deadlines, of captures,
	// voids and refunds, and of what is tried again. It bounds what the provider is asked at a time, and also how much of a commit the
	// payments may be that others share.
	Concurrency int
	// CallTimeout bounds one call to the provider; 0 means 5 s.
	CallTimeout time.Duration
	// Lease is how long a claimed task is left alone; 0 means 20 s. It must be longer than CallTimeout by far.
	Lease time.Duration
	// Grace is how long after its cancellation an order is voided whose payment nothing has been heard of; 0 means 30 s.
	Grace time.Duration
	// Backoff is the first pause after a failure; it doubles up to MaxBackoff. 0 means 500 ms, and 1 min.
	Backoff, MaxBackoff time.Duration
	// MaxAttempts is after how many failures a task is parked, but for those that go on for as long as it takes; 0 means 20.
	MaxAttempts int
	// Logger is nil for slog.Default.
	Logger *slog.Logger
	// Metrics is nil for none.
	Metrics *Metrics
}

// usualConcurrency is what processes run with.
const usualConcurrency = 256

// Runner does what is to be done about payments. Any number of processes may run one.
type Runner struct {
	o       Options
	breaker circuitbreaker.CircuitBreaker[any]
	began   time.Time // of the clock
	watches []*watch

	tasks sync.WaitGroup
	mu    sync.Mutex
	room  [lanes]int
}

// watch is one list being looked at.
type watch struct {
	*list
	wake chan struct{}
	sign atomic.Int64 // when something was last heard or found: nanoseconds of the runner's clock
}

// New returns a runner, or an error that says which option cannot be used.
func New(o Options) (*Runner, error) {
	if o.Commands == nil || o.Models == nil || o.Feed == nil || o.Pool == nil || o.Provider == nil {
		return nil, errors.New("payments: commands, models, a feed, a pool and a provider are needed")
	}
	o.Interval = orDefault(o.Interval, 50*time.Millisecond)
	o.Concurrency = orDefault(o.Concurrency, usualConcurrency)
	o.CallTimeout = orDefault(o.CallTimeout, 5*time.Second)
	o.Lease = orDefault(o.Lease, 20*time.Second)
	o.Grace = orDefault(o.Grace, 30*time.Second)
	o.Backoff = orDefault(o.Backoff, 500*time.Millisecond)
	o.MaxBackoff = orDefault(o.MaxBackoff, time.Minute)
	o.MaxAttempts = orDefault(o.MaxAttempts, 20)
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Lease < 2*o.CallTimeout {
		return nil, fmt.Errorf("payments: a lease of %s is too short for calls of %s", o.Lease, o.CallTimeout)
	}
	r := &Runner{o: o, began: time.Now()}
	for i := range lists {
		r.watches = append(r.watches, &watch{list: &lists[i], wake: make(chan struct{}, 1)})
	}
	for l := range lanes {
		r.room[l] = r.capacity(l)
	}
	const ( // open when nine of ten calls fail, and at least 50 in ten seconds
		rate, least, period = 0.9, 50, 10 * time.Second
		pause, well, tries  = 2 * time.Second, 3, 5
	)
	r.breaker = circuitbreaker.NewBuilder[any]().
		WithFailureRateThreshold(rate, least, period).WithDelay(pause).WithSuccessThresholdRatio(well, tries).
		OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
			o.Metrics.setBreaker(e.NewState)
			o.Logger.Warn("the circuit breaker before the payment provider changed", "from", e.OldState.String(), "to", e.NewState.String())
		}).Build()
	return r, nil
}

func orDefault[T time.Duration | int](v, usual T) T {
	if v == 0 {
		return usual
	}
	return v
}

// capacity is how many tasks of a lane may be under way.
func (r *Runner) capacity(l lane) int {
	if l == fresh {
		return r.o.Concurrency
	}
	return max(1, r.o.Concurrency/2)
}

// wakeRetries has the runner look for what is to be tried again.
func (r *Runner) wakeRetries() {
	for _, w := range r.watches {
		if slices.Contains(w.lanes, retried) {
			w.signal()
		}
	}
}

func (w *watch) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, finishes what is under way, and returns nil. Servers that are away are waited for.
func (r *Runner) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	for _, w := range r.watches {
		watching.Go(func() { r.watch(ctx, w) })
	}
	watching.Go(func() { r.listen(ctx) })
	watching.Go(func() { r.keepTidy(ctx) })
	watching.Wait()
	r.tasks.Wait()
	return nil
}

// listen wakes the watches by what is appended to the log. What was appended before is found by their first looks.
func (r *Runner) listen(ctx context.Context) {
	const limit = 512
	position := r.o.Feed.Head()
	for {
		events, err := r.o.Feed.After(ctx, position, limit)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			r.o.Logger.Error("payments hear nothing of new orders, and look for them now and then", "error", err)
			return
		}
		position = events[len(events)-1].Position
		for _, w := range r.watches {
			if slices.ContainsFunc(events, func(e es.Event) bool { return slices.Contains(w.heard, e.Type) }) {
				r.notice(w)
				w.signal()
			}
		}
	}
}

// notice notes a sign of life in a list.
func (r *Runner) notice(w *watch) { w.sign.Store(int64(time.Since(r.began))) }

// watch looks at one list until ctx ends: at once when something is heard that may show there, again and again for a while,
// because the list comes later than the event, and ever less often the longer nothing is heard and nothing found.
func (r *Runner) watch(ctx context.Context, w *watch) {
	failing := false
	for {
		began := time.Now()
		found, err := r.look(ctx, w)
		rest := max(time.Duration(w.every)*r.o.Interval, time.Duration(w.rest)*time.Since(began))
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			rest = max(rest, time.Second)
			if level := slog.LevelError; !failing {
				if errors.Is(err, projector.ErrStale) {
					level = slog.LevelInfo // the lists are being built, or behind
				}
				r.o.Logger.Log(ctx, level, "payments stand still", "list", w.name, "error", err)
			}
			failing = true
		case failing:
			failing = false
			r.o.Logger.Info("payments go on", "list", w.name)
		}
		if found > 0 {
			r.notice(w)
		}
		rest = min(rest, w.idle)
		if !pause(ctx, rest, nil) {
			return
		}
		quiet := time.Since(r.began) - time.Duration(w.sign.Load())
		if !pause(ctx, min(quiet/2, w.idle)-rest, w.wake) {
			return
		}
	}
}

// pause waits for a time or to be woken, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration, wake <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-wake:
	}
	return true
}

// keepTidy drops what is recorded of old tasks now and then, until ctx ends.
func (r *Runner) keepTidy(ctx context.Context) {
	const every, again = 5 * time.Minute, time.Second
	for {
		rest := every
		if err := r.tidy(ctx); err != nil {
			rest = again // the watches tell what is wrong
		}
		if !pause(ctx, rest, nil) {
			return
		}
	}
}

// look starts what a list says is due, as far as there is room, and returns how much it has found.
func (r *Runner) look(ctx context.Context, w *watch) (int, error) {
	var room [lanes]int
	calling := !r.breaker.IsOpen() || r.breaker.RemainingDelay() <= 0
	r.mu.Lock()
	for _, l := range w.lanes {
		if calling || l == unaided {
			room[l] = r.room[l]
		}
	}
	r.mu.Unlock()
	if room == ([lanes]int{}) {
		return 0, nil
	}
	found, err := r.find(ctx, w.list, room)
	if err != nil || len(found) == 0 {
		return 0, err
	}
	claimed, err := r.claim(ctx, found)
	if err != nil {
		return 0, err
	}
	if len(claimed) > 0 {
		r.occupy(claimed, -1)
		// What is under way is finished after a request to stop: the provider may have done its part already.
		r.tasks.Go(func() { r.tryAll(context.WithoutCancel(ctx), claimed) })
	}
	return len(found), nil
}

// occupy changes the room of the tasks' lanes by n for each.
func (r *Runner) occupy(tasks []task, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range tasks {
		r.room[t.lane] += n
	}
}

// errBreakerOpen says that the provider was not asked.
var errBreakerOpen = errors.New("the payment provider is not called for a while, because most calls failed")

// tryAll tries tasks that were claimed together. What they are decided on is read together; then none waits for another.
func (r *Runner) tryAll(ctx context.Context, tasks []task) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.o.Lease-r.o.Lease/10)
	defer cancel()
	ctx = es.WithMetadata(ctx, es.Metadata{Actor: process})
	facts := r.read(ctx, tasks)
	var trying sync.WaitGroup
	for i, t := range tasks {
		trying.Go(func() {
			defer r.occupy(tasks[i:i+1], 1)
			r.try(ctx, t, facts[i], began)
		})
	}
	trying.Wait()
}

// try does a task, and has it tried again if it failed.
func (r *Runner) try(ctx context.Context, t task, k known, began time.Time) {
	err := r.do(ctx, t, k)
	if err == nil {
		r.o.Metrics.observe(t.step, "done", time.Since(began))
		return
	}
	parked := r.givesUp(t, err)
	attempts, after := t.attempt, r.pause(t.attempt)
	switch {
	case errors.Is(err, errBreakerOpen), errors.Is(err, commands.ErrNotDue), errors.Is(err, es.ErrUnavailable):
		// Not the task's fault: it does not count.
		attempts, parked, after = t.attempt-1, false, max(r.o.Backoff, r.breaker.RemainingDelay())
	case parked:
		r.o.Metrics.observe(t.step, "parked", time.Since(began))
		r.o.Metrics.addParked()
		r.o.Logger.Error("a payment task is given up on until an operator retries it", "task", t.name, "attempts", t.attempt, "error", err)
	default:
		r.o.Metrics.observe(t.step, "failed", time.Since(began))
		r.o.Logger.Info("a payment task failed and will be tried again", "task", t.name, "attempt", t.attempt, "after", after, "error", err)
	}
	if err := r.postpone(ctx, t, after, parked, attempts, clip(err.Error())); err != nil {
		r.o.Logger.Warn("a failed payment task is left to the end of its lease", "task", t.name, "error", err)
	} else if !parked {
		time.AfterFunc(after, r.wakeRetries)
	}
}

// givesUp reports whether a task waits for an operator after a failure. What the provider refuses it would refuse again. Who has heard no answer
// knows nothing, and the money is still owed: that is asked for as long as it takes, but for authorisations, which have a deadline.
func (r *Runner) givesUp(t task, err error) bool {
	if _, refused := declined(err); refused {
		return true
	}
	unanswered := errors.Is(err, errUnanswered) || errors.Is(err, es.ErrOutcomeUnknown)
	if unanswered && t.step != Authorise {
		return false
	}
	return t.attempt >= r.o.MaxAttempts
}

// pause returns how long to wait after so many failures: doubling, and spread so that those that failed together do not
// come back together.
func (r *Runner) pause(failures int) time.Duration {
	const most = 16 // doublings; more do not fit
	pause := min(r.o.Backoff<<min(failures-1, most), r.o.MaxBackoff)
	return pause/2 + rand.N(pause/2+1)
}

// clip keeps what others say short enough for a table.
func clip(s string) string {
	const most = 500
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}
