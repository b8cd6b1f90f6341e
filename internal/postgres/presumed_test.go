package postgres

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/migrations"
)

// putNew puts units into streams that it presumes to be new.
func putNew(n int, ids ...string) es.Command {
	return es.Command{Name: "put new", Decide: func(d *es.Decision) error {
		for _, id := range ids {
			s := units.Stream(id)
			before, err := es.Presumed(d, s)
			if err != nil {
				return err
			}
			if before > 0 {
				return errBegun
			}
			es.Append(d, s, put{n})
		}
		return nil
	}}
}

// putUnless puts a unit into a stream unless another one has begun, which it presumes has not.
func putUnless(begun, id string) es.Command {
	return es.Command{Name: "put unless", Decide: func(d *es.Decision) error {
		if units, err := es.Presumed(d, units.Stream(begun)); err != nil || units > 0 {
			return errors.Join(err, errBegun)
		}
		if _, err := es.State(d, units.Stream(id)); err != nil {
			return err
		}
		es.Append(d, units.Stream(id), put{1})
		return nil
	}}
}

var errBegun = errors.New("the stream has begun")

// What is presumed to be new costs no reading where it is, and is decided again, on what stands there, where it is not.
func TestAStreamIsPresumedToBeNew(t *testing.T) {
	t.Parallel()
	b := setup(t, stacktest.WithSettings(migrations.Settings{Currency: "GBP", TimeZone: "Europe/London", RangeSize: 20}))
	old := b.writer(t, connect(t, b.env.DatabaseURL))
	execute(t, old, putUnits("closed", 7))
	for range 50 {
		execute(t, old, putUnits("filling", 1))
	}
	if _, err := b.pool.Exec(t.Context(), `SELECT close_event_ranges()`); err != nil {
		t.Fatal(err)
	}
	execute(t, old, putUnits("open", 7))
	w := b.writer(t, b.pool)
	execute(t, w, putUnits("its own", 7))
	before := readings(w)
	execute(t, w, putNew(1, "new", "newer"))
	if n := readings(w) - before; n != 0 {
		t.Errorf("new streams cost %d readings, want none", n)
	}
	for _, id := range []string{"closed", "open", "its own"} {
		if _, err := w.Execute(t.Context(), putNew(1, id)); !errors.Is(err, errBegun) {
			t.Errorf("a stream that has begun, %s: %v", id, err)
		}
		if _, err := w.Execute(t.Context(), withKey(putNew(1, "of nobody", id), "key of "+id, "request")); !errors.Is(err, errBegun) {
			t.Errorf("a new stream and one that has begun, %s: %v", id, err)
		}
		if _, err := b.writer(t, b.pool).Execute(t.Context(), putUnless(id, "its own")); !errors.Is(err, errBegun) {
			t.Errorf("a stream that is only looked at and has begun, %s: %v", id, err)
		}
	}
	b.holds(t, map[string]int{"closed": 7, "open": 7, "its own": 7, "new": 1, "newer": 1, "of nobody": 0})
}

// A refusal has no append that could find out: it is given on what has been read.
func TestARefusalPresumesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, rival := b.writer(t, b.pool), b.writer(t, connect(t, b.env.DatabaseURL))
	execute(t, rival, putUnits("a", 7))
	for range 2 * crowdedFor { // it knows the rival's event, and takes no turns any more
		execute(t, w, putUnits("b", 1))
	}
	outcome := execute(t, w, es.Command{Name: "take", Decide: func(d *es.Decision) error {
		s := units.Stream("a")
		switch have, err := es.Presumed(d, s); {
		case err != nil:
			return err
		case have == 0:
			return errNotEnough
		}
		es.Append(d, s, taken{1})
		return nil
	}})
	if n := b.units(t, "a"); n != 6 || outcome.Events != 1 {
		t.Errorf("%d units are left after %+v", n, outcome)
	}
}

// One wrong presumption sends its batch back once; what was presumed beside it, and what rests on that, comes out right.
func TestAWrongPresumptionCostsARound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, rival := b.writer(t, b.pool), b.writer(t, connect(t, b.env.DatabaseURL))
	execute(t, rival, putUnits("begun", 7))
	for range 2 * crowdedFor { // it knows the rival's event, and takes no turns any more
		execute(t, w, putUnits("a", 1))
	}
	var decisions atomic.Int64
	calls := submit(t, w,
		counted(putNew(5, "new"), &decisions), putNew(1, "begun"), counted(takeUnits(2, "new"), &decisions),
		withKey(putNew(1, "begun"), "key", "request"), withKey(putNew(3, "keyed"), "another key", "request"), counted(putUnits("a", 1), &decisions))
	for i, c := range calls {
		<-c.done
		if err := c.errs[0]; errors.Is(err, errBegun) != (i == 1 || i == 3) || err != nil && !errors.Is(err, errBegun) {
			t.Errorf("command %d: %v", i, err)
		}
	}
	b.holds(t, map[string]int{"new": 3, "begun": 7, "keyed": 3, "a": 2*crowdedFor + 1})
	if n := decisions.Load(); n > 9 {
		t.Errorf("%d decisions of three commands, want three of each at most", n)
	}
	b.readWhole(t)
}

