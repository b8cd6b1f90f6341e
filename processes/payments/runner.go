package payments

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// Models reads the lists; see projector.Models. It must ask the primary, not a replica.
type Models interface {
	Query(ctx context.Context, need projector.Need, read func(context.Context, *projector.Snapshot) error) error
}

// Options are the parts and limits of a Runner.
type Options struct {
	Commands *commands.App
	// Reader reads the log that Commands appends to.
	Reader   es.Reader
	Models   Models
	Pool     *pgxpool.Pool // the primary's
	Provider Provider
	// Interval is the pause between looks at the lists; 0 means 100 ms. Looks that take long are made less often.
	Interval time.Duration
	// Concurrency bounds the tasks under way; 0 means 64. Half of it is left to retries, half to deadlines.
	Concurrency int
	// CallTimeout bounds one call to the provider; 0 means 5 s.
	CallTimeout time.Duration
	// Lease is how long a claimed task is left alone; 0 means 20 s. It must be longer than CallTimeout by far.
	Lease time.Duration
	// Grace is how long after its cancellation an order is voided whose payment nothing has been heard of; 0 means 30 s.
	Grace time.Duration
	// Backoff is the first pause after a failure; it doubles up to MaxBackoff. 0 means 500 ms, and 1 min.
	Backoff, MaxBackoff time.Duration
	// MaxAttempts is after how many failures a task is parked; 0 means 20.
	MaxAttempts int
	// Logger is nil for slog.Default.
	Logger *slog.Logger
	// Metrics is nil for none.
	Metrics *Metrics
}

// Runner does what is to be done about payments. Any number of processes may run one.
type Runner struct {
	o       Options
	breaker circuitbreaker.CircuitBreaker[any]
	wake    chan struct{}

	tasks  sync.WaitGroup
	mu     sync.Mutex
	room   [lanes]int
	hungry bool // the last look found more fresh tasks than there was room for
}

// New returns a runner, or an error that says which option cannot be used.
func New(o Options) (*Runner, error) {
	if o.Commands == nil || o.Reader == nil || o.Models == nil || o.Pool == nil || o.Provider == nil {
		return nil, errors.New("payments: commands, a reader, models, a pool and a provider are needed")
	}
	o.Interval = orDefault(o.Interval, 100*time.Millisecond)
	o.Concurrency = orDefault(o.Concurrency, 64)
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
	r := &Runner{o: o, wake: make(chan struct{}, 1)}
	r.room = [lanes]int{unaided: max(1, o.Concurrency/2), fresh: o.Concurrency, retried: max(1, o.Concurrency/2)}
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

// Wake has the runner look at the lists at once. It does not block.
func (r *Runner) Wake() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// The unhurried list is looked at every so many looks at the urgent one; looks take at most a share of the time.
const (
	unhurriedEvery = 5
	restPerWork    = 10
	tidyEvery      = 5 * time.Minute
)

// Run works until ctx ends, finishes what is under way, and returns nil. Servers that are away are waited for.
func (r *Runner) Run(ctx context.Context) error {
	defer r.tasks.Wait()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var tidied time.Time
	failing := false
	for look := 0; ; look++ {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-r.wake:
		}
		began := time.Now()
		err := r.look(ctx, urgentQuery)
		if look%unhurriedEvery == 0 {
			err = errors.Join(err, r.look(ctx, unhurriedQuery))
		}
		if time.Since(tidied) > tidyEvery && err == nil {
			tidied = began
			err = r.tidy(ctx)
		}
		pause := max(r.o.Interval, restPerWork*time.Since(began))
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			pause = max(pause, time.Second)
			if level := slog.LevelError; !failing {
				if errors.Is(err, projector.ErrStale) {
					level = slog.LevelInfo // the lists are being built, or behind
				}
				r.o.Logger.Log(ctx, level, "payments stand still", "error", err)
			}
			failing = true
		case failing:
			failing = false
			r.o.Logger.Info("payments go on")
		}
		timer.Reset(min(pause, 10*time.Second))
	}
}

// look starts what a list says is due, as far as there is room.
func (r *Runner) look(ctx context.Context, query string) error {
	r.mu.Lock()
	room := r.room
	r.mu.Unlock()
	if r.breaker.IsOpen() && r.breaker.RemainingDelay() > 0 {
		room[fresh], room[retried] = 0, 0
	}
	// A task may come back as a fresh one, into a lane without room for it.
	for i := range room {
		room[i] = max(0, room[i])
	}
	if room == ([lanes]int{}) {
		return nil
	}
	found, err := r.find(ctx, query, room)
	if err != nil || len(found) == 0 {
		return err
	}
	claimed, err := r.claim(ctx, found)
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.hungry = query == urgentQuery && len(claimed) >= room[fresh]
	r.mu.Unlock()
	for _, t := range claimed {
		in := t.lane()
		r.mu.Lock()
		r.room[in]--
		r.mu.Unlock()
		r.tasks.Go(func() {
			// What is under way is finished after a request to stop: the provider may have done its part already.
			r.try(context.WithoutCancel(ctx), t)
			r.mu.Lock()
			r.room[in]++
			again := r.hungry && r.room[fresh] >= r.o.Concurrency/2
			r.hungry = r.hungry && !again
			r.mu.Unlock()
			if again {
				r.Wake()
			}
		})
	}
	return nil
}

func (t task) lane() lane {
	switch {
	case t.step == Expire:
		return unaided
	case t.attempt == 1:
		return fresh
	default:
		return retried
	}
}

// errBreakerOpen says that the provider was not asked.
var errBreakerOpen = errors.New("the payment provider is not called for a while, because most calls failed")

// try does a task, and has it tried again if it failed.
func (r *Runner) try(ctx context.Context, t task) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, r.o.Lease-r.o.Lease/10)
	defer cancel()
	ctx = es.WithMetadata(ctx, es.Metadata{Actor: process})
	err := r.do(ctx, t)
	if err == nil {
		r.o.Metrics.observe(t.step, "done", time.Since(began))
		return
	}
	parked := t.attempt >= r.o.MaxAttempts
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
	}
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
