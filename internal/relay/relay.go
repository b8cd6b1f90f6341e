package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/internal/es"
)

// Log is what the relay reads. It has to be the primary: a replica's head may lie behind JetStream, which would then
// look as if it were ahead of the log. Facts are not needed.
type Log interface {
	Head(ctx context.Context) (int64, error)
	ReadAll(ctx context.Context, after int64, limit int) ([]es.Event, error)
}

// Options are what a relay is made of. Log, Info and NATS are needed.
type Options struct {
	// Log is what is copied.
	Log Log
	// Info names the log and its epoch.
	Info es.Log
	// Epoch reads the log's present epoch from Postgres, so that a relay from before a failover or a restore ends
	// instead of taking the new copy for a foreign one; nil means that the epoch is not watched.
	Epoch func(ctx context.Context) (int, error)
	// NATS is a connection that reconnects for ever.
	NATS *nats.Conn
	// Window is the number of events that JetStream keeps; 0 means all.
	Window int64
	// Replicas is the number of NATS servers that keep the stream; 0 means 1.
	Replicas int
	// Logger gets what an operator should know; nil means slog.Default().
	Logger *slog.Logger
	// Metrics is where the relay's metrics are registered; nil means nowhere.
	Metrics prometheus.Registerer
}

// Relay copies one log. Its methods may be called by many goroutines at once.
type Relay struct {
	Options
	js      jetstream.JetStream
	logger  *slog.Logger
	metrics metrics
	offers  offers
	wake    chan struct{}

	// For Run alone.
	last  int64       // the position up to which JetStream is known to hold the log
	busy  time.Time   // when the last run was acknowledged
	aside []time.Time // when the last streams were set aside
}

// New returns a relay that does nothing until it runs.
func New(o Options) *Relay {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Relay{
		Options: o,
		logger:  o.Logger.With("part", "relay"),
		metrics: newMetrics(o.Metrics),
		wake:    make(chan struct{}, 1),
	}
}

// pokeSubject is where writers say that there is something behind a position. It lies outside the log's subjects.
const pokeSubject = "millrace-poke"

// Poke tells the relays of other processes that events up to a position have been committed. It is a hint that saves
// them the time until they look by themselves, so it says nothing about failure. While NATS takes nothing it may wait; see [Poker].
func Poke(nc *nats.Conn, position int64) {
	if nc.IsConnected() {
		_ = nc.Publish(pokeSubject, strconv.AppendInt(nil, position, 10))
	}
}

// Poker pokes on behalf of those who must not wait for NATS.
type Poker struct {
	nats *nats.Conn
	last atomic.Int64
	wake chan struct{}
}

// NewPoker returns a poker that does nothing until it runs.
func NewPoker(nc *nats.Conn) *Poker { return &Poker{nats: nc, wake: make(chan struct{}, 1)} }

// Poke is [Poke], later. It never waits. Positions come in the order of the log: of those that wait the last is told.
func (p *Poker) Poke(position int64) {
	p.last.Store(position)
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Run pokes until ctx ends, and returns nil.
func (p *Poker) Run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
			Poke(p.nats, p.last.Load())
		}
	}
}

// Offer hands over events that have just been committed, in order, so that the relay need not read them. It never
// waits; what it has no room for the relay reads from the log. The events are shared and must not be changed.
func (r *Relay) Offer(events []es.Event) {
	if len(events) == 0 {
		return
	}
	r.offers.add(events)
	r.rouse()
}

func (r *Relay) rouse() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// ErrEpochChanged says that the log has entered another epoch than the one that the process started with. The process
// has to start again.
var ErrEpochChanged = errors.New("relay: the log has entered another epoch since this process started, which has to be started again")

