package feed

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	head     prometheus.Gauge
	live     prometheus.Gauge
	events   *prometheus.CounterVec
	holes    prometheus.Counter
	sessions prometheus.Counter
}

func newMetrics(r prometheus.Registerer) metrics {
	with := promauto.With(r)
	return metrics{
		head: with.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_feed_position", Help: "Position up to which this process knows the log."}),
		live: with.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_feed_jetstream_live", Help: "1 while JetStream delivers the newest events, 0 while Postgres is tailed."}),
		events: with.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_feed_events_total", Help: "Events by the source that delivered them first."}, []string{"source"}),
		holes: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_feed_holes_total", Help: "Holes in what JetStream delivered, filled from Postgres."}),
		sessions: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_feed_sessions_total", Help: "Consumers created in JetStream."}),
	}
}

const (
	fromJetStream = "jetstream"
	fromPostgres  = "postgres"
)
