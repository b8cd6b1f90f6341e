package bench

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/domain/inventory"
)

// Target of replay-busy: how many times as long as without a rebuild a command may take at the 99th percentile.
const busyTarget = 2

const (
	busyRate   = 2000 // commands of one event a second
	busyWarmUp = 2 * time.Second
	busyRounds = 3
)

// replayBusy measures how long commands take while all read models are rebuilt from the whole log, and while they are not.
func replayBusy(ctx context.Context, l *lab) (figures []Figure, err error) {
	s, err := l.longShop(ctx)
	if err != nil {
		return nil, err
	}
	c, err := openClient(ctx, l, s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	skus, err := c.openSKUs(ctx)
	if err != nil {
		return nil, err
	}
	var calm, busy []time.Duration
	for round := range busyRounds {
		alone, err := c.underLoad(ctx, skus, func(ctx context.Context) error { return wait(ctx, l.Duration/2) })
		if err != nil {
			return nil, err
		}
		beside, err := c.underLoad(ctx, skus, func(ctx context.Context) error {
			bounded, cancel := context.WithTimeout(ctx, replayTimeout)
			defer cancel()
			a, err := s.call(bounded, nil, "replay", "--all", "--json")
			if err == nil {
				l.say("  rebuilt in %.1f s", a.elapsed.Seconds())
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		l.say("  round %d of %d: p50 %.2f ms and p99 %.2f ms, while rebuilding %.2f ms and %.2f ms (%d commands)", round+1, busyRounds,
			milliseconds(percentile(alone, 50)), milliseconds(percentile(alone, 99)),
			milliseconds(percentile(beside, 50)), milliseconds(percentile(beside, 99)), len(beside))
		calm, busy = append(calm, alone...), append(busy, beside...)
	}
	return []Figure{
		newFigure("replay-busy-p50", milliseconds(percentile(busy, 50)), "ms", Lower).against(milliseconds(percentile(calm, 50))),
		newFigure("replay-busy-p99", milliseconds(percentile(busy, 99)), "ms", Lower).against(milliseconds(percentile(calm, 99))).aiming(busyTarget),
	}, nil
}

// underLoad does something while commands come in at their rate, and returns how long those took that were due meanwhile.
func (c *client) underLoad(ctx context.Context, skus []string, do func(context.Context) error) ([]time.Duration, error) {
	var mu sync.Mutex
	var took []time.Duration
	group, ctx := errgroup.WithContext(ctx)
	loading, stop := context.WithCancel(ctx)
	defer stop()
	var from, until atomic.Int64 // Unix nanoseconds
	until.Store(math.MaxInt64)
	group.Go(func() error {
		_, err := openLoop(loading, busyRate, replayTimeout, func(_ context.Context, n int, due time.Time) error {
			if _, err := c.stock(ctx, skus[n%len(skus)], inventory.Receive{Quantity: 1}.Decide); err != nil {
				return fmt.Errorf("bench: a command: %w", err)
			}
			if at := due.UnixNano(); from.Load() > 0 && at >= from.Load() && at < until.Load() {
				mu.Lock()
				defer mu.Unlock()
				took = append(took, time.Since(due))
			}
			return nil
		})
		return err
	})
	group.Go(func() error {
		defer stop()
		if err := wait(ctx, busyWarmUp); err != nil {
			return err
		}
		from.Store(time.Now().UnixNano())
		err := do(ctx)
		until.Store(time.Now().UnixNano())
		return err
	})
	err := group.Wait()
	return took, err
}
