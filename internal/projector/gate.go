package projector

import (
	"context"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// gateWidth is how many steps of a rebuild, reading a page or folding it into a store, may run at once while the shop is calm.
	gateWidth = 16
	// busyShop is from how many events a second on a shop counts as busy.
	busyShop  = 100
	gateWatch = 250 * time.Millisecond
)

// gate keeps a rebuild from taking all processors while commands are executed: on a busy shop one step runs at a time, here or, for
// it, in a server, and then nothing for as long as the step took. How busy it is shows in how fast the log grows.
type gate struct {
	steps *semaphore.Weighted
	busy  atomic.Bool
	free  atomic.Bool // somebody waits for the rebuild: it does not hold back
}

func newGate() *gate { return &gate{steps: semaphore.NewWeighted(gateWidth)} }

// step runs one step when there is room for it.
func (g *gate) step(ctx context.Context, do func() error) error {
	width, busy := int64(1), g.busy.Load() && !g.free.Load()
	if busy {
		width = gateWidth
	}
	if err := g.steps.Acquire(ctx, width); err != nil {
		return err
	}
	defer g.steps.Release(width)
	began := time.Now()
	err := do()
	if busy {
		rest := time.NewTimer(min(time.Since(began), gateWatch))
		defer rest.Stop()
		select {
		case <-rest.C:
		case <-ctx.Done():
		}
	}
	return err
}

// watch finds out, until ctx ends, whether the shop is busy. A log that cannot be read tells nothing new.
func (g *gate) watch(ctx context.Context, log Log) {
	ticker := time.NewTicker(gateWatch)
	defer ticker.Stop()
	var last int64
	var at time.Time
	for {
		if head, err := log.Head(ctx); err == nil {
			now := time.Now()
			if !at.IsZero() {
				g.busy.Store(float64(head-last) >= busyShop*now.Sub(at).Seconds())
			}
			last, at = head, now
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
