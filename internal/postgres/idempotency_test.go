package postgres

import (
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/internal/es"
)

func withKey(c es.Command, key, request string) es.Command {
	c.Idempotency = &es.Idempotency{Key: []byte(key), Request: []byte(request), Streams: []string{"units-a"}}
	return c
}

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
	w := b.writer(t, b.pool, func(o *WriterOptions) { o.OnAppend = func([]es.Event) { batches.Add(1) } })
	rival := b.writer(t, connect(t, b.env.DatabaseURL))
	execute(t, w, putUnits("a", 100))
	for _, key := range []string{"used", "new 1", "new 2"} { // both have looked for all of them
		if _, err := w.Execute(t.Context(), withKey(takeUnits(1000, "a"), key, "request")); !errors.Is(err, errNotEnough) {
			t.Fatal(err)
		}
	}
	want := execute(t, rival, withKey(takeUnits(1, "a"), "used", "request"))
	execute(t, w, putUnits("a", 1)) // it knows the rival's events, and not that they were for this key
	w.mu.Lock()
	for _, key := range []string{"used", "new 1", "new 2"} {
		w.states.unused.Add(key, unusedKey{position: 1})
	}
	loads := w.loads
	w.mu.Unlock()
	batches.Store(0)
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
	w.mu.Lock()
	defer w.mu.Unlock()
	if batches.Load() != 1 || w.loads != loads {
		t.Errorf("%d batches and %d readings, want 1 and 0", batches.Load(), w.loads-loads)
	}
	if n := b.units(t, "a"); n != 99 {
		t.Errorf("%d units, want 99", n)
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
			if record, ok := w.states.used.Peek("key"); ok {
				record.until = time.Now().Add(kept - by)
				w.states.used.Add("key", record)
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
