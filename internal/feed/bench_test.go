package feed_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// BenchmarkCommitToReader measures the time from the offer of a committed event to its reader, one at a time.
func BenchmarkCommitToReader(b *testing.B) {
	bundle := setup(b)
	relay, _ := bundle.startRelay(b)
	registry := prometheus.NewRegistry()
	f := bundle.startFeed(b, withMetrics(registry))
	awaitLive(b, registry)
	for b.Loop() {
		b.StopTimer()
		events := bundle.log.MustAppend(b, 1)
		b.StartTimer()
		relay.Offer(events)
		if _, err := f.After(b.Context(), events[0].Position-1, 1); err != nil {
			b.Fatal(err)
		}
	}
}
