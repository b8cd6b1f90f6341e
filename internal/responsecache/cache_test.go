package responsecache_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
	"github.com/millrace/millrace/internal/responsecache"
)

const patience = 30 * time.Second

// stores are a log in memory, and read models of "goods" and "levels" that can be switched.
type stores struct {
	mu         sync.Mutex
	events     []es.Event
	changed    chan struct{}
	sure       time.Time // when the log was asked for its end, zero: just now
	generation int
}

func newStores() *stores { return &stores{changed: make(chan struct{}), generation: 1} }

// happen appends an event.
func (s *stores) happen(stream, eventType string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, es.Event{Position: int64(len(s.events) + 1), Stream: stream, Type: eventType})
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *stores) Head() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.events))
}

func (s *stores) Confirmed() (int64, time.Time, bool) {
	head := s.Head()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sure.IsZero() {
		return head, time.Now(), false
	}
	return head, s.sure, false
}

func (s *stores) Follow(ctx context.Context, after int64, do func([]es.Event) error) error {
	for {
		s.mu.Lock()
		events, changed := s.events[after:], s.changed
		s.mu.Unlock()
		if len(events) > 0 {
			if err := do(events); err != nil {
				return err
			}
			after += int64(len(events))
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *stores) Wants(projection, eventType string) bool {
	return projection == "goods" && eventType == "good.changed" || projection == "levels" && eventType == "level.changed"
}

func (s *stores) Shows(r projector.Reading) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range r.Models {
		if p.Generation != s.generation {
			return false
		}
	}
	return true
}

// locked changes the stores.
func (s *stores) locked(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// shelf is where the processes of a test share entries.
type shelf struct {
	mu     sync.Mutex
	values map[[32]byte][]byte
}

func (s *shelf) Get(_ context.Context, key [32]byte) ([]byte, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, ok := s.values[key]
	return value, ok
}

func (s *shelf) Put(_ context.Context, key [32]byte, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.values[key] = value
}

func (s *shelf) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.values)
}

// run returns a cache that runs until the test ends.
func run(t *testing.T, s *stores, o responsecache.Options) *responsecache.Cache {
	t.Helper()
	o.Feed, o.Models, o.Projections = s, s, []string{"goods", "levels"}
	c, err := responsecache.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

// reader answers with the number of its reading, from what a test says.
type reader struct {
	n    atomic.Int64
	note func(ctx context.Context)
}

func (r *reader) fill(ctx context.Context) responsecache.Filled {
	if r.note != nil {
		r.note(ctx)
	}
	return responsecache.Filled{Body: fmt.Append(nil, r.n.Add(1)), Whole: true}
}

var key = responsecache.Key{1}

func do(t *testing.T, c *responsecache.Cache, fill responsecache.Fill) responsecache.Answer {
	t.Helper()
	a, err := c.Do(t.Context(), key, fill)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// await asks until the condition holds.
func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited for %s", what)
		case <-tick.C:
		}
	}
}

