package relay

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	position  prometheus.Gauge
	lag       prometheus.Gauge
	published prometheus.Counter
	refusals  prometheus.Counter
	aside     prometheus.Counter
}

func newMetrics(r prometheus.Registerer) metrics {
	with := promauto.With(r)
	return metrics{
		position: with.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_relay_position", Help: "Position up to which JetStream holds the log."}),
		lag: with.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_relay_lag_events", Help: "Events of the log, as far as the relay has heard of it, that JetStream does not hold yet."}),
		published: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_relay_published_total", Help: "Events published and acknowledged."}),
		refusals: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_relay_refusals_total", Help: "Runs of events that JetStream refused, in whole or in part."}),
		aside: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_relay_streams_set_aside_total", Help: "Streams that were found not to be a copy of the log."}),
	}
}
