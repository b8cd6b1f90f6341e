package postgres

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/internal/es"
)

// occupy puts an event of a rival behind the head, in a transaction that ends when the returned function is called: whoever appends there has to wait
// for that. The transaction itself waits in the server meanwhile, since one whose client is silent would be ended.
func (b *bundle) occupy(t *testing.T, id string) (end func(commit bool)) {
	t.Helper()
	pool := connect(t, b.env.DatabaseURL)
	gate, err := pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gate.Exec(t.Context(), `SELECT pg_advisory_lock(1)`); err != nil {
		t.Fatal(err)
	}
	tx, err := pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stream := units.Stream(id).Name()
	if _, err := tx.Exec(t.Context(), `
		INSERT INTO events (position, stream, version, type, data, metadata, occurred_at, recorded_at, partition, ordinal, batch)
		SELECT max(position) + 1, $1, 1, 'units.put', '{"N": 7}', '{}', now(), now(), $2::smallint, count(*) FILTER (WHERE partition = $2) + 1, $3
		FROM events`, stream, es.PartitionOf(stream, b.log.info.Partitions), uuid.New()); err != nil {
		t.Fatal(err)
	}
	ctx, through := context.WithoutCancel(t.Context()), make(chan error)
	go func() {
		_, err := tx.Exec(ctx, `SELECT pg_advisory_xact_lock(1)`)
		through <- err
	}()
	var once sync.Once
	end = func(commit bool) {
		once.Do(func() {
			_, unlocked := gate.Exec(ctx, `SELECT pg_advisory_unlock(1)`)
			gate.Release()
			finish := tx.Rollback
			if commit {
				finish = tx.Commit
			}
			if err := errors.Join(unlocked, <-through, finish(ctx)); err != nil {
				t.Error(err)
			}
		})
	}
	t.Cleanup(func() { end(false) })
	return end
}

// overlap has a batch of the first command wait in PostgreSQL, and the others decided on it meanwhile, which takes so many decisions.
func overlap(t *testing.T, w *Writer, decisions *atomic.Int64, first es.Command, n int64, others ...es.Command) (calls []*call) {
	t.Helper()
	calls = submit(t, w, counted(first, decisions))
	await(t, "the first command to be decided", func() bool { return decisions.Load() == 1 })
	for i := range others {
		others[i] = counted(others[i], decisions)
	}
	calls = append(calls, submit(t, w, others...)...)
	await(t, "the others to be decided", func() bool { return decisions.Load() == 1+n })
	return calls
}

// succeed waits for the calls, which are to succeed.
func succeed(t *testing.T, calls []*call) {
	t.Helper()
	for i, c := range calls {
		if <-c.done; c.errs[0] != nil {
			t.Errorf("command %d: %v", i, c.errs[0])
		}
	}
}

// A batch that waits in PostgreSQL does not keep the next one from being decided, on what it will have changed.
func TestTheNextBatchIsDecidedOnTheOneUnderWay(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.writer(t, b.pool)
	execute(t, w, putUnits("a", 1))
	execute(t, w, putUnits("b", 1))
	end := b.occupy(t, "rival")
	var decisions atomic.Int64
	calls := overlap(t, w, &decisions, withKey(putUnits("a", 4), "key", "request"), 3,
		takeUnits(5, "a"), putNew(3, "new"), withKey(putUnits("a", 4), "another key", "request"), withKey(putUnits("a", 4), "key", "request"))
	calls = append(calls, submit(t, w, takeUnits(1, "new"))...)
	end(false)
	succeed(t, calls)
	if o := calls[4].outcomes[0]; !o.Replayed || o.Position != calls[0].outcomes[0].Position {
		t.Errorf("the repetition of a command that was under way came to %+v, the command to %+v", o, calls[0].outcomes[0])
	}
	b.holds(t, map[string]int{"a": 4, "b": 1, "new": 2})
	b.readWhole(t)
}

// A refusal that rests on what is under way is given when that is in the log.
func TestARefusalWaitsForWhatItRestsOn(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.writer(t, b.pool)
	execute(t, w, putUnits("a", 5))
	end := b.occupy(t, "rival")
	var decisions atomic.Int64
	calls := overlap(t, w, &decisions, takeUnits(3, "a"), 1, takeUnits(3, "a"))
	select {
	case <-calls[1].done:
		t.Errorf("a refusal was given before what it rests on: %v", calls[1].errs[0])
	default:
	}
	end(false)
	if <-calls[1].done; !errors.Is(calls[1].errs[0], errNotEnough) {
		t.Errorf("the second, for whom there is not enough: %v", calls[1].errs[0])
	}
	succeed(t, calls[:1])
	b.holds(t, map[string]int{"a": 2})
}

// Where a rival gets in before the batch under way, neither that nor what was decided on it is in the log: both are decided again.
func TestWhatWasDecidedOnALostBatchIsDecidedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.writer(t, b.pool)
	execute(t, w, putUnits("a", 1))
	end := b.occupy(t, "a rival's")
	var decisions atomic.Int64
	calls := overlap(t, w, &decisions, putNew(1, "a rival's"), 2, withKey(takeUnits(1, "a rival's"), "key", "request"), putUnits("a", 1))
	end(true)
	if <-calls[0].done; !errors.Is(calls[0].errs[0], errBegun) {
		t.Errorf("a presumption that the rival made wrong: %v", calls[0].errs[0])
	}
	succeed(t, calls[1:])
	b.holds(t, map[string]int{"a rival's": 6, "a": 2})
	b.readWhole(t)
}

