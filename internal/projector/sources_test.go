package projector_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// collect reads streams as documents and as rows, or, without any, the whole of the model, and returns what that was read from.
func (f *fixture) collect(m *projector.Models, position int64, within time.Duration, streams ...string) (projector.Reading, bool) {
	f.t.Helper()
	ctx, sources := projector.WithSources(f.t.Context(), position, within)
	need := projector.Need{Projections: []string{"tally"}, Streams: streams}
	for _, stream := range streams {
		_, err := m.Documents(ctx, "tally", []projector.DocKey{{Stream: stream, Key: stream}})
		must(f.t, err)
	}
	must(f.t, m.Query(ctx, need, `SELECT count(*) FROM tally.streams`, nil, func(rows pgx.Rows) error {
		_, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
		return err
	}))
	return sources.Reading()
}

// TestSources checks that reads tell what they were made of, and when that is no longer what readers see.
func TestSources(t *testing.T) {
	t.Parallel()
	f := setup(t)
	stop := f.worker("one")
	m := f.models()
	position := f.fill(100, 10)
	f.expect(m)

	one, inTime := f.collect(m, position, patience, "tally-1")
	whole, wholeInTime := f.collect(m, position, patience)
	if !inTime || !wholeInTime {
		t.Fatal("the models have come to the end of the log, and reads are late")
	}
	if got := fmt.Sprint(one); got != fmt.Sprintf("{%d map[tally:{1 false }] [tally-1]}", position) {
		t.Errorf("one stream was read from %s", got)
	}
	if got := fmt.Sprint(whole); got != fmt.Sprintf("{%d map[tally:{1 true }] []}", position) {
		t.Errorf("the whole was read from %s", got)
	}
	shown := func(r projector.Reading) func() bool { return func() bool { return m.Shows(r) } }
	gone := func(r projector.Reading) func() bool { return func() bool { return !m.Shows(r) } }
	eventually(t, patience, "readers see the generation", shown(one))

	// A read with a position of its own is nobody else's.
	ctx, sources := projector.WithSources(t.Context(), position, patience)
	if _, err := m.Documents(es.WithPosition(ctx, 1), "tally", []projector.DocKey{{Stream: "tally-1", Key: "tally-1"}}); err != nil {
		t.Fatal(err)
	}
	if _, inTime := sources.Reading(); inTime {
		t.Error("a read with a position of its own was collected")
	}

	// A model that is behind is read as it is, and says so.
	stop()
	behind := f.fill(20, 10)
	for _, streams := range [][]string{{"tally-1"}, nil} {
		if _, inTime := f.collect(m, behind, 20*time.Millisecond, streams...); inTime {
			t.Errorf("a model that is behind was read in time (streams %q)", streams)
		}
	}

	// What is parked, and retried, changes lists without an event.
	f.poison(true)
	bad := f.append("tally-1", added{N: 1, Poison: true})
	stop = f.worker("two")
	f.awaitStanding(bad, 2) // only what stands still can be parked
	must(t, m.Park(t.Context(), "tally", bad))
	var held projector.Reading
	eventually(t, patience, "a list that goes without the stream", func() bool {
		held, inTime = f.collect(m, bad, 20*time.Millisecond)
		return inTime && held.Models["tally"].Held != ""
	})
	eventually(t, patience, "readers to see that", shown(held))
	eventually(t, patience, "the list before to be outdated", gone(whole))
	if _, inTime := f.collect(m, bad, 20*time.Millisecond, "tally-1"); inTime {
		t.Error("a stream that is parked was read in time")
	}
	f.poison(false)
	must(t, m.Retry(t.Context(), "tally", bad))
	eventually(t, patience, "the list without the stream to be outdated", gone(held))
	f.expectWhole(m)
	stop()

	// A switch outdates everything.
	if _, err := projector.Replay(t.Context(), f.replayOptions()); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "what was read from the generation before to be outdated", gone(one))
	var after projector.Reading
	eventually(t, patience, "the new one to be read, on a replica too", func() bool {
		after, _ = f.collect(m, bad, patience)
		return after.Models["tally"].Generation != 1
	})
	eventually(t, patience, "readers to see the new one", shown(after))
}

// TestSourcesOfParkedStreams checks that nothing is kept that a retry would change without an event: what shows a parked stream, alone or among
// others, and a document that may have been folded from one.
func TestSourcesOfParkedStreams(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.poison(true)
	f.worker("one")
	m := f.models()
	f.fill(200, 100)
	bad := []int64{f.append("tally-bad1", added{N: 1, Poison: true}), f.append("tally-bad2", added{N: 1, Poison: true})}
	for _, position := range bad {
		f.awaitStanding(position, 2)
		must(t, m.Park(t.Context(), "tally", position))
		f.awaitParked(m, position)
	}
	last := f.fill(200, 100)
	partition := es.PartitionOf("tally-bad1", f.info.Partitions)
	beside, apart := "", ""
	for stream := range f.sums {
		switch es.PartitionOf(stream, f.info.Partitions) {
		case partition:
			if stream != "tally-bad1" {
				beside = stream
			}
		case es.PartitionOf("tally-bad2", f.info.Partitions):
		default:
			apart = stream
		}
	}
	for _, c := range []struct {
		streams []string
		inTime  bool
	}{
		{nil, true}, // which names what it goes without
		{[]string{beside}, true},
		{[]string{beside, apart}, true},
		{[]string{"tally-bad1"}, false},
		{[]string{"tally-bad1", "tally-bad2"}, false},
		{[]string{apart, "tally-bad1"}, false},
	} {
		if _, inTime := f.collect(m, last, ample, c.streams...); inTime != c.inTime {
			t.Errorf("streams %q were read in time: %t, want %t", c.streams, inTime, c.inTime)
		}
	}
	for stream, want := range map[string]bool{beside: false, apart: true} {
		f.awaitDocument(m, stream, f.sums[stream])
		ctx, sources := projector.WithSources(t.Context(), last, ample)
		documents, err := m.Documents(ctx, "tally", []projector.DocKey{{Stream: stream, Key: es.IDOf(stream)}})
		must(t, err)
		if _, inTime := sources.Reading(); documents[0] == nil || inTime != want {
			t.Errorf("the document %s of %s, perhaps of other streams too, was read in time: %t, want %t", documents[0], stream, inTime, want)
		}
	}
}
