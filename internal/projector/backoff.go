package projector

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff paces attempts: each pause is twice as long as the one before, give or take a quarter.
type backoff struct {
	// first and most bound the pauses; 0 means 50 ms and 2 s.
	first, most time.Duration
	attempts    int
}

func (b *backoff) reset() { b.attempts = 0 }

func (b *backoff) next() time.Duration {
	first, most := b.first, b.most
	if first == 0 {
		first = 50 * time.Millisecond
	}
	if most == 0 {
		most = 2 * time.Second
	}
	d := most
	if b.attempts < 16 {
		d = min(most, first<<b.attempts)
	}
	b.attempts++
	return d*3/4 + rand.N(d/2+1)
}

// pause waits for the next attempt, or until ctx ends.
func (b *backoff) pause(ctx context.Context) {
	timer := time.NewTimer(b.next())
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
