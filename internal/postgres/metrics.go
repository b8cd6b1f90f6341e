package postgres

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

type metrics struct {
	keyMetrics
	turns            prometheus.Counter
	lostRounds       prometheus.Counter
	decisions        prometheus.Counter
	evictions        prometheus.Counter
	eventsRead       prometheus.Counter
	snapshotsRead    prometheus.Counter
	snapshotsWritten prometheus.Counter
}

func newMetrics(r prometheus.Registerer, w *Writer) metrics {
	with := promauto.With(r)
	with.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_writer_cached_streams", Help: "Streams whose states are in memory."},
		func() float64 { streams, _ := w.cached(); return float64(streams) })
	with.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "millrace_writer_cached_bytes", Help: "Estimate of the memory that the states of streams take."},
		func() float64 { _, bytes := w.cached(); return float64(bytes) })
	return metrics{
		keyMetrics: newKeyMetrics(r),
		turns: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_writer_turns_total", Help: "Turns that were taken to append, because other processes append too."}),
		lostRounds: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_writer_lost_rounds_total", Help: "Batches of which something had to be decided again, because another process had appended first, or a stream was presumed to be new that was not."}),
		decisions: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_writer_decisions_total", Help: "Runs of commands' decisions, those included that were repeated."}),
		evictions: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_writer_evictions_total", Help: "States of streams that had to go from memory to make room."}),
		eventsRead: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_writer_events_read_total", Help: "Events that were read to learn the states of streams."}),
		snapshotsRead: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_writer_snapshots_read_total", Help: "Streams that were read from a snapshot on."}),
		snapshotsWritten: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_writer_snapshots_written_total", Help: "Snapshots of long streams that were written."}),
	}
}

// cached returns how many states are in memory, and an estimate of the bytes that they take.
func (w *Writer) cached() (streams, bytes int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.states.streams.Len(), w.states.bytes
}
