package projector_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/projector"
)

// BenchmarkReplay rebuilds the tests' projection from a log of 200,000 events, and reports its rate beside that of a plain
// streaming SELECT that decodes nothing.
func BenchmarkReplay(b *testing.B) {
	const events = 200_000
	for _, store := range []string{"postgres", "redis"} {
		b.Run(store, func(b *testing.B) {
			f := setup(b)
			f.fill(events, 4_000)
			options := f.replayOptions()
			if store == "redis" {
				options.Projections[0].Postgres = nil
			} else {
				options.Projections[0].Redis = nil
			}
			var plain, replay time.Duration
			for b.Loop() {
				began := time.Now()
				rows, err := f.pool.Query(b.Context(), `SELECT position, stream, version, type, data, metadata, occurred_at, recorded_at, partition, ordinal
					FROM events ORDER BY position`)
				must(b, err)
				for rows.Next() {
					rows.RawValues()
				}
				must(b, rows.Err())
				plain += time.Since(began)
				began = time.Now()
				result, err := projector.Replay(b.Context(), options)
				must(b, err)
				replay += time.Since(began)
				if result.Events < events {
					b.Fatalf("%d events were read", result.Events)
				}
			}
			n := float64(b.N * events)
			b.ReportMetric(n/replay.Seconds(), "events/s")
			b.ReportMetric(100*plain.Seconds()/replay.Seconds(), "%ofSELECT")
		})
	}
}

// BenchmarkQuery reads one row in a snapshot.
func BenchmarkQuery(b *testing.B) {
	f := setup(b)
	f.worker("one")
	m := f.models()
	last := f.fill(1_000, 100)
	f.expect(m)
	for name, position := range map[string]int64{"any": 0, "at a position": last} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, err := f.row(m, position, "tally-1")
				must(b, err)
			}
		})
	}
	b.Run("document", func(b *testing.B) {
		for b.Loop() {
			if f.document(m, last, "tally-1") == nil {
				b.Fatal("no document")
			}
		}
	})
}

// BenchmarkVisible appends one event at a time and waits until each store shows it.
func BenchmarkVisible(b *testing.B) {
	f := setup(b)
	f.worker("one")
	m := f.models()
	f.fill(1_000, 100)
	f.expect(m)
	b.Run("rows", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			stream := fmt.Sprintf("tally-%d", i%100)
			_, err := f.row(m, f.append(stream, added{N: 1}), stream)
			must(b, err)
		}
	})
	b.Run("documents", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			stream := fmt.Sprintf("tally-%d", i%100)
			position := f.append(stream, added{N: 1})
			if f.document(m, position, stream) == nil {
				b.Fatal("not visible in time")
			}
		}
	})
}