// TestWhatOutdatesAnAnswer reads an answer once, lets something happen, and looks whether it is read again.
func TestWhatOutdatesAnAnswer(t *testing.T) {
	t.Parallel()
	whole := func(ctx context.Context) { projector.Note(ctx, "goods", 1) }
	streams := func(ctx context.Context) { projector.Note(ctx, "goods", 1, "good-1", "good-2") }
	for name, c := range map[string]struct {
		note    func(ctx context.Context)
		happens func(s *stores)
		anew    bool
	}{
		"nothing":                            {whole, func(*stores) {}, false},
		"an event that the model wants":      {whole, func(s *stores) { s.happen("good-9", "good.changed") }, true},
		"one that it does not want":          {whole, func(s *stores) { s.happen("good-1", "good.seen") }, false},
		"one that only another model wants":  {whole, func(s *stores) { s.happen("level-1", "level.changed") }, false},
		"an event of a stream that was read": {streams, func(s *stores) { s.happen("good-2", "good.changed") }, true},
		"of one that was not":                {streams, func(s *stores) { s.happen("good-3", "good.changed") }, false},
		"many of others":                     {streams, func(s *stores) { many(s, "other-%d", 5000) }, false},
		"another generation":                 {streams, func(s *stores) { s.locked(func() { s.generation = 2 }) }, true},
		"nothing was read, and all happens":  {nil, func(s *stores) { s.happen("good-1", "good.changed"); s.happen("level-1", "level.changed") }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStores()
			s.happen("good-1", "good.changed")
			s.happen("good-2", "good.changed")
			cache, r := run(t, s, responsecache.Options{}), &reader{note: c.note}
			await(t, "a kept answer", func() bool { return do(t, cache, r.fill).State == responsecache.Hit })
			before := r.n.Load()
			c.happens(s)
			if c.anew {
				await(t, "it to be read anew", func() bool { do(t, cache, r.fill); return r.n.Load() > before })
				return
			}
			// What is touched afterwards proves that what happened before has been seen.
			other := &reader{note: func(ctx context.Context) { projector.Note(ctx, "levels", 1, "level-7") }}
			ask := func() responsecache.Answer {
				a, err := cache.Do(t.Context(), responsecache.Key{2}, other.fill)
				if err != nil {
					t.Fatal(err)
				}
				return a
			}
			await(t, "the other to be kept", func() bool { return ask().State == responsecache.Hit })
			read := other.n.Load()
			s.happen("level-7", "level.changed")
			await(t, "the other to be read anew", func() bool { ask(); return other.n.Load() > read })
			if a := do(t, cache, r.fill); r.n.Load() != before {
				t.Errorf("it was read anew: %s", a.Body)
			}
		})
	}
}

// many lets events of many streams happen.
func many(s *stores, stream string, n int) {
	for i := range n {
		s.happen(fmt.Sprintf(stream, i), "good.changed")
	}
}

// TestWhatIsNotKept reads answers that must not be kept: each time they are read again.
func TestWhatIsNotKept(t *testing.T) {
	t.Parallel()
	plain := func(context.Context) responsecache.Filled {
		return responsecache.Filled{Body: []byte("x"), Whole: true}
	}
	for name, fill := range map[string]responsecache.Fill{
		"errors": func(context.Context) responsecache.Filled { return responsecache.Filled{Body: []byte("x")} },
		"too long": func(context.Context) responsecache.Filled {
			return responsecache.Filled{Body: make([]byte, 101), Whole: true}
		},
		"another model": func(ctx context.Context) responsecache.Filled { projector.Note(ctx, "orders", 1); return plain(ctx) },
		"two generations": func(ctx context.Context) responsecache.Filled {
			projector.Note(ctx, "goods", 1, "good-1")
			projector.Note(ctx, "goods", 2, "good-2")
			return plain(ctx)
		},
		"a model that is behind": func(ctx context.Context) responsecache.Filled { projector.Late(ctx); return plain(ctx) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cache := run(t, newStores(), responsecache.Options{EntryBytes: 100})
			for range 5 {
				if a := do(t, cache, fill); a.State != responsecache.Read {
					t.Fatalf("the state is %v", a.State)
				}
			}
		})
	}
}