// The connection breaks when two batches are in the log whose answers are not here: both are found there.
func TestTwoCommitsWhoseAnswersAreLostAreFoundInTheLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p, tapped := newTap(t, b.env.DatabaseURL)
	w := b.writer(t, connect(t, tapped), func(o *WriterOptions) { o.AppendTimeout = time.Minute })
	execute(t, w, putUnits("a", 1))
	p.swallow.Store(true)
	var decisions atomic.Int64
	calls := overlap(t, w, &decisions, putUnits("a", 1), 2, withKey(putUnits("a", 1), "key", "request"), putNew(1, "new"))
	await(t, "both batches to be committed", func() bool {
		head, err := b.log.Head(t.Context())
		return err == nil && head == 4
	})
	p.swallow.Store(false)
	p.cut()
	succeed(t, calls)
	await(t, "the writer to take commands again", func() bool { return w.Down() == nil })
	execute(t, w, putUnits("a", 1))
	b.holds(t, map[string]int{"a": 4, "new": 1})
	if n := decisions.Load(); n != 3 {
		t.Errorf("%d decisions of three commands that were committed", n)
	}
}

// A process that stops does not say of a batch that it may have sent that nothing has happened.
func TestStoppingLeavesBothBatchesInDoubt(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := NewWriter(b.log, WriterOptions{Categories: []*es.Category{units.Category}})
	ctx, stop := context.WithCancel(t.Context())
	stopped := make(chan error, 1)
	go func() { stopped <- w.Run(ctx) }()
	execute(t, w, putUnits("a", 1))
	b.occupy(t, "rival")
	var decisions atomic.Int64
	calls := overlap(t, w, &decisions, putUnits("a", 1), 1, putUnits("a", 1))
	stop()
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	for i, c := range calls {
		if <-c.done; !errors.Is(c.errs[0], es.ErrOutcomeUnknown) {
			t.Errorf("command %d, which may be in the log: %v", i, c.errs[0])
		}
	}
}

// Ends of the connection while nothing is under way, such as a restart of the server brings, are nobody's trouble.
func TestAPipelineThatWasCutIsOpenedAnew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	p, tapped := newTap(t, b.env.DatabaseURL)
	w := b.writer(t, connect(t, tapped))
	for range 3 {
		execute(t, w, putUnits("a", 1))
		p.cut()
	}
	execute(t, w, putUnits("a", 1))
	b.holds(t, map[string]int{"a": 4})
}

// doubts counts how often a writer did not know what had become of an append.
type doubts struct{ atomic.Int64 }

func (d *doubts) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("asking again")) {
		d.Add(1)
	}
	return len(line), nil
}

// A session that refuses every append is not kept.
func TestAPipelineIsNotKeptWhoseSessionIsOfNoUse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var readOnly, writable string
	if err := b.pool.QueryRow(t.Context(), `SELECT format('ALTER DATABASE %1$I SET default_transaction_read_only = on', current_database()),
		format('ALTER DATABASE %1$I SET default_transaction_read_only = off', current_database())`).Scan(&readOnly, &writable); err != nil {
		t.Fatal(err)
	}
	if _, err := b.pool.Exec(t.Context(), readOnly); err != nil {
		t.Fatal(err)
	}
	pool := connect(t, b.env.DatabaseURL)
	var doubted doubts
	w := b.writer(t, pool, func(o *WriterOptions) { o.Log = slog.New(slog.NewTextHandler(&doubted, nil)) })
	calls := submit(t, w, putUnits("a", 1))
	await(t, "an append to be refused", func() bool { return doubted.Load() > 0 })
	if _, err := b.pool.Exec(t.Context(), `SET default_transaction_read_only = off; `+writable); err != nil {
		t.Fatal(err)
	}
	pool.Reset()
	<-calls[0].done
	await(t, "the writer to take commands again", func() bool { return w.Down() == nil })
	before := doubted.Load()
	for range 5 {
		execute(t, w, putUnits("a", 1))
	}
	if n := doubted.Load() - before; n != 0 {
		t.Errorf("%d of five appends were refused at first", n)
	}
	b.holds(t, map[string]int{"a": 6})
}

// A state that is not what the log holds, whatever the reason, is found out by the log, and read again.
func TestAStateThatIsNotTheLogsIsReadAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.writer(t, b.pool)
	execute(t, w, putUnits("a", 1))
	execute(t, w, putUnits("a", 1))
	w.mu.Lock()
	name := units.Stream("a").Name()
	stale, _ := w.states.streams.Peek(name)
	stale.Version, stale.State = 1, 1
	w.states.put(name, stale)
	w.mu.Unlock()
	execute(t, w, putUnits("a", 1))
	b.holds(t, map[string]int{"a": 3})
}
