package projector

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the figures of workers and readers of one process. A nil *Metrics counts nothing.
type Metrics struct {
	batchEvents  *prometheus.HistogramVec
	batchSeconds *prometheus.HistogramVec
	failures     *prometheus.CounterVec
	stopped      *prometheus.GaugeVec
	parked       *prometheus.GaugeVec
	position     *prometheus.GaugeVec
	owned        *prometheus.GaugeVec
	waits        *prometheus.HistogramVec
	stales       *prometheus.CounterVec
	registerer   prometheus.Registerer // of what is counted elsewhere
}

// NewMetrics registers the figures.
func NewMetrics(r prometheus.Registerer) *Metrics {
	store := []string{"projection", "store"}
	m := &Metrics{
		registerer: r,
		batchEvents: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_projection_batch_events", Help: "Events in a batch that was folded.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 8),
		}, store),
		batchSeconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_projection_batch_seconds", Help: "Time to fold a batch and commit it with its checkpoints.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14),
		}, append(store, "result")),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_projection_failures_total", Help: "Attempts at an event that could not be applied.",
		}, store),
		stopped: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_projection_stopped_partitions", Help: "Partitions of this worker's that stand still at an event that cannot be applied.",
		}, append(store, "generation")),
		parked: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_projection_parked_streams", Help: "Streams in this worker's partitions that wait behind a parked event.",
		}, append(store, "generation")),
		position: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_projection_position", Help: "Position up to which this worker's partitions that follow the log have come; none while all of them catch up.",
		}, append(store, "generation")),
		owned: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "millrace_projection_partitions", Help: "Partitions of the projection that this worker has.",
		}, []string{"projection"}),
		waits: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "millrace_position_wait_seconds", Help: "Time that reads at a position took to find that the model has come so far, or to give up.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 13),
		}, store),
		stales: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "millrace_position_wait_failures_total",
			Help: "Reads at a position that gave up: of PostgreSQL they were answered STALE, of Redis they went on to PostgreSQL.",
		}, append(store, "reason")),
	}
	r.MustRegister(m.batchEvents, m.batchSeconds, m.failures, m.stopped, m.parked, m.position, m.owned, m.waits, m.stales)
	return m
}

func (m *Metrics) batch(projection, store string, events int, took time.Duration, err error) {
	if m == nil {
		return
	}
	result := "ok"
	if err != nil {
		result = "failed"
	} else {
		m.batchEvents.WithLabelValues(projection, store).Observe(float64(events))
	}
	m.batchSeconds.WithLabelValues(projection, store, result).Observe(took.Seconds())
}

func (m *Metrics) failure(projection, store string) {
	if m != nil {
		m.failures.WithLabelValues(projection, store).Inc()
	}
}

func (m *Metrics) standing(projection string, generation int, store string, stopped, parked int64) {
	if m != nil {
		m.stopped.WithLabelValues(projection, store, strconv.Itoa(generation)).Set(float64(stopped))
		m.parked.WithLabelValues(projection, store, strconv.Itoa(generation)).Set(float64(parked))
	}
}

// gone takes back what was said of a generation that this worker feeds no more.
func (m *Metrics) gone(projection string, generation int, store string) {
	if m != nil {
		m.stopped.DeleteLabelValues(projection, store, strconv.Itoa(generation))
		m.parked.DeleteLabelValues(projection, store, strconv.Itoa(generation))
		m.position.DeleteLabelValues(projection, store, strconv.Itoa(generation))
	}
}

// progress tells how far live partitions have come. Where there are none nothing is told rather than what was once true.
func (m *Metrics) progress(projection string, generation int, store string, position int64, live bool) {
	switch {
	case m == nil:
	case live:
		m.position.WithLabelValues(projection, store, strconv.Itoa(generation)).Set(float64(position))
	default:
		m.position.DeleteLabelValues(projection, store, strconv.Itoa(generation))
	}
}

func (m *Metrics) partitions(projection string, n int) {
	if m != nil {
		m.owned.WithLabelValues(projection).Set(float64(n))
	}
}

// Why reads at a position give up.
const (
	reasonBehind  = "behind"  // the model did not come so far in time
	reasonStopped = "stopped" // a partition that a list needs stands still at an event that cannot be applied
	reasonParked  = "parked"  // the stream asked for is parked
	reasonLog     = "log"     // the process did not hear of the position in time, nor that the log has no such position
	reasonBeyond  = "beyond"  // the log ends before the position
)

func (m *Metrics) waited(projection, store string, took time.Duration) {
	if m != nil {
		m.waits.WithLabelValues(projection, store).Observe(took.Seconds())
	}
}

func (m *Metrics) stale(projection, store, reason string) {
	if m != nil {
		m.stales.WithLabelValues(projection, store, reason).Inc()
	}
}
