package projector_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/projector"
)

// seen reads a stream as queries do: its document, and its row where there is none.
func (f *fixture) seen(m *projector.Models, position int64, stream string) (tally, error) {
	if d := f.document(m, position, stream); d != nil {
		return *d, nil
	}
	return f.row(m, position, stream)
}

// A reader without a position, of one server, never sees an older state because readers have been switched to another
// generation: neither in the documents, nor in the rows that are read where there are none.
func TestASwitchTakesNobodyBack(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(2_000, 100)
	f.worker("live")
	m := f.modelsWith(func(o *projector.ModelsOptions) { o.Replicas = nil })
	f.expect(m)
	busy, stop := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error {
		for n := 0; busy.Err() == nil; n++ {
			f.append("tally-7", added{N: n})
		}
		return nil
	})
	for range 2 {
		group.Go(func() error {
			var last int64
			for busy.Err() == nil {
				t, err := f.seen(m, 0, "tally-7")
				if err != nil {
					return err
				}
				if t.Last < last {
					return fmt.Errorf("position %d is seen after position %d", t.Last, last)
				}
				last = t.Last
			}
			return nil
		})
	}
	for range 6 {
		_, err := projector.Replay(t.Context(), f.replayOptions())
		must(t, err)
	}
	stop()
	must(t, group.Wait())
	f.expect(m)
}

// What was shown of the generation before is not taken back by one that has not come so far: neither documents of the past nor
// none are the answer, as long as the one before has what was shown.
func TestDocumentsComeFromTheGenerationBefore(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(100, 10)
	stop := f.worker("live")
	m := f.models()
	f.expect(m)
	_, err := projector.Replay(t.Context(), f.replayOptions())
	must(t, err)
	key := f.redisKey("tally-3", 2)
	past, err := f.redis.Dump(t.Context(), key).Result()
	must(t, err)
	position := f.append("tally-3", added{N: 1})
	eventually(t, patience, "both generations have come there", func() bool {
		for generation := 1; generation <= 2; generation++ {
			text, err := f.redis.HGet(t.Context(), f.redisKey("tally-3", generation), "checkpoint").Int64()
			must(t, err)
			if text < position {
				return false
			}
		}
		return true
	})
	f.expect(m)
	stop()
	want := f.sums["tally-3"]
	must(t, f.redis.RestoreReplace(t.Context(), key, 0, past).Err())
	for range 100 {
		if d := f.document(m, 0, "tally-3"); d == nil || *d != want {
			t.Fatalf("the document is %+v, want %+v", d, want)
		}
	}
	must(t, f.redis.Del(t.Context(), f.redisKey("tally-3", 1)).Err())
	if d := f.document(m, 0, "tally-3"); d != nil {
		t.Errorf("a document of the past is read: %+v", d)
	}
}

// The generation that readers see is the one that the primary names, or the last that it has named: replicas that have not heard of a
// switch, or of the model at all, take nobody back, and make nobody say that it is not ready.
func TestReplicasThatMissedASwitch(t *testing.T) {
	t.Parallel()
	const ignorant, outdated = 0, 1
	f, stack := setupReplicas(t, 3)
	must(t, stack.PauseReplay(t.Context(), ignorant))
	f.worker("one")
	f.fill(100, 10)
	f.expect(f.models())
	must(t, stack.PauseReplay(t.Context(), outdated))
	for range 2 { // it names a generation that is there no more
		_, err := projector.Replay(t.Context(), f.replayOptions())
		must(t, err)
	}
	position := f.append("tally-3", added{N: 1})
	shows := func(m *projector.Models, generation int) bool {
		return m.Shows(projector.Reading{Models: map[string]projector.Part{"tally": {Generation: generation}}})
	}
	// They have not noticed yet that replicas stand still, and differ in the one that they ask first where the primary does not answer.
	processes := map[string]*projector.Models{
		"ignorant": f.process(withAmpleWait),
		"outdated": f.process(func(o *projector.ModelsOptions) {
			withAmpleWait(o)
			o.Replicas = o.Replicas[outdated:]
		}),
	}
	for _, m := range processes {
		eventually(t, patience, "documents are read of the new generation", func() bool { return f.document(m, position, "tally-3") != nil })
		eventually(t, patience, "answers that were read from the new generation are good", func() bool { return shows(m, 3) })
	}
	watch := func(what string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // several looks at who is live
		defer cancel()
		for ctx.Err() == nil {
			for first, m := range processes {
				if d := f.document(m, position, "tally-3"); d == nil || d.Last != position {
					t.Fatalf("%s, the %s replica first: the document is %+v, want one of position %d", what, first, d, position)
				}
				if shows(m, 1) || !shows(m, 3) {
					t.Fatalf("%s, the %s replica first: answers of the first generation are good: %t; of the third: %t", what, first, shows(m, 1), shows(m, 3))
				}
				if err := m.Ready(t.Context()); err != nil {
					t.Fatalf("%s, the %s replica first: %v", what, first, err)
				}
			}
		}
	}
	watch("with the primary")
	for _, m := range processes {
		must(t, f.shows(m, position, "tally-3"))
	}
	must(t, stack.Primary().Kill())
	watch("without the primary")
}
