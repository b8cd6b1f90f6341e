package feed

import (
	"context"
	"time"
)

// backoff waits longer after each failure in a row.
type backoff struct {
	initial, limit, next time.Duration
}

func newBackoff(initial, limit time.Duration) *backoff {
	return &backoff{initial: initial, limit: limit, next: initial}
}

// first reports whether there has been no failure since the last success: the one to write a log line about.
func (b *backoff) first() bool { return b.next == b.initial }

func (b *backoff) reset() { b.next = b.initial }

// wait pauses, until something arrives on wake or ctx ends, whose error it returns.
func (b *backoff) wait(ctx context.Context, wake <-chan struct{}) error {
	timer := time.NewTimer(b.next)
	defer timer.Stop()
	b.next = min(2*b.next, b.limit)
	select {
	case <-timer.C:
	case <-wake:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}
