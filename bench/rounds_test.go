package bench

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func TestAlternateGivesBothSidesTheirRounds(t *testing.T) {
	t.Parallel()
	var working atomic.Int32 // both sides at once would be seen here
	operate := func(context.Context, int) error {
		defer working.Add(-1)
		if working.Add(1) > 1 {
			return errors.New("the sides run at the same time")
		}
		return nil
	}
	a := side{name: "a", callers: 1, operate: operate}
	b := side{name: "b", callers: 1, operate: operate}
	said := 0
	ofA, ofB, err := alternate(t.Context(), 55*time.Millisecond, a, b, func(string, ...any) { said++ })
	if err != nil {
		t.Fatal(err)
	}
	if len(ofA.rates) != pairs || len(ofB.rates) != pairs || said != 2*pairs {
		t.Errorf("%d and %d rounds, %d lines, want %d, %d, %d", len(ofA.rates), len(ofB.rates), said, pairs, pairs, 2*pairs)
	}
	if ofA.rate() <= 0 || len(ofA.latencies) == 0 || ofB.rate() <= 0 || len(ofB.latencies) == 0 {
		t.Errorf("nothing was measured: %v and %v", ofA.rate(), ofB.rate())
	}
}

func TestAlternateSaysWhoseOperationFailed(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	fine := side{name: "fine", callers: 2, operate: func(context.Context, int) error { return nil }}
	bad := side{name: "bad", callers: 2, operate: func(context.Context, int) error { return broken }}
	_, _, err := alternate(t.Context(), 50*time.Millisecond, fine, bad, func(string, ...any) {})
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "bad") {
		t.Errorf("got %v", err)
	}
}

func TestOpenLoopNumbersItsOperations(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	seen := make(map[int]int)
	n, err := openLoop(t.Context(), 1000, 100*time.Millisecond, func(_ context.Context, n int, _ time.Time) error {
		mu.Lock()
		defer mu.Unlock()
		seen[n]++
		return nil
	})
	if err != nil || n != 100 || len(seen) != n {
		t.Fatalf("%d operations with %d numbers (%v), want 100", n, len(seen), err)
	}
	for i := range n {
		if seen[i] != 1 {
			t.Errorf("%d operations are number %d", seen[i], i)
		}
	}
}
