package postgres

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/internal/es"
)

func withKey(c es.Command, key, request string) es.Command {
	c.Idempotency = &es.Idempotency{Key: hashOf(key), Request: hashOf(request), Streams: []string{"units-a"}}
	return c
}

func hashOf(text string) es.Hash { return sha256.Sum256([]byte(text)) }

func TestOneKeyHasOneEffect(t *testing.T) {
	t.Parallel()
	b := setup(t)
	writers := []*Writer{b.writer(t, b.pool), b.writer(t, connect(t, b.env.DatabaseURL))}
	execute(t, writers[0], putUnits("a", 100))
	var mu sync.Mutex
	positions := map[int64]int{}
	replayed := 0
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			outcome, err := writers[i%2].Execute(t.Context(), withKey(takeUnits(1, "a"), "key", "request"))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			positions[outcome.Position]++
			if outcome.Replayed {
				replayed++
			}
		})
	}
	wg.Wait()
	if len(positions) != 1 || replayed != 39 || b.units(t, "a") != 99 {
		t.Fatalf("answers at %v, %d of them replayed, %d units left; want one position, 39, 99", positions, replayed, b.units(t, "a"))
	}
}

// The streams of a key come back as they were, be there many, strange ones or none.
func TestTheStreamsOfAKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second := b.writer(t, b.pool), b.writer(t, connect(t, b.env.DatabaseURL))
	for i, streams := range [][]string{nil, {"units-a"}, {`units-"b",{}\`, "units-ä", ""}} {
		c := withKey(putUnits("a", 1), fmt.Sprint(i), "request")
		c.Idempotency.Streams = streams
		want := execute(t, first, c)
		got := execute(t, second, c)
		if !got.Replayed || got.Position != want.Position || !slices.Equal(got.Streams, streams) {
			t.Errorf("streams %q: got %+v, want a replay of %+v", streams, got, want)
		}
	}
}

func TestAKeyIsForOneRequest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second := b.writer(t, b.pool), b.writer(t, connect(t, b.env.DatabaseURL))
	execute(t, first, putUnits("a", 3))
	execute(t, first, withKey(takeUnits(1, "a"), "key", "request"))
	var conflict *es.IdempotencyConflictError
	for _, w := range []*Writer{first, second} {
		if _, err := w.Execute(t.Context(), withKey(takeUnits(2, "a"), "key", "another request")); !errors.As(err, &conflict) {
			t.Fatalf("got %v, want a conflict", err)
		}
	}
}

func TestARefusalLeavesNoRecord(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.writer(t, b.pool)
	if _, err := w.Execute(t.Context(), withKey(takeUnits(1, "a"), "key", "request")); !errors.Is(err, errNotEnough) {
		t.Fatalf("got %v, want a refusal", err)
	}
	execute(t, w, putUnits("a", 1))
	if outcome := execute(t, w, withKey(takeUnits(1, "a"), "key", "request")); outcome.Replayed {
		t.Fatal("a refusal was taken for an effect")
	}
}

// The rival's use of the key is why this process would refuse: the answer is the rival's, not the refusal.
func TestARetryAtAnotherProcessGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second := b.writer(t, b.pool), b.writer(t, connect(t, b.env.DatabaseURL))
	execute(t, first, putUnits("a", 1))
	// The second process looks the key up before the first uses it.
	if _, err := second.Execute(t.Context(), withKey(takeUnits(2, "a"), "key", "request")); !errors.Is(err, errNotEnough) {
		t.Fatalf("got %v, want a refusal", err)
	}
	want := execute(t, first, withKey(takeUnits(1, "a"), "key", "request"))
	got := execute(t, second, withKey(takeUnits(1, "a"), "key", "request"))
	if !got.Replayed || got.Position != want.Position {
		t.Fatalf("got %+v, want a replay of %+v", got, want)
	}
}

// look has nothing to do if there are as many units as it expects.
func look(id string, want int) es.Command {
	s := units.Stream(id)
	return es.Command{Name: "look", Streams: []string{s.Name()}, Decide: func(d *es.Decision) error {
		have, err := es.State(d, s)
		if err != nil || have == want {
			return err
		}
		es.Append(d, s, put{want - have})
		return nil
	}}
}

// A command that had nothing to do must find nothing to do when it is repeated, whatever has happened meanwhile.
func TestAKeyIsKeptOfACommandThatHadNothingToDo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	writers := []*Writer{b.writer(t, b.pool), b.writer(t, connect(t, b.env.DatabaseURL))}
	execute(t, writers[0], putUnits("a", 2))
	var mu sync.Mutex
	positions, first := map[int64]bool{}, 0
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			outcome, err := writers[i%2].Execute(t.Context(), withKey(look("a", 2), "key", "request"))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			positions[outcome.Position] = true
			if !outcome.Replayed {
				first++
			}
		})
	}
	wg.Wait()
	if len(positions) != 1 || !positions[1] || first != 1 {
		t.Fatalf("answers at %v, %d of them the first", positions, first)
	}
	execute(t, writers[0], putUnits("a", 5))
	for _, w := range append(writers, b.writer(t, b.pool)) {
		if outcome := execute(t, w, withKey(look("a", 2), "key", "request")); !outcome.Replayed || outcome.Position != 1 {
			t.Fatalf("the repetition ended with %+v", outcome)
		}
	}
	if n := b.units(t, "a"); n != 7 {
		t.Fatalf("%d units, want 7", n)
	}
}

// One of many commands that are committed together has a key that a rival has used: that one gets its answer, the others are
// committed at once and together, and none of them reads anything again.
func TestADuplicateKeySendsBackItsOwnCommand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var batches atomic.Int64
	option, value := measured()
	w := b.writer(t, b.pool, option, func(o *WriterOptions) { o.OnAppend = func([]es.Event) { batches.Add(1) } })
	rival := b.writer(t, connect(t, b.env.DatabaseURL))
	execute(t, w, putUnits("a", 100))
	for _, key := range []string{"used", "new 1", "new 2"} { // both have looked for all of them
		if _, err := w.Execute(t.Context(), withKey(takeUnits(1000, "a"), key, "request")); !errors.Is(err, errNotEnough) {
			t.Fatal(err)
		}
	}
	want := execute(t, rival, withKey(takeUnits(1, "a"), "used", "request"))
	for range 2 * crowdedFor { // it knows the rival's events, and not that they were for this key, and takes no turns any more
		execute(t, w, putUnits("b", 1))
	}
	execute(t, w, putUnits("a", 1))
	w.mu.Lock()
	for _, key := range []string{"used", "new 1", "new 2"} {
		w.states.unused.Add(hashOf(key), unusedKey{position: 1})
	}
	loads := w.loads
	w.mu.Unlock()
	batches.Store(0)
	lost, turns := value(t, "lost_rounds_total"), value(t, "turns_total")
	calls := submit(t, w, withKey(takeUnits(1, "a"), "new 1", "request"), withKey(takeUnits(1, "a"), "used", "request"), putUnits("a", 1),
		withKey(takeUnits(1, "a"), "new 2", "request"), withKey(takeUnits(1, "a"), "new 2", "another"))
	for i, c := range calls {
		<-c.done
		var conflict *es.IdempotencyConflictError
		if i == 4 && !errors.As(c.errs[0], &conflict) || i != 4 && c.errs[0] != nil {
			t.Errorf("command %d: %v", i, c.errs[0])
		}
		if got := c.outcomes[0]; i != 4 && got.Replayed != (i == 1) || i == 1 && got.Position != want.Position {
			t.Errorf("command %d ended with %+v", i, got)
		}
	}
	if lost, turns := value(t, "lost_rounds_total")-lost, value(t, "turns_total")-turns; lost != 1 || turns != 1 {
		t.Errorf("%v rounds were lost and %v turns taken, want 1 each", lost, turns)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if batches.Load() != 1 || w.loads != loads {
		t.Errorf("%d batches and %d readings, want 1 and 0", batches.Load(), w.loads-loads)
	}
	if n := b.units(t, "a"); n != 99 {
		t.Errorf("%d units, want 99", n)
	}
}

// A command that would have been done, or answered as before, is not in the batch any more, as a rival got there first: what was decided on its
// effect, or its key, is decided again.
func TestWhatRestsOnAKeyIsDecidedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, rival := b.writer(t, b.pool), b.writer(t, connect(t, b.env.DatabaseURL))
	for _, id := range []string{"freed", "sold out"} {
		execute(t, w, putUnits(id, 10))
	}
	for range 2 * crowdedFor { // it takes no turns any more
		execute(t, w, putUnits("unconcerned", 1))
	}
	used := execute(t, rival, withKey(putUnits("rival's", 1), "used", "request"))
	execute(t, rival, takeUnits(10, "sold out"))
	w.mu.Lock()
	for _, key := range []string{"used", "twice", "conflict", "nothing to do"} {
		w.states.unused.Add(hashOf(key), unusedKey{position: w.head})
	}
	w.mu.Unlock()
	refused, done := func(c *call) bool { return errors.Is(c.errs[0], errNotEnough) }, func(c *call) bool { return c.errs[0] == nil && c.outcomes[0].Events == 1 }
	cases := []struct {
		what    string
		command es.Command
		want    func(*call) bool
	}{
		{"a command whose key was used", withKey(takeUnits(10, "freed"), "used", "request"),
			func(c *call) bool {
				return c.errs[0] == nil && c.outcomes[0].Replayed && c.outcomes[0].Position == used.Position
			}},
		{"what had nothing left by it", takeUnits(10, "freed"), done},
		{"a command that is too late", withKey(takeUnits(10, "sold out"), "twice", "request"), refused},
		{"its repetition", withKey(takeUnits(10, "sold out"), "twice", "request"), refused},
		{"another that is too late", withKey(takeUnits(10, "sold out"), "conflict", "request"), refused},
		{"a command with its key", withKey(putUnits("apart", 1), "conflict", "another request"), done},
		{"a command that had nothing to do", withKey(look("freed", 0), "nothing to do", "request"),
			func(c *call) bool { return c.errs[0] == nil && c.outcomes[0].Events == 0 && !c.outcomes[0].Replayed }},
	}
	var commands []es.Command
	for _, c := range cases {
		commands = append(commands, c.command)
	}
	for i, c := range submit(t, w, commands...) {
		<-c.done
		if !cases[i].want(c) {
			t.Errorf("%s ended with %+v, %v", cases[i].what, c.outcomes[0], c.errs[0])
		}
	}
	b.readWhole(t)
	b.holds(t, map[string]int{"freed": 0, "sold out": 0, "apart": 1})
	for key, want := range map[string]bool{"conflict": true, "nothing to do": true, "used": true, "twice": false} {
		var recorded bool
		hash := hashOf(key)
		if err := b.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM idempotency WHERE key = $1)`, hash[:]).Scan(&recorded); err != nil || recorded != want {
			t.Errorf("key %q: recorded %t, %v", key, recorded, err)
		}
	}
}

