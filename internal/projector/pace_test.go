package projector

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestEventsGatherWhileBatchesTakeLong(t *testing.T) {
	for _, c := range []struct {
		name    string
		batches int
		took    time.Duration
		then    time.Duration // what one more batch takes, 0 for none
		events  int           // of the last one
		rests   func(time.Duration) bool
	}{
		{"quick ones", 100, 2 * time.Millisecond, 0, 10, func(d time.Duration) bool { return d == 0 }},
		{"as long as they may", 1000, easily, 0, 10, func(d time.Duration) bool { return d == 0 }},
		{"a slow one among quick ones", 100, 2 * time.Millisecond, 500 * time.Millisecond, 10, func(d time.Duration) bool { return d == 0 }},
		{"slow ones", 100, 8 * time.Millisecond, 0, 10, func(d time.Duration) bool { return d > 15*time.Millisecond && d < restMost }},
		{"very slow ones", 100, time.Second, 0, 10, func(d time.Duration) bool { return d == restMost }},
		{"slow ones of a runner that is behind", 100, time.Second, 0, liveBatch, func(d time.Duration) bool { return d == 0 }},
		{"quick ones after slow ones", 100, time.Second, time.Millisecond, 10, func(d time.Duration) bool { return d == restMost }},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p pace
			for range c.batches {
				p.folded(c.events, c.took)
			}
			if c.then > 0 {
				p.folded(c.events, c.then)
			}
			if !c.rests(p.next) {
				t.Errorf("rests for %s after batches that take %s", p.next, p.usual)
			}
		})
	}
}

func TestARestEndsByItself(t *testing.T) {
	var p pace
	for range 100 {
		p.folded(1, time.Second)
	}
	for batches := 0; p.next > 0; batches++ {
		if p.folded(1, time.Millisecond); batches > 3*paceOver {
			t.Fatalf("still rests for %s after %d quick batches", p.next, batches)
		}
	}
}

func TestARestIsOnceAfterABatchAndEndsWithTheRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func() (p pace) {
			for range 100 {
				p.folded(1, time.Second)
			}
			return p
		}
		p, began := slow(), time.Now()
		p.rest(t.Context())
		p.rest(t.Context())
		if rested := time.Since(began); rested != restMost {
			t.Errorf("rested for %s, not %s", rested, restMost)
		}
		p, began = slow(), time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		p.rest(ctx)
		if rested := time.Since(began); rested != 0 {
			t.Errorf("rested for %s when it was to stop", rested)
		}
	})
}
