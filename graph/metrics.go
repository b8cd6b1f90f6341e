package graph

import (
	"sync/atomic"

	"github.com/99designs/gqlgen/graphql"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics are about operations, by their kind and first root field: what clients name themselves has no bounds.
type metrics struct {
	seconds *prometheus.HistogramVec
	errors  *prometheus.CounterVec
	streams prometheus.Gauge
}

func newMetrics(r prometheus.Registerer, subscriptions *atomic.Int64) metrics {
	with := promauto.With(r)
	with.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_graphql_subscriptions", Help: "Subscriptions that run.",
	}, func() float64 { return float64(subscriptions.Load()) })
	m := metrics{
		seconds: with.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_graphql_seconds", Help: "How long queries and mutations took to run.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"kind", "field"}),
		errors: with.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_graphql_errors_total", Help: "GraphQL errors by their code.",
		}, []string{"code"}),
		streams: with.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_graphql_streams", Help: "WebSockets and event streams that are open.",
		}),
	}
	for _, code := range codes { // what has not happened yet is 0, not absent
		m.errors.WithLabelValues(string(code))
	}
	return m
}

// answered counts the errors of an answer.
func (m metrics) answered(r *graphql.Response) {
	for _, e := range r.Errors {
		if code, ok := e.Extensions["code"].(string); ok {
			m.errors.WithLabelValues(code).Inc()
		}
	}
}

// field returns what an operation is counted under.
func (a about) field() string {
	if len(a.Fields) == 0 {
		return ""
	}
	return a.Fields[0]
}
