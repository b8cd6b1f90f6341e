package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/es"
)

// submit hands calls to the writer in one moment, so that one batch has them all.
func submit(t *testing.T, w *Writer, commands ...es.Command) []*call {
	t.Helper()
	var calls []*call
	for _, c := range commands {
		calls = append(calls, &call{
			ctx: t.Context(), commands: []es.Command{c}, metadata: []byte("{}"), outcomes: make([]es.Outcome, 1), errs: make([]error, 1), done: make(chan struct{}),
		})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range calls {
		w.dispatch(c, nil)
	}
	return calls
}

// The first attempt is committed and its answer lost; the second is refused at the door, which says nothing about the first.
func TestARefusedLoginLeavesTheOutcomeUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p, tapped := newTap(t, b.env.DatabaseURL)
	config, err := pgxpool.ParseConfig(tapped)
	if err != nil {
		t.Fatal(err)
	}
	var refusals atomic.Int64
	config.BeforeConnect = func(context.Context, *pgx.ConnConfig) error {
		if refusals.Add(-1) >= 0 {
			return &pgconn.PgError{Code: "28P01", Message: "password authentication failed"}
		}
		return nil
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	w := b.writer(t, pool)
	execute(t, w, putUnits("a", 10))
	execute(t, w, putUnits("b", 10))
	p.swallow.Store(true)
	calls := submit(t, w, putUnits("a", 1), putUnits("b", 1))
	<-p.swallowed
	refusals.Store(1)
	p.swallow.Store(false)
	p.cut()
	for _, c := range calls {
		<-c.done
		if c.errs[0] != nil {
			t.Errorf("a command that was committed: %v", c.errs[0])
		}
	}
	await(t, "the writer to take commands again", func() bool { return w.Down() == nil })
	if a, b := b.units(t, "a"), b.units(t, "b"); a != 11 || b != 11 {
		t.Fatalf("%d and %d units, want 11 each: a command was done twice or lost", a, b)
	}
}

// A replica without the last events was promoted, and a rival has gone on there: this process remembers events that
// never happened, and its head is a position that now is another event's.
func TestAWriterNoticesThatTheLogIsAnother(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.writer(t, connect(t, b.env.DatabaseURL))
	execute(t, w, putUnits("x", 1))
	for range 5 {
		execute(t, w, putUnits("a", 1))
	}
	const table = `events_0000000000000000001`
	if err := pgx.BeginFunc(t.Context(), b.pool, func(tx pgx.Tx) error {
		for _, q := range []string{
			`ALTER TABLE ` + table + ` DISABLE TRIGGER append_only`, `DELETE FROM ` + table + ` WHERE position > 3`,
			`ALTER TABLE ` + table + ` ENABLE TRIGGER append_only`,
		} {
			if _, err := tx.Exec(t.Context(), q); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	rival := b.writer(t, connect(t, b.env.DatabaseURL))
	for range 3 {
		execute(t, rival, putUnits("b", 1))
	}
	if _, err := w.Execute(t.Context(), takeUnits(5, "a")); err == nil {
		t.Error("5 units were taken of 2")
	}
	execute(t, w, takeUnits(2, "a"))
	b.readWhole(t)
	if faults, _, err := b.log.Verify(t.Context()); err != nil || len(faults) > 0 {
		t.Errorf("verify: %v, %v", faults, err)
	}
}

func TestABatchThatTakesLongIsGivenMoreTime(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const timeout = 300 * time.Millisecond
	if _, err := b.pool.Exec(t.Context(), `
		CREATE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.5); RETURN NULL; END $$;
		CREATE TRIGGER take_long BEFORE INSERT ON events FOR EACH STATEMENT EXECUTE FUNCTION take_long()`); err != nil {
		t.Fatal(err)
	}
	w := b.writer(t, connect(t, b.env.DatabaseURL), func(o *WriterOptions) { o.AppendTimeout = timeout })
	began := time.Now()
	await(t, "the command to be sent", func() bool {
		_, err := w.Execute(t.Context(), putUnits("a", 1))
		t.Logf("the command: %v", err)
		// Its caller may have been told that the outcome is unknown; where its stream could not be read in time, nothing was sent.
		return err == nil || errors.Is(err, es.ErrOutcomeUnknown)
	})
	await(t, "the command to be in the log", func() bool { return b.units(t, "a") > 0 })
	if n, took := b.units(t, "a"), time.Since(began); n != 1 || took < timeout {
		t.Errorf("%d units after %s, want 1", n, took)
	}
}

func TestABatchIsBounded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var largest atomic.Int64
	w := b.writer(t, connect(t, b.env.DatabaseURL), func(o *WriterOptions) {
		o.MaxBatchEvents = 10
		o.OnAppend = func(events []es.Event) { largest.Store(max(largest.Load(), int64(len(events)))) }
	})
	execute(t, w, putUnits("a", 1))
	var commands []es.Command
	for range 100 {
		commands = append(commands, putUnits("a", 1))
	}
	for _, c := range submit(t, w, commands...) {
		<-c.done
		if c.errs[0] != nil {
			t.Error(c.errs[0])
		}
	}
	if n := largest.Load(); n > 10 {
		t.Errorf("a batch had %d events, want at most 10", n)
	}
}

// Another process's clock is a day ahead: the log's times do not go back, but this process decides by its own.
func TestARivalsClockIsNotOurs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	ahead := b.writer(t, connect(t, b.env.DatabaseURL), func(o *WriterOptions) { o.Now = func() time.Time { return time.Now().Add(24 * time.Hour) } })
	execute(t, ahead, putUnits("a", 1))
	w := b.writer(t, b.pool)
	s := units.Stream("a")
	var now time.Time
	execute(t, w, es.Command{Name: "look", Streams: []string{s.Name()}, Decide: func(d *es.Decision) error {
		if _, err := es.State(d, s); err != nil {
			return err
		}
		now = d.Now
		es.Append(d, s, put{1})
		return nil
	}})
	if time.Until(now) > time.Minute {
		t.Errorf("a decision was taken at %s, tomorrow", now)
	}
	b.readWhole(t)
}

// Nothing comes back, and the connection stands: newcomers are refused soon.
func TestASilentServerIsNoticed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p, tapped := newTap(t, b.env.DatabaseURL)
	w := b.writer(t, connect(t, tapped))
	execute(t, w, putUnits("a", 1))
	p.swallow.Store(true)
	done := make(chan error, 1)
	go func() {
		_, err := w.Execute(t.Context(), putUnits("a", 1))
		done <- err
	}()
	<-p.swallowed
	start := time.Now()
	await(t, "newcomers to be refused", func() bool { return w.Down() != nil })
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("that took %s", d)
	}
	p.swallow.Store(false)
	p.cut()
	<-done
	await(t, "the writer to take commands again", func() bool { return w.Down() == nil })
}

// What another server has behind the head is not taken for what follows, if it lacks the event at the head.
func TestEventsBehindAnotherHeadAreNotFollowed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.writer(t, b.pool)
	execute(t, w, putUnits("a", 1))
	head := execute(t, w, putUnits("a", 1)).Position
	const table = `events_0000000000000000001`
	for _, statement := range []string{`ALTER TABLE %s DISABLE TRIGGER append_only`, `UPDATE %s SET batch = gen_random_uuid() WHERE position = ` + fmt.Sprint(head)} {
		if _, err := b.pool.Exec(t.Context(), fmt.Sprintf(statement, table)); err != nil {
			t.Fatal(err)
		}
	}
	execute(t, b.writer(t, connect(t, b.env.DatabaseURL)), putUnits("b", 1))
	if n, _, err := w.catchUpPage(t.Context(), uuid.Nil, 0); n != 0 || err != nil {
		t.Errorf("%d events were followed, %v; want none", n, err)
	}
	execute(t, w, putUnits("b", 1)) // which starts anew
	if n := b.units(t, "b"); n != 2 {
		t.Errorf("%d units, want 2", n)
	}
}
