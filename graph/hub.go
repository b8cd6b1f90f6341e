package graph

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/millrace/millrace/internal/es"
)

// hub follows the log once for all subscriptions of the process, and hands each event to those that watch its stream. It
// runs only while somebody watches.
type hub struct {
	feed Feed

	mu       sync.Mutex
	watchers map[string]map[*watcher]struct{}
	count    int
	follower *follower
	// position is that of the last event that was handed out.
	position int64
	closed   bool
	running  sync.WaitGroup
}

// follower is one run along the log.
type follower struct{ cancel context.CancelFunc }

// watcher is one subscription's view of some streams. Take empties it, changed says that there is something to take.
type watcher struct {
	hub     *hub
	streams []string
	// from is the position behind which the watcher hears of everything.
	from    int64
	changed chan struct{} // holds one token at most

	mu     sync.Mutex
	events []es.Event
	// latest keeps the last event of a stream only, so that a hot stream and a slow client take no memory.
	latest bool
	err    error
}

var errShuttingDown = problem(Unavailable, "this server is shutting down; connect again")

func newHub(f Feed) *hub { return &hub{feed: f, watchers: map[string]map[*watcher]struct{}{}} }

// watch returns a watcher that is given every event of the streams that is committed from now on, or only the latest of each;
// those that were committed before can be read from the log.
func (h *hub) watch(latest bool, streams ...string) (*watcher, error) {
	w := &watcher{hub: h, streams: streams, latest: latest, changed: make(chan struct{}, 1)}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, errShuttingDown
	}
	for _, s := range streams {
		if h.watchers[s] == nil {
			h.watchers[s] = map[*watcher]struct{}{}
		}
		h.watchers[s][w] = struct{}{}
	}
	h.count++
	if h.follower == nil {
		ctx, cancel := context.WithCancel(context.Background())
		f := &follower{cancel}
		h.follower = f
		from := h.feed.Head()
		h.position = from
		h.running.Go(func() { h.follow(ctx, f, from) })
	}
	w.from = h.position
	return w, nil
}

// follow hands out events until it is cancelled. If it fails, so do all who watch.
func (h *hub) follow(ctx context.Context, f *follower, from int64) {
	defer f.cancel()
	err := h.feed.Follow(ctx, from, func(events []es.Event) error {
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.follower != f {
			return context.Canceled // nobody watches any more
		}
		for i := range events {
			h.position = events[i].Position
			for w := range h.watchers[events[i].Stream] {
				w.put(events[i])
			}
		}
		return nil
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.follower != f {
		return // nobody watched any more
	}
	h.follower = nil
	for _, watchers := range h.watchers {
		for w := range watchers {
			w.fail(fmt.Errorf("graph: following the log: %w: %w", es.ErrUnavailable, err))
		}
	}
	clear(h.watchers)
	h.count = 0
}

// close ends all watching and waits for it to have ended.
func (h *hub) close() {
	h.mu.Lock()
	h.closed = true
	if h.follower != nil {
		h.follower.cancel()
	}
	h.mu.Unlock()
	h.running.Wait()
}

// put keeps an event until it is taken.
func (w *watcher) put(e es.Event) {
	w.mu.Lock()
	if w.latest {
		w.events = slices.DeleteFunc(w.events, func(old es.Event) bool { return old.Stream == e.Stream })
	}
	w.events = append(w.events, e)
	w.mu.Unlock()
	w.signal()
}

func (w *watcher) fail(err error) {
	w.mu.Lock()
	w.err = err
	w.mu.Unlock()
	w.signal()
}

func (w *watcher) signal() {
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// take returns what has come since the last time, or why nothing will come any more.
func (w *watcher) take() ([]es.Event, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	events := w.events
	w.events = nil
	if len(events) == 0 {
		return nil, w.err
	}
	if w.err != nil {
		w.signal() // one token may have stood for the events and the failure
	}
	return events, nil
}

// close gives the watching up.
func (w *watcher) close() {
	h := w.hub
	h.mu.Lock()
	defer h.mu.Unlock()
	gone := false
	for _, s := range w.streams {
		if _, watched := h.watchers[s][w]; watched {
			gone = true
			delete(h.watchers[s], w)
			if len(h.watchers[s]) == 0 {
				delete(h.watchers, s)
			}
		}
	}
	if !gone {
		return // the follower failed
	}
	if h.count--; h.count == 0 && h.follower != nil {
		h.follower.cancel()
		h.follower = nil
	}
}