// A key is good for one effect in the time for which it is kept, and then for another, in every process, whether anybody has cleaned up
// or not.
func TestAKeyMayBeUsedAnewOnceItWasKept(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const kept = time.Minute
	writers := make([]*Writer, 3)
	for i := range writers {
		writers[i] = b.writer(t, connect(t, b.env.DatabaseURL), func(o *WriterOptions) { o.KeepKeys = kept })
	}
	execute(t, writers[0], putUnits("a", 10))
	first := execute(t, writers[0], withKey(takeUnits(1, "a"), "key", "request"))
	age := func(by time.Duration) {
		t.Helper()
		if _, err := b.pool.Exec(t.Context(), `UPDATE idempotency SET created_at = now() - $1::interval`, by); err != nil {
			t.Fatal(err)
		}
		for _, w := range writers { // what they remember ages with it
			w.mu.Lock()
			if record, ok := w.states.used.Peek(hashOf("key")); ok {
				record.until = time.Now().Add(kept - by)
				w.states.used.Add(hashOf("key"), record)
			}
			w.mu.Unlock()
		}
	}
	repeated := func(want es.Outcome) {
		t.Helper()
		for i, w := range writers {
			if got := execute(t, w, withKey(takeUnits(1, "a"), "key", "request")); !got.Replayed || got.Position != want.Position {
				t.Fatalf("process %d was told %+v, want the answer at %d", i, got, want.Position)
			}
		}
	}
	repeated(first)
	age(kept - 20*time.Second)
	repeated(first)
	age(kept)
	second := execute(t, writers[1], withKey(takeUnits(1, "a"), "key", "another request"))
	if second.Replayed || second.Position == first.Position {
		t.Fatalf("the old answer was given again: %+v", second)
	}
	var conflict *es.IdempotencyConflictError
	for i, w := range writers {
		if _, err := w.Execute(t.Context(), withKey(takeUnits(1, "a"), "key", "request")); !errors.As(err, &conflict) {
			t.Fatalf("process %d: %v, want a conflict", i, err)
		}
		if got := execute(t, w, withKey(takeUnits(1, "a"), "key", "another request")); !got.Replayed || got.Position != second.Position {
			t.Fatalf("process %d was told %+v, want the answer at %d", i, got, second.Position)
		}
	}
	// All at once, at the very moment when it may be used again.
	age(kept)
	var anew atomic.Int64
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			outcome, err := writers[i%3].Execute(t.Context(), withKey(takeUnits(1, "a"), "key", "third"))
			if err != nil {
				t.Error(err)
			} else if !outcome.Replayed {
				anew.Add(1)
			}
		})
	}
	wg.Wait()
	if n := b.units(t, "a"); anew.Load() != 1 || n != 7 {
		t.Fatalf("%d effects, %d units left; want 1 and 7", anew.Load(), n)
	}
}

