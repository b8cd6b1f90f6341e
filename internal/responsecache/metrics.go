package responsecache

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	local, shared, joined, misses, stale prometheus.Counter
	outdated, unkept                     prometheus.Counter
}

func newMetrics(r prometheus.Registerer, c *Cache) metrics {
	with := promauto.With(r)
	answers := with.NewCounterVec(prometheus.CounterOpts{
		Name: "millrace_response_cache_answers_total",
		Help: "Answers to public queries: kept in this process, found in Redis, read for another request, read, or served stale.",
	}, []string{"from"})
	with.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_response_cache_bytes", Help: "Memory of the answers that this process keeps, about.",
	}, func() float64 { return float64(c.entries.WeightedSize()) })
	return metrics{
		local: answers.WithLabelValues("process"), shared: answers.WithLabelValues("redis"), joined: answers.WithLabelValues("joined"),
		misses: answers.WithLabelValues("read"), stale: answers.WithLabelValues("stale"),
		outdated: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_response_cache_invalidations_total", Help: "Answers that were asked for and found to be outdated.",
		}),
		unkept: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_response_cache_unkept_total", Help: "Answers that were not kept: too long, or read from a model that was behind.",
		}),
	}
}
