package bench

import (
	"context"
	"time"
)

// Target of idle-memory, in MiB.
const idleTarget = 150

// settle is how long a shop is left alone before its memory is read, and idleSamples how often it then is, once a second.
const (
	settle      = 10 * time.Second
	idleSamples = 5
)

// idleMemory measures a shop that has loaded its sample and that nobody uses: the process itself, with everything in it
// (NATS too), and without the servers that it has started.
func idleMemory(ctx context.Context, l *lab) ([]Figure, error) {
	s, err := l.shopOf(ctx, sampleShop)
	if err != nil {
		return nil, err
	}
	if err := wait(ctx, settle); err != nil {
		return nil, err
	}
	var samples []float64
	for range idleSamples {
		now, _, err := residentMemory(ctx, s.pid)
		if err != nil {
			return nil, err
		}
		samples = append(samples, now)
		if err := wait(ctx, time.Second); err != nil {
			return nil, err
		}
	}
	return []Figure{newFigure("idle-memory", median(samples), "MiB", Lower).aiming(idleTarget)}, nil
}

// wait returns after a while, or with the error of ctx.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}
