package postgres

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

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
