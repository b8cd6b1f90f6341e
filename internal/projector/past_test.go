package projector_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

func TestModelsOfThePast(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.worker("live")
	m := f.models()
	until := f.fill(12_000, 40)
	then := make(map[string]tally)
	for stream, sum := range f.sums {
		then[stream] = sum
	}
	var recorded time.Time
	must(t, f.pool.QueryRow(t.Context(), `SELECT recorded_at FROM events WHERE position = $1`, until).Scan(&recorded))
	f.fill(3_000, 60)
	f.expect(m)

	at, err := projector.PositionAt(t.Context(), f.log, recorded)
	must(t, err)
	if at != until {
		t.Errorf("at %v the log ended at %d, want %d", recorded, at, until)
	}
	for range 2 { // the second time it is built anew
		list, result, err := projector.Past(t.Context(), f.replayOptions(), at)
		must(t, err)
		if len(list) != 1 || list[0].Name != "tally" || list[0].Position != until || list[0].Schema != "tally_at_12000" || result.Events != until {
			t.Fatalf("the models are %+v, the result is %+v", list, result)
		}
	}
	rows, err := f.pool.Query(t.Context(), `SELECT stream, count, sum, last FROM tally_at_12000.streams`)
	must(t, err)
	defer rows.Close()
	n := 0
	for ; rows.Next(); n++ {
		var stream string
		var got tally
		must(t, rows.Scan(&stream, &got.Count, &got.Sum, &got.Last))
		if got != then[stream] {
			t.Errorf("%s was %+v, want %+v", stream, got, then[stream])
		}
	}
	must(t, rows.Err())
	if n != len(then) {
		t.Errorf("there are %d rows, want %d", n, len(then))
	}
	list, err := projector.PastModels(t.Context(), f.replayOptions())
	must(t, err)
	keys, err := f.redis.Keys(t.Context(), list[0].Documents+"*").Result()
	must(t, err)
	if len(list) != 1 || len(keys) != 16 {
		t.Errorf("there are %+v with %d keys in Redis", list, len(keys))
	}
	_, err = projector.Replay(t.Context(), f.replayOptions()) // which leaves the past alone
	must(t, err)
	f.fill(100, 40)
	f.expect(m)
	dropped, err := projector.DropPast(t.Context(), f.replayOptions(), 0)
	must(t, err)
	if len(dropped) != 1 {
		t.Errorf("%+v were dropped", dropped)
	}
	var left int
	must(t, f.pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tally\_at%')
		+ (SELECT count(*) FROM projections WHERE name = 'tally_at')`).Scan(&left))
	if keys, err = f.redis.Keys(t.Context(), list[0].Documents+"*").Result(); err != nil || len(keys) != 0 || left != 0 {
		t.Errorf("%d rows and %d keys are left, %v", left, len(keys), err)
	}
}

func TestPositionsThatThereAreNot(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(10, 2)
	for _, until := range []int64{-1, 0, 11} {
		if _, _, err := projector.Past(t.Context(), f.replayOptions(), until); !errors.Is(err, projector.ErrNoPosition) {
			t.Errorf("position %d: %v", until, err)
		}
	}
	if _, err := projector.PositionAt(t.Context(), f.log, time.Unix(0, 0)); !errors.Is(err, projector.ErrNoPosition) {
		t.Errorf("before the log began: %v", err)
	}
	if at, err := projector.PositionAt(t.Context(), f.log, time.Now()); err != nil || at != 10 {
		t.Errorf("now: %d, %v", at, err)
	}
}

// A rebuild that has lost its lock, however it ends, leaves the model alone that another one makes meanwhile of the same position.
func TestAModelOfThePastIsNotDroppedByWhoHasLostIt(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string]error{"it fails": errors.New("it is bad"), "it comes to its end": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			last := f.fill(1_000, 20)
			// build begins a rebuild, which waits in the middle until it may go on.
			build := func(fails error) (goOn func(), ended <-chan error) {
				began, free, result := make(chan struct{}), make(chan struct{}), make(chan error, 1)
				p := tallyProjection(f.info, 1)
				p.Redis = nil
				apply, first := p.Postgres.Apply, true
				p.Postgres.Apply = func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
					if first {
						first = false
						close(began)
						<-free
					}
					return errors.Join(fails, apply(ctx, tx, events))
				}
				o := f.replayOptions()
				o.Projections = []projector.Projection{p}
				go func() {
					_, _, err := projector.Past(t.Context(), o, last)
					result <- err
				}()
				await(t, "the rebuild is in the middle", began)
				return func() { close(free) }, result
			}
			goOn, ended := build(fails)
			const holders = `FROM pg_locks l WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
				AND l.classid::bigint << 32 | l.objid::bigint = hashtextextended('millrace.rebuild.tally_at', 0)
				AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`
			_, err := f.pool.Exec(t.Context(), `SELECT pg_terminate_backend(l.pid) `+holders)
			must(t, err)
			eventually(t, patience, "the lock is lost", func() bool {
				var n int
				must(t, f.pool.QueryRow(t.Context(), `SELECT count(*) `+holders).Scan(&n))
				return n == 0
			})
			goOnToo, endedToo := build(nil)
			goOn()
			if err := <-ended; err == nil || fails == nil && !errors.Is(err, projector.ErrReplaying) {
				t.Errorf("the rebuild that has lost its lock: %v", err)
			}
			goOnToo()
			must(t, <-endedToo)
			models, err := projector.PastModels(t.Context(), f.replayOptions())
			must(t, err)
			var rows int
			must(t, f.pool.QueryRow(t.Context(), `SELECT count(*) FROM tally_at_1000.streams`).Scan(&rows))
			if len(models) != 1 || models[0].Position != last || rows != 20 {
				t.Errorf("the models are %+v, and there are %d rows", models, rows)
			}
		})
	}
}
