// Package breaker keeps callers from a server that does not answer: after some failures in a row nobody asks it for a while, and then
// one caller at a time, until it answers again.
package breaker

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

const (
	// Failures in a row open a breaker that is told nothing else.
	Failures = 3
	// Pause is how long such a breaker stays open before it lets a caller try.
	Pause = time.Second
)

// Options describe a breaker. Name is needed.
type Options struct {
	// Name is what operators know the calls by, in logs and as the label "breaker" of metrics: one breaker of a process has it.
	Name string
	// Failures is how many in a row open it; 0 means [Failures].
	Failures uint
	// Pause is how long nobody asks then; 0 means [Pause].
	Pause time.Duration
	// Logger is nil for slog.Default.
	Logger *slog.Logger
	// Metrics registers the breaker's metrics; nil keeps them out of sight.
	Metrics prometheus.Registerer
}

// Breaker is a circuit breaker. Each call that [Breaker.Allow] lets through ends with [Breaker.Succeeded], [Breaker.Failed] or
// [Breaker.Abandoned].
type Breaker struct {
	circuit circuitbreaker.CircuitBreaker[any]
	name    string
	refused prometheus.Counter
}

// New returns a breaker that lets calls through.
func New(o Options) *Breaker {
	logger := cmp.Or(o.Logger, slog.Default())
	m := NewMetrics(o.Metrics, o.Name)
	return &Breaker{
		name: o.Name, refused: m.refused,
		circuit: circuitbreaker.NewBuilder[any]().WithFailureThreshold(cmp.Or(o.Failures, Failures)).WithSuccessThreshold(1).WithDelay(cmp.Or(o.Pause, Pause)).
			OnStateChanged(func(e circuitbreaker.StateChangedEvent) {
				m.Changed(e.NewState)
				level := slog.LevelDebug // an attempt, and its failure
				switch {
				case e.OldState == circuitbreaker.ClosedState:
					level = slog.LevelWarn
				case e.NewState == circuitbreaker.ClosedState:
					level = slog.LevelInfo
				}
				logger.Log(e.Context(), level, "a circuit breaker changed", "breaker", o.Name, "from", e.OldState.String(), "to", e.NewState.String())
			}).Build(),
	}
}

// Name is what operators know the calls by.
func (b *Breaker) Name() string { return b.name }

// Allow reports whether a call may be made now.
func (b *Breaker) Allow() bool {
	if b.circuit.TryAcquirePermit() {
		return true
	}
	b.refused.Inc()
	return false
}

// LeftAlone returns the breaker's name, for a list of what is not asked at present, and nothing while all calls are let through.
func (b *Breaker) LeftAlone() []string {
	if b.Closed() {
		return nil
	}
	return []string{b.name}
}

// Closed reports whether all calls are let through.
func (b *Breaker) Closed() bool { return b.circuit.IsClosed() }

// Waits reports whether [Breaker.Allow] would refuse a call for the pause after a failure. It lets nobody through and counts nothing.
func (b *Breaker) Waits() bool { return b.circuit.IsOpen() && b.circuit.RemainingDelay() > 0 }

// Refuse counts a call that is not made for another reason than the breaker's: whoever would have made it knows that there is no answer.
func (b *Breaker) Refuse() { b.refused.Inc() }

// Succeeded tells that a call was answered, with whatever.
func (b *Breaker) Succeeded() { b.circuit.RecordSuccess() }

// Failed tells that a call was not answered.
func (b *Breaker) Failed() { b.circuit.RecordFailure() }

// Abandoned tells that nobody waited for the answer. That says nothing about the server, but one that was being tried has to be tried
// again.
func (b *Breaker) Abandoned() {
	if !b.circuit.IsClosed() {
		b.circuit.RecordFailure()
	}
}

// Metrics are the figures of one breaker.
type Metrics struct {
	state   prometheus.Gauge
	refused prometheus.Counter
}

// NewMetrics registers the figures of a breaker under its name; a nil registerer keeps them out of sight.
func NewMetrics(r prometheus.Registerer, name string) *Metrics {
	with, label := promauto.With(r), prometheus.Labels{"breaker": name}
	return &Metrics{
		state: with.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_breaker_state", ConstLabels: label,
			Help: "Circuit breaker before a server: 0 closed, all calls are made; 1 half-open, one at a time is tried; 2 open, none is made.",
		}),
		refused: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_breaker_refused_total", ConstLabels: label, Help: "Calls that were not made because a server does not answer.",
		}),
	}
}

// Changed tells the state that a breaker has now.
func (m *Metrics) Changed(to circuitbreaker.State) {
	switch to {
	case circuitbreaker.ClosedState:
		m.state.Set(0)
	case circuitbreaker.HalfOpenState:
		m.state.Set(1)
	default:
		m.state.Set(2)
	}
}

// Refused counts a call that was not made.
func (m *Metrics) Refused() { m.refused.Inc() }