// TestStampede has many ask for one answer at once, some of whom give up.
func TestStampede(t *testing.T) {
	t.Parallel()
	const askers = 100
	cache := run(t, newStores(), responsecache.Options{})
	var r reader
	gate, entered := make(chan struct{}), make(chan struct{})
	fill := func(ctx context.Context) responsecache.Filled {
		close(entered)
		select {
		case <-gate:
		case <-ctx.Done():
			t.Error("the reading was cancelled")
		}
		return r.fill(ctx)
	}
	first, giveUp := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() {
		_, err := cache.Do(first, key, fill)
		gone <- err
	}()
	<-entered
	giveUp() // who began it does not want it any more
	if err := <-gone; err == nil {
		t.Error("who has given up was answered")
	}
	var all sync.WaitGroup
	var started atomic.Int64
	for range askers {
		all.Go(func() {
			started.Add(1)
			a, err := cache.Do(t.Context(), key, r.fill)
			if err != nil || string(a.Body) != "1" {
				t.Errorf("%q %v", a.Body, err)
			}
		})
	}
	await(t, "all to ask", func() bool { return started.Load() == askers })
	close(gate)
	all.Wait()
	if n := r.n.Load(); n != 1 {
		t.Errorf("it was read %d times", n)
	}
}

// TestOldAnswers takes the stores away: what was kept is served for a bounded time, and only then.
func TestOldAnswers(t *testing.T) {
	t.Parallel()
	const bound = 2 * time.Second
	s := newStores()
	cache := run(t, s, responsecache.Options{Stale: bound})
	r := reader{note: func(ctx context.Context) { projector.Note(ctx, "goods", 1) }}
	await(t, "a kept answer", func() bool { return do(t, cache, r.fill).State == responsecache.Hit })
	away := func(context.Context) responsecache.Filled {
		return responsecache.Filled{Body: []byte("away"), Away: true}
	}
	broken := func(context.Context) responsecache.Filled { return responsecache.Filled{Body: []byte("broken")} }
	s.locked(func() { s.sure = time.Now() })
	began := time.Now()
	await(t, "the answer to be old", func() bool { return do(t, cache, broken).State != responsecache.Hit })
	if a := do(t, cache, broken); string(a.Body) != "broken" {
		t.Errorf("an error of another kind was hidden: %q", a.Body)
	}
	if a := do(t, cache, away); time.Since(began) < bound && (a.State != responsecache.Old || string(a.Body) == "away") {
		t.Errorf("%v %q", a.State, a.Body)
	}
	await(t, "the answer to be too old", func() bool { return string(do(t, cache, away).Body) == "away" })
	if took := time.Since(began); took < bound-responsecache.Grace {
		t.Errorf("it was served for %v only", took)
	}
}

// TestSharedEntries has a second process find what a first has left, unless it is outdated or nothing is known of that.
func TestSharedEntries(t *testing.T) {
	t.Parallel()
	s, shared := newStores(), &shelf{values: map[[32]byte][]byte{}}
	s.happen("good-1", "good.changed")
	r := reader{note: func(ctx context.Context) { projector.Note(ctx, "goods", 1, "good-1") }}
	first := run(t, s, responsecache.Options{Shared: shared})
	await(t, "an entry to be shared", func() bool { do(t, first, r.fill); return shared.len() > 0 })
	began := r.n.Load()

	second := run(t, s, responsecache.Options{Shared: shared})
	await(t, "what the first has read", func() bool { return do(t, second, r.fill).State == responsecache.Hit })
	left, _ := shared.Get(t.Context(), key)

	s.happen("good-1", "good.changed")
	await(t, "the first to read it anew, and to share that", func() bool {
		do(t, first, r.fill)
		now, _ := shared.Get(t.Context(), key)
		return r.n.Load() > began && !bytes.Equal(now, left)
	})
	shared.Put(t.Context(), key, left) // as if it came late
	third, before := run(t, s, responsecache.Options{Shared: shared}), r.n.Load()
	if a := do(t, third, r.fill); r.n.Load() == before {
		t.Errorf("an outdated entry was served: %q", a.Body)
	}
	// Of more streams than it remembers a process knows nothing for certain.
	many(s, "good-x%d", 50)
	forgetful, before := run(t, s, responsecache.Options{Shared: shared, Streams: 10}), r.n.Load()
	shared.Put(t.Context(), key, left)
	if a := do(t, forgetful, r.fill); r.n.Load() == before {
		t.Errorf("an entry of which nothing is known was served: %q", a.Body)
	}
}
