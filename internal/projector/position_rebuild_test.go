package projector_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/projector"
)

// total is what a list of all rows adds up to; none of it ever becomes less in the log.
type total struct{ rows, events, sum int64 }

func (f *fixture) total(m *projector.Models, position int64) (t total, err error) {
	rows, err := f.rows(m, position)
	for _, row := range rows {
		t.rows, t.events, t.sum = t.rows+1, t.events+row.Count, t.sum+row.Sum
	}
	return t, err
}

// truth is the end of the log, and what a list of all rows adds up to there.
func (f *fixture) truth() (position int64, t total) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, row := range f.sums {
		t.rows, t.events, t.sum = t.rows+1, t.events+row.Count, t.sum+row.Sum
	}
	return f.head, t
}

// notBefore returns an error if there is less in a total than in another one.
func (t total) notBefore(other total) error {
	if t.rows < other.rows || t.events < other.events || t.sum < other.sum {
		return fmt.Errorf("%+v is seen, which was before %+v", t, other)
	}
	return nil
}

// While one generation after the other is built and switched to, readers through several processes and replicas see at least what there
// was at the position that they bring, whatever it is that they read; readers of the primary never see less than they have seen, even
// without one; and nobody is refused anything.
func TestReadsAtPositionsDuringRebuilds(t *testing.T) {
	t.Parallel()
	f, stack := setupReplicas(t, 2)
	f.fill(3_000, 50)
	f.worker("one")
	f.worker("two")
	readers := []*projector.Models{f.process(withAmpleWait), f.process(withAmpleWait), f.process(withAmpleWait)}
	alone := f.process(func(o *projector.ModelsOptions) { o.Wait, o.Replicas = ample, nil })
	f.expect(readers[0])
	must(t, stack.DelayReplay(t.Context(), 1, 200*time.Millisecond))

	var turn, reads atomic.Int64
	next := func() *projector.Models {
		reads.Add(1)
		return readers[int(turn.Add(1))%len(readers)]
	}
	busy, stop := context.WithCancel(t.Context())
	var group errgroup.Group
	whileBusy := func(round func(i int) error) {
		group.Go(func() error {
			for i := 0; busy.Err() == nil; i++ {
				if err := round(i); err != nil {
					stop()
					return err
				}
			}
			return nil
		})
	}
	for client := range 2 { // they read what they have appended
		whileBusy(func(i int) error {
			stream := fmt.Sprintf("tally-client-%d-%d", client, i%5)
			return f.shows(next(), f.append(stream, added{N: i}), stream)
		})
	}
	for range 2 { // they bring a position that they were told of, and read everything
		whileBusy(func(int) error {
			position, want := f.truth()
			seen, err := f.total(next(), position)
			if err == nil {
				err = seen.notBefore(want)
			}
			if err != nil {
				return fmt.Errorf("at position %d: %w", position, err)
			}
			return nil
		})
	}
	var before total
	whileBusy(func(int) error { // without a position, of one server
		seen, err := f.total(alone, 0)
		if err == nil {
			err = seen.notBefore(before)
		}
		before = seen
		return err
	})
	for rebuilds := 0; (rebuilds < 6 || reads.Load() < 500) && busy.Err() == nil; rebuilds++ {
		_, err := projector.Replay(t.Context(), f.replayOptions())
		must(t, err)
	}
	stop()
	must(t, group.Wait())
	f.expect(readers[0])
	t.Logf("%d reads at positions", reads.Load())
}