// A turn may wait in line for long: its keys are kept from when they were used, as this process remembers them, not from when the waiting began.
func TestAKeyIsKeptFromWhenItWasUsed(t *testing.T) {
	t.Parallel()
	for name, n := range map[string]int{"inserted": 1, "copied": copyFrom} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keysAreKept(t, n)
		})
	}
}

// keysAreKept uses n keys in a turn that had to wait.
func keysAreKept(t *testing.T, n int) {
	b := setup(t)
	w, rival := b.writer(t, connect(t, b.env.DatabaseURL)), b.writer(t, connect(t, b.env.DatabaseURL))
	execute(t, w, putUnits("a", 1))
	execute(t, rival, putUnits("a", 1))
	execute(t, w, putUnits("a", 1)) // from now on it takes turns
	const barrier = 1
	begin := func(lock string, args ...any) pgx.Tx {
		t.Helper()
		tx, err := connect(t, b.env.DatabaseURL).Begin(t.Context())
		if err == nil {
			_, err = tx.Exec(t.Context(), `SELECT pg_advisory_xact_lock(`+lock+`)`, args...)
		}
		if err != nil {
			t.Fatal(err)
		}
		return tx
	}
	closed, inTurn := begin(`$1`, barrier), begin(appendLock)
	ended := make(chan error, 1)
	go func() { // who has the turn is at work, not silent
		_, err := inTurn.Exec(t.Context(), `SELECT pg_advisory_xact_lock($1)`, barrier)
		ended <- errors.Join(err, inTurn.Rollback(t.Context()))
	}()
	await(t, "the other process to be at work in its turn", func() bool { return b.waitingInLine(t) == 1 })
	var commands []es.Command
	for i := range n {
		commands = append(commands, withKey(putUnits("a", 1), fmt.Sprint("key-", i), "request"))
	}
	calls := submit(t, w, commands...)
	await(t, "this one to wait in line", func() bool { return b.waitingInLine(t) == 2 })
	var waited time.Time
	if err := b.pool.QueryRow(t.Context(), `SELECT clock_timestamp()`).Scan(&waited); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(closed.Rollback(t.Context()), <-ended); err != nil {
		t.Fatal(err)
	}
	succeed(t, calls)
	var records, batches int
	var recorded time.Time
	if err := b.pool.QueryRow(t.Context(), `SELECT count(*), min(created_at), (SELECT count(DISTINCT batch) FROM events WHERE position > 3) FROM idempotency`).
		Scan(&records, &recorded, &batches); err != nil {
		t.Fatal(err)
	}
	if records != n || batches != 1 {
		t.Errorf("%d keys in %d batches; want %d in one", records, batches, n)
	}
	if recorded.Before(waited) {
		t.Errorf("the key counts from %s before it was used", waited.Sub(recorded))
	}
}

