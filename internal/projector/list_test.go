package projector_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

var tallies = projector.Need{Projections: []string{"tally"}}

// lasts lists the last positions of all streams, through a gate if there is one.
func lasts(ctx context.Context, m *projector.Models, gate func()) (map[string]int64, error) {
	return projector.List(ctx, m, tallies, `SELECT stream, last FROM tally.streams WHERE $1::bigint IS NOT NULL`, []any{1}, func(rows pgx.Rows) (map[string]int64, error) {
		if gate != nil {
			gate()
		}
		all := make(map[string]int64)
		var stream string
		var last int64
		_, err := pgx.ForEachRow(rows, []any{&stream, &last}, func() error {
			all[stream] = last
			return nil
		})
		return all, err
	})
}

// TestListsShowEachWhatHeAsksFor has buyers who all look at one list, each for the event that he has just caused: every one of them sees his own, however
// many share what is read, and whoever of these goes away meanwhile.
func TestListsShowEachWhatHeAsksFor(t *testing.T) {
	t.Parallel()
	const callers, rounds = 24, 30
	f := setup(t)
	f.worker("one")
	m := f.modelsWith(withAmpleWait)
	f.fill(10, 10)
	f.expect(m)
	var reads atomic.Int64
	var all sync.WaitGroup
	for caller := range callers {
		all.Go(func() {
			stream := fmt.Sprintf("tally-caller-%d", caller)
			for i := range rounds {
				ctx, wanted := t.Context(), int64(0)
				if caller%3 > 0 { // a third is content with what there is, and goes away soon
					wanted = f.append(stream, added{N: i})
					ctx = es.WithPosition(ctx, wanted)
				} else {
					var cancel context.CancelFunc
					ctx, cancel = context.WithCancel(ctx)
					time.AfterFunc(time.Duration(i)*100*time.Microsecond, cancel)
				}
				list, err := lasts(ctx, m, func() { reads.Add(1) })
				if ctx.Err() != nil && t.Context().Err() == nil {
					continue
				}
				if err != nil || list[stream] < wanted {
					t.Errorf("caller %d wants position %d and sees %d, %v", caller, wanted, list[stream], err)
					return
				}
			}
		})
	}
	all.Wait()
	t.Logf("%d lists were read %d times", callers*rounds, reads.Load())
}

// TestAListIsReadAgainForWhoCameLater has a read hang and the one who asked for it go away: those who came after it had begun neither wait for it nor get it.
func TestAListIsReadAgainForWhoCameLater(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.worker("one")
	m := f.modelsWith(withAmpleWait)
	position := f.append("tally-one", added{N: 1})
	f.expect(m)

	begun, gate := make(chan struct{}, 1), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error, 1)
	go func() {
		_, err := lasts(ctx, m, func() { begun <- struct{}{}; <-gate })
		first <- err
	}()
	<-begun
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			list, err := lasts(t.Context(), m, nil)
			if err != nil || list["tally-one"] != position {
				t.Errorf("it got %v, %v", list, err)
			}
		})
	}
	cancel()
	all.Wait() // they do not wait for the gate: what hangs is passed
	close(gate)
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first got %v", err)
	}
}

func TestMistakesInLists(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.worker("one")
	m := f.models()
	f.expect(m)
	own := errors.New("the caller's own")
	list := func(ctx context.Context, need projector.Need, sql string, err error) error {
		_, got := projector.List(ctx, m, need, sql, nil, func(rows pgx.Rows) (int, error) { return 0, err })
		return got
	}
	if err := list(t.Context(), tallies, `SELECT 1 FROM tally.streams`, own); !errors.Is(err, own) {
		t.Errorf("got %v", err)
	}
	if err := list(t.Context(), projector.Need{Projections: []string{"nothing"}}, `SELECT 1`, nil); err == nil || err.Error() != `projector: there is no model "nothing" in PostgreSQL` {
		t.Errorf("got %v", err)
	}
	if err := list(t.Context(), tallies, `SELECT nothing FROM tally.streams`, nil); err == nil || errors.Is(err, es.ErrUnavailable) || errors.Is(err, projector.ErrStale) {
		t.Errorf("got %v", err)
	}
	began := time.Now()
	if err := list(es.WithPosition(t.Context(), 1_000_000), tallies, `SELECT 1 FROM tally.streams`, nil); !errors.Is(err, projector.ErrStale) || time.Since(began) > 4*time.Second {
		t.Errorf("a position that is not reached: %v after %v", err, time.Since(began))
	}
}

// TestAListThatNobodyWaitsForLetsGo cancels whoever asks for lists that take long: they leave the servers' connections to others.
func TestAListThatNobodyWaitsForLetsGo(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.worker("one")
	m := f.models()
	f.fill(10, 10)
	f.expect(m)
	ctx, cancel := context.WithCancel(t.Context())
	const askers = 40
	var all sync.WaitGroup
	for n := range askers {
		all.Go(func() {
			_, err := projector.List(ctx, m, tallies, `SELECT 1 FROM tally.streams, pg_sleep(4) WHERE $1::bigint >= 0`, []any{n / 2}, func(rows pgx.Rows) (int, error) {
				rows.Close()
				return 0, rows.Err()
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
		})
	}
	busy := func() (n int32) {
		for _, pool := range append(f.replicas, f.pool) {
			n += pool.Stat().AcquiredConns()
		}
		return n
	}
	eventually(t, 5*time.Second, "the connections are busy", func() bool { return busy() >= 10 })
	cancel()
	all.Wait()
	if _, err := lasts(t.Context(), m, nil); err != nil {
		t.Errorf("the next list: %v", err)
	}
	eventually(t, 2*time.Second, "the connections are free", func() bool { return busy() <= 2 })
}

// TestAPanicReachesWhoReads has what collects a list panic: whoever waits for it gets that, with its place, and no connection is kept.
func TestAPanicReachesWhoReads(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.worker("one")
	m := f.modelsWith(withAmpleWait)
	f.fill(10, 10)
	f.expect(m)
	for range 50 { // more than there are connections
		func() {
			defer func() {
				if p := fmt.Sprint(recover()); !strings.Contains(p, "no such column") || !strings.Contains(p, "list_test.go") {
					t.Errorf("the caller got %s", p)
				}
			}()
			_, err := lasts(t.Context(), m, func() { panic("no such column") })
			t.Errorf("the caller got the error %v", err)
		}()
	}
	if _, err := lasts(t.Context(), m, nil); err != nil {
		t.Error(err)
	}
}
