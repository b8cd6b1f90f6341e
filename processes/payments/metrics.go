package payments

import (
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/internal/breaker"
)

// Metrics are the figures of the process. A nil *Metrics counts nothing.
type Metrics struct {
	tasks   *prometheus.HistogramVec
	parked  prometheus.Gauge
	breaker prometheus.Gauge
	calls   *breaker.Metrics
}

// NewMetrics registers the figures.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		tasks: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_payment_task_seconds", Help: "Time that attempts at payment tasks took.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 13),
		}, []string{"step", "result"}),
		parked: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_payment_tasks_parked", Help: "Payment tasks that were given up on and wait for an operator.",
		}),
		breaker: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_payment_breaker_open", Help: "1 while the payment provider is not called, because most calls failed.",
		}),
		calls: breaker.NewMetrics(r, "payment provider"),
	}
	r.MustRegister(m.tasks, m.parked, m.breaker)
	return m
}

func (m *Metrics) observe(step Step, result string, took time.Duration) {
	if m != nil {
		m.tasks.WithLabelValues(string(step), result).Observe(took.Seconds())
	}
}

func (m *Metrics) setParked(n int) {
	if m != nil {
		m.parked.Set(float64(n))
	}
}

func (m *Metrics) addParked() {
	if m != nil {
		m.parked.Inc()
	}
}

func (m *Metrics) setBreaker(s circuitbreaker.State) {
	if m == nil {
		return
	}
	m.calls.Changed(s)
	if s == circuitbreaker.OpenState {
		m.breaker.Set(1)
	} else {
		m.breaker.Set(0)
	}
}

// refused counts a call that was not made.
func (m *Metrics) refused() {
	if m != nil {
		m.calls.Refused()
	}
}