// Two processes presume the same streams to be new, all the time: each is begun once.
func TestAStreamIsBegunOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	writers := []*Writer{b.writer(t, b.pool), b.writer(t, connect(t, b.env.DatabaseURL))}
	const streams = 100
	var begun [streams]atomic.Int64
	done := make(chan error)
	for _, w := range writers {
		for caller := range 4 {
			go func() {
				for i := range streams {
					n := (i + caller) % streams
					switch _, err := w.Execute(t.Context(), putNew(1, fmt.Sprint(n))); {
					case err == nil:
						begun[n].Add(1)
					case !errors.Is(err, errBegun):
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
	}
	for range 4 * len(writers) {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	for n := range begun {
		if got, there := begun[n].Load(), b.units(t, fmt.Sprint(n)); got != 1 || there != 1 {
			t.Errorf("stream %d was begun %d times and holds %d units, want 1 and 1", n, got, there)
		}
	}
	b.readWhole(t)
}

// The answer to a commit is lost: its own streams, which have begun by it, do not speak against it, also if their range has been closed since.
func TestACommitThatPresumedIsFoundInTheLog(t *testing.T) {
	t.Parallel()
	for _, closed := range []bool{false, true} {
		t.Run(fmt.Sprint("its range is closed ", closed), func(t *testing.T) {
			t.Parallel()
			b := setup(t, stacktest.WithSettings(migrations.Settings{Currency: "GBP", TimeZone: "Europe/London", RangeSize: 20}))
			p, tapped := newTap(t, b.env.DatabaseURL)
			w := b.writer(t, connectUpTo(t, tapped, 1), func(o *WriterOptions) { o.AppendTimeout = time.Minute })
			others := make([]string, 30)
			for i := range others {
				others[i] = fmt.Sprint("other ", i)
			}
			execute(t, w, withKey(putNew(1, "a"), "before", "request"))
			execute(t, w, putUnits("x", 1))
			p.swallow.Store(true)
			calls := submit(t, w, putNew(1, "b"), withKey(putNew(2, "c"), "key", "request"), putUnits("x", 1))
			<-p.swallowed
			await(t, "the events to be committed", func() bool {
				head, err := b.log.Head(t.Context())
				return err == nil && head == 5
			})
			if closed {
				execute(t, b.writer(t, b.pool), putNew(1, others...))
				if _, err := b.pool.Exec(t.Context(), `SELECT close_event_ranges()`); err != nil {
					t.Fatal(err)
				}
			}
			p.swallow.Store(false)
			p.cut()
			for i, c := range calls {
				<-c.done
				if err := c.errs[0]; err != nil && !errors.Is(err, es.ErrOutcomeUnknown) { // which is what who has waited for long is told
					t.Errorf("command %d, which was committed: %v", i, err)
				}
			}
			await(t, "the writer to take commands again", func() bool { return w.Down() == nil })
			execute(t, w, putUnits("a", 1))
			b.holds(t, map[string]int{"a": 2, "b": 1, "c": 2, "x": 2})
		})
	}
}

// A rival's event elsewhere costs the round, and what was presumed stands like any decision.
func TestAPresumptionOutlivesALostRound(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, rival := b.writer(t, b.pool), b.writer(t, connect(t, b.env.DatabaseURL))
	execute(t, w, putUnits("a", 1))
	execute(t, rival, putUnits("elsewhere", 1))
	var decisions atomic.Int64
	for _, c := range submit(t, w, counted(putNew(1, "new"), &decisions), counted(putUnits("a", 1), &decisions)) {
		if <-c.done; c.errs[0] != nil {
			t.Error(c.errs[0])
		}
	}
	if n := decisions.Load(); n != 2 {
		t.Errorf("%d decisions of two commands that nobody touched", n)
	}
	b.holds(t, map[string]int{"new": 1})
}

// What an append costs that presumes must not grow with the log, also when the planner knows it as it was when it was small.
func TestPresumptionsAreFoundOutByTheIndexOfStreams(t *testing.T) {
	t.Parallel()
	for _, known := range []int{0, 60, 400, 3000} {
		t.Run(fmt.Sprint(known, " events known"), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			if _, err := b.pool.Exec(t.Context(), `ALTER TABLE events_0000000000000000001 SET (autovacuum_enabled = off)`); err != nil {
				t.Fatal(err)
			}
			commands := make([]es.Command, known)
			for i := range commands {
				commands[i] = putUnits(fmt.Sprint(i), 1)
			}
			if known > 0 {
				_, errs := b.writer(t, b.pool).ExecuteAll(t.Context(), commands)
				if err := errors.Join(errs...); err != nil {
					t.Fatal(err)
				}
				if _, err := b.pool.Exec(t.Context(), `ANALYZE events`); err != nil {
					t.Fatal(err)
				}
			}
			// With the range's last position for that of the batch's last row, so that all streams are looked for.
			rows, err := b.pool.Query(t.Context(), `EXPLAIN `+begun("$2::bigint", "$1", "$1"), []string{"units-a", "units-b"}, int64(1_000_000))
			if err != nil {
				t.Fatal(err)
			}
			plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
			if err != nil {
				t.Fatal(err)
			}
			if text := strings.Join(plan, "\n"); !strings.Contains(text, "Index Scan using events_0000000000000000001_stream_version_idx") ||
				strings.Contains(text, "events_0000000000000000001_pkey") {
				t.Errorf("the plan is\n%s", text)
			}
		})
	}
}
