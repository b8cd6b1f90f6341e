package graph

import (
	"context"
	"sync"
	"time"

	"github.com/millrace/millrace/internal/projector"
)

const (
	// statusInterval is how often the read models are looked at while somebody follows one.
	statusInterval = 500 * time.Millisecond
	// statusTimeout bounds one look.
	statusTimeout = 10 * time.Second
)

// statusHub looks at the read models for all subscriptions of the process that follow one: however many there are, and only while
// there are any.
type statusHub struct {
	projections Projections

	mu      sync.Mutex
	lookout *lookout // nil: nobody follows
	count   int
	closed  bool
	running sync.WaitGroup
}

// lookout is one run of looks, as long as somebody follows.
type lookout struct {
	hub    *statusHub
	cancel context.CancelFunc
	latest *sight
}

// sight is how the read models stood at one look, or why that cannot be told.
type sight struct {
	looked   bool // false before the first look
	statuses []projector.Status
	// parked lists what is parked. It is read once for all who ask.
	parked func() ([]projector.ParkedEvent, error)
	err    error
	over   chan struct{} // closed when there is a later one
}

// follow returns where the latest sights are, until leave is called.
func (h *statusHub) follow() (*lookout, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errShuttingDown
	}
	h.count++
	if h.lookout == nil {
		ctx, cancel := context.WithCancel(context.Background())
		l := &lookout{hub: h, cancel: cancel, latest: &sight{over: make(chan struct{})}}
		h.lookout = l
		h.running.Go(func() { l.run(ctx) })
	}
	return h.lookout, nil
}

// close ends all looking and waits for it to have ended.
func (h *statusHub) close() {
	h.mu.Lock()
	h.closed = true
	if h.lookout != nil {
		h.lookout.cancel()
	}
	h.mu.Unlock()
	h.running.Wait()
}

func (l *lookout) run(ctx context.Context) {
	defer l.cancel()
	ticker := time.NewTicker(statusInterval)
	defer ticker.Stop()
	for {
		next := l.hub.look(ctx)
		if ctx.Err() != nil {
			return
		}
		l.hub.mu.Lock()
		before := l.latest
		l.latest = next
		l.hub.mu.Unlock()
		close(before.over)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (h *statusHub) look(ctx context.Context) *sight {
	s := &sight{looked: true, over: make(chan struct{})}
	s.parked = sync.OnceValues(func() ([]projector.ParkedEvent, error) { return h.projections.Parked(ctx) })
	bounded, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	s.statuses, s.err = h.projections.Status(bounded)
	return s
}

// behind returns the latest sight once it is another than the known one; where that is nil, once there is any. It returns nil when ctx
// ends before.
func (l *lookout) behind(ctx context.Context, known *sight) *sight {
	for {
		l.hub.mu.Lock()
		latest := l.latest
		l.hub.mu.Unlock()
		if latest != known && latest.looked {
			return latest
		}
		select {
		case <-ctx.Done():
			return nil
		case <-latest.over:
		}
	}
}

// leave gives the following up.
func (l *lookout) leave() {
	h := l.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count--; h.count == 0 {
		l.cancel()
		h.lookout = nil
	}
}
