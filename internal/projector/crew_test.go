package projector_test

import (
	"context"
	"fmt"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// helping is a worker that takes shares of rebuilds.
func (f *fixture) helping(id string, projections ...projector.Projection) {
	f.t.Helper()
	o := f.workerOptions(id, projections...)
	o.Helps = true
	w, err := projector.NewWorker(o)
	must(f.t, err)
	background(f.t, w.Run)
}

// sharesOf counts the shares that workers have or have folded, by worker; "" is the rebuild itself.
func (f *fixture) sharesOf() map[string]int {
	f.t.Helper()
	rows, err := f.pool.Query(f.t.Context(), `SELECT coalesce(worker, 'nobody'), count(*) FROM rebuild_shares GROUP BY worker`)
	must(f.t, err)
	defer rows.Close()
	found := make(map[string]int)
	for rows.Next() {
		var worker string
		var n int
		must(f.t, rows.Scan(&worker, &n))
		found[worker] = n
	}
	must(f.t, rows.Err())
	return found
}

// together folds no share before every share has been taken.
func (f *fixture) together() projector.Projection {
	p := tallyProjection(f.info, 1)
	apply := p.Postgres.Apply
	p.Postgres.Apply = func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
		for {
			var free int
			if err := f.pool.QueryRow(ctx, `SELECT count(*) FROM rebuild_shares WHERE worker IS NULL`).Scan(&free); err != nil {
				return err
			}
			if free == 0 {
				return apply(ctx, tx, events)
			}
		}
	}
	return p
}

func TestWorkersShareARebuild(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(55_000, 50)
	f.helping("one", f.together())
	f.helping("two", f.together())
	m := f.models()
	f.expect(m)
	helped := make(map[string]bool)
	options := f.replayOptions()
	options.Projections = []projector.Projection{f.together()}
	var last projector.Progress
	options.Progress = func(p projector.Progress) {
		if p.Position < last.Position {
			t.Errorf("progress went back from %d to %d", last.Position, p.Position)
		}
		last = p
		for worker := range f.sharesOf() {
			helped[worker] = true
		}
	}
	result, err := projector.Replay(t.Context(), options)
	must(t, err)
	if !helped[""] || !helped["one"] || !helped["two"] {
		t.Errorf("those who had a share are %v", helped)
	}
	if result.Events < 55_000 || last.Position != 55_000 {
		t.Errorf("%d events, the last progress was %+v", result.Events, last)
	}
	if left := f.sharesOf(); len(left) > 0 {
		t.Errorf("shares are left: %v", left)
	}
	f.fill(500, 50)
	f.expect(m)
	f.verified()
}

// A worker that dies, or falls asleep, in the middle of its share is replaced; one that wakes changes nothing.
func TestHelpersThatDie(t *testing.T) {
	t.Parallel()
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "asleep": syscall.SIGSTOP} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			f.fill(55_000, 50)
			f.worker("live")
			m := f.models()
			f.expect(m)
			cmd, hangs := f.startChild(childHelps+"=1", childHangAt+"=10000")
			eventually(t, patience, "the helper is there", func() bool { return f.owners()["child"] > 0 })
			var group errgroup.Group
			group.Go(func() error {
				_, err := projector.Replay(t.Context(), f.replayOptions())
				return err
			})
			await(t, "the helper is in the middle of its share", hangs)
			must(t, cmd.Process.Signal(signal))
			began := time.Now()
			must(t, group.Wait())
			t.Logf("the rebuild ended %v later", time.Since(began))
			if signal == syscall.SIGSTOP {
				must(t, cmd.Process.Signal(syscall.SIGCONT))
			}
			f.fill(500, 50)
			f.expect(m)
			f.verified()
		})
	}
}

// What a worker cannot fold is left to the rebuild, which says why, or parks it where that was done before.
func TestSharedRebuildMeetsPoison(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.poison(true)
	f.helping("one")
	m := f.models()
	f.fill(60_000, 100)
	bad := f.append("tally-bad", added{N: 2, Poison: true})
	f.awaitStanding(bad, 2)
	_, err := projector.Replay(t.Context(), f.replayOptions())
	wantError(t, err, fmt.Sprintf("event %d (tally.added, stream tally-bad) cannot be applied: it is poison", bad))
	if left := f.sharesOf(); len(left) > 0 {
		t.Errorf("shares are left: %v", left)
	}
	must(t, m.Park(t.Context(), "tally", bad))
	f.awaitParked(m, bad)
	delete(f.sums, "tally-bad")
	result, err := projector.Replay(t.Context(), f.replayOptions())
	must(t, err)
	if len(result.Parked) != 2 || result.Parked[0].Position != bad {
		t.Errorf("the rebuild parked %+v", result.Parked)
	}
	f.fill(100, 100)
	f.expect(m)
	f.verified()
}
