package admission

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics tell how full the process is, and whom it refuses.
type metrics struct {
	refused *prometheus.CounterVec
	waited  *prometheus.HistogramVec
}

func newMetrics(l *Limiter, r prometheus.Registerer) metrics {
	with := promauto.With(r)
	with.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_admission_limit", Help: "How many operations may be at work at once.",
	}, func() float64 { return float64(l.adaptive.Limit()) })
	for _, c := range l.classes {
		of := prometheus.Labels{"priority": c.Name}
		with.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "millrace_admission_in_flight", Help: "Operations at work.", ConstLabels: of,
		}, func() float64 { return l.look(func() int { return c.held }) })
		with.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "millrace_admission_queued", Help: "Operations that wait to be let in.", ConstLabels: of,
		}, func() float64 { return l.look(c.waiting.Len) })
	}
	m := metrics{
		refused: with.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_admission_refused_total", Help: "Operations refused because there was too much to do: the queue was full, or they had waited in vain.",
		}, []string{"priority", "reason"}),
		waited: with.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_admission_wait_seconds", Help: "How long operations that had to wait did so, those that were refused then too.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1},
		}, []string{"priority"}),
	}
	for _, c := range l.classes { // so that nobody has to guess whether they were none or are not told
		m.refused.WithLabelValues(c.Name, "full")
		m.refused.WithLabelValues(c.Name, "waited")
		m.waited.WithLabelValues(c.Name)
	}
	return m
}

// look reads something that the lock guards.
func (l *Limiter) look(at func() int) float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return float64(at())
}