// Run copies the log until ctx ends, and then returns nil. While Postgres or NATS is away it waits for them. It
// returns [ErrEpochChanged] when the process must not go on. It is called once.
func (r *Relay) Run(ctx context.Context) (err error) {
	if r.js, err = jetstream.New(r.NATS); err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	sub, err := r.NATS.Subscribe(pokeSubject, r.poked)
	if err != nil {
		return fmt.Errorf("relay: subscribing to pokes: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only where the connection is gone, and the subscription with it
	return r.copy(ctx)
}

func (r *Relay) poked(m *nats.Msg) {
	if position, err := strconv.ParseInt(string(m.Data), 10, 64); err == nil && r.offers.hear(position) {
		r.rouse()
	}
}

// copy goes through sittings until ctx ends, waiting longer after each that got nowhere.
func (r *Relay) copy(ctx context.Context) error {
	status := r.NATS.StatusChanged()
	defer r.NATS.RemoveStatusListener(status)
	retry := backoff{}
	for ctx.Err() == nil {
		progress, err := r.sitting(ctx, status, retry.failures > 0)
		if progress {
			retry.reset()
		}
		if err == nil || errors.Is(err, errAgain) && progress {
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ErrEpochChanged) {
			return err
		}
		if r.NATS.IsClosed() {
			return fmt.Errorf("relay: the connection to NATS was closed: %w", err)
		}
		r.report()
		limit := longestWait
		if errors.Is(err, errAgain) {
			limit = rivalWait
		} else if retry.first() {
			r.logger.Warn("the copy in JetStream does not get on; trying again", "error", err)
		}
		if retry.wait(ctx, limit, status) != nil {
			return nil
		}
	}
	return nil
}

const (
	// longestWait is the longest pause between two attempts.
	longestWait = 2 * time.Second
	// rivalWait is the longest pause where a rival was faster: it gets on in the meantime, and is not missed for
	// long should it die.
	rivalWait = 50 * time.Millisecond
)

// report sets the metrics of how far the copy has come.
func (r *Relay) report() {
	r.metrics.position.Set(float64(r.last))
	r.metrics.lag.Set(float64(max(r.offers.reach()-r.last, 0)))
}

// backoff waits longer after each failure in a row.
type backoff struct{ failures int }

func (b *backoff) first() bool { return b.failures == 0 }

func (b *backoff) reset() { b.failures = 0 }

// wait pauses, until NATS is there again or ctx ends, whose error it returns.
func (b *backoff) wait(ctx context.Context, limit time.Duration, status <-chan nats.Status) error {
	const initial = 20 * time.Millisecond
	timer := time.NewTimer(min(initial<<min(b.failures, 10), limit))
	defer timer.Stop()
	b.failures++
	for {
		select {
		case s := <-status:
			if s != nats.CONNECTED {
				continue
			}
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		return nil
	}
}

// offers is what writers have said about the log and the relay has not looked at yet.
type offers struct {
	mu     sync.Mutex
	events []es.Event
	heard  int64 // the log is said to reach to here
}

// maxOffered bounds the events that wait in memory.
const maxOffered = 8192

func (o *offers) add(events []es.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.heard = max(o.heard, events[len(events)-1].Position)
	if n := len(o.events); n > 0 && (events[0].Position != o.events[n-1].Position+1 || n+len(events) > maxOffered) {
		o.events = nil // what is missing now is read from the log
	}
	if len(events) <= maxOffered {
		o.events = append(o.events, events...)
	}
}

// hear notes that the log reaches to a position, and reports whether that is news.
func (o *offers) hear(position int64) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if position <= o.heard {
		return false
	}
	o.heard = position
	return true
}

// reach returns how far the log is said to reach.
func (o *offers) reach() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.heard
}

// take returns the events offered that follow a position directly, up to limit, and how far the log is said to reach.
func (o *offers) take(after int64, limit int) (run []es.Event, heard int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.events) > 0 && o.events[0].Position <= after {
		o.events = o.events[1:]
	}
	if len(o.events) > 0 && o.events[0].Position == after+1 {
		n := min(limit, len(o.events))
		run, o.events = o.events[:n:n], o.events[n:]
	}
	if len(o.events) == 0 {
		o.events = nil
	}
	return run, o.heard
}
