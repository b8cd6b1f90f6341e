package relay_test

import (
	"context"
	"sync"
)

// elections let one relay lead at a time.
type elections struct {
	seat chan struct{}

	mu     sync.Mutex
	cancel context.CancelFunc
}

func newElections() *elections { return &elections{seat: make(chan struct{}, 1)} }

func (e *elections) stand(ctx context.Context) (context.Context, func(), error) {
	select {
	case e.seat <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, ctx.Err()
	}
	held, cancel := context.WithCancel(ctx)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cancel = cancel
	return held, func() { cancel(); <-e.seat }, nil
}

func (e *elections) depose() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cancel()
}