// Three processes remove what is old at once, while somebody holds some of it: nobody waits, and what is young stays.
func TestOldKeysAreRemoved(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const old, young, held = 3*cleanBatch + 100, 50, 10
	insert := func(name string, n int, age time.Duration) {
		t.Helper()
		if _, err := b.pool.Exec(t.Context(), `INSERT INTO idempotency (key, request, streams, position, created_at)
			SELECT convert_to($1 || n, 'UTF8'), 'r', '{units-a}', 1, now() - $2::interval FROM generate_series(1, $3) AS n`, name, age, n); err != nil {
			t.Fatal(err)
		}
	}
	insert("old", old, time.Hour+time.Second)
	insert("young", young, time.Hour-time.Minute)
	tx, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), `SELECT FROM idempotency WHERE convert_from(key, 'UTF8') LIKE 'old%' ORDER BY created_at LIMIT $1 FOR UPDATE`, held); err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	var wg sync.WaitGroup
	var removed atomic.Int64
	for i := range 3 {
		w := NewWriter(b.log.On(connect(t, b.env.DatabaseURL)), WriterOptions{KeepKeys: time.Hour, Metrics: prometheus.WrapRegistererWith(
			prometheus.Labels{"process": strconv.Itoa(i)}, registry)})
		wg.Go(func() {
			if err := w.cleanOnce(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	left := func() (n int) {
		t.Helper()
		if err := b.pool.QueryRow(t.Context(), `SELECT count(*) FROM idempotency`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := left(); n != young+held {
		t.Errorf("%d records are left, want %d", n, young+held)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "millrace_idempotency_forgotten_total" {
			for _, m := range f.GetMetric() {
				removed.Add(int64(m.GetCounter().GetValue()))
			}
		}
	}
	if removed.Load() != old-held {
		t.Errorf("the metric says %d, want %d", removed.Load(), old-held)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.writer(t, b.pool, func(o *WriterOptions) {
		o.KeepKeys = time.Hour - 2*time.Minute
		o.CleanKeysEvery = 10 * time.Millisecond
	})
	await(t, "the rest to be removed", func() bool { return left() == 0 })
}
