package projectortest

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/internal/es"
)

// history is what is recorded of a case, as it is read from the log.
type history struct {
	mu      sync.Mutex
	events  []es.Event
	changed chan struct{}

	partitions int
}

func newHistory(partitions int) *history {
	return &history{partitions: partitions, changed: make(chan struct{})}
}

func (h *history) extend(events []es.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, events...)
	close(h.changed)
	h.changed = make(chan struct{})
}

func (h *history) known() (events []es.Event, changed <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.events, h.changed
}

func (h *history) head() int64 {
	events, _ := h.known()
	return int64(len(events))
}

// feed hands a history out in batches of chosen sizes. It implements projector.Feed.
type feed struct {
	*history
	size    func(after int64) int // of the next batch
	waiting atomic.Int32          // how many wait for what is not recorded yet
	rewinds atomic.Int32          // how many times more who has seen events is handed them again, from the first
}

// After returns the next batch.
func (f *feed) After(ctx context.Context, after int64, limit int) ([]es.Event, error) {
	if after > 0 && f.rewinds.Add(-1) >= 0 {
		after = 0
	}
	for {
		events, changed := f.known()
		if behind := events[min(int(after), len(events)):]; len(behind) > 0 {
			return slices.Clone(behind[:min(f.size(after), limit, len(behind))]), nil
		}
		f.waiting.Add(1)
		select {
		case <-changed:
			f.waiting.Add(-1)
		case <-ctx.Done():
			f.waiting.Add(-1)
			return nil, ctx.Err()
		}
	}
}

// Head is what is recorded.
func (f *feed) Head() int64 { return f.head() }

// WaitFor reports whether the position is recorded: all that is recorded is known.
func (f *feed) WaitFor(_ context.Context, position int64, _ time.Time) (bool, error) {
	return position <= f.head(), nil
}

// LastOf is, by partition, the position of the last event of a wanted type.
func (f *feed) LastOf(wanted func(eventType string) bool) []int64 {
	events, _ := f.known()
	positions := make([]int64, f.partitions)
	for i := range events {
		if wanted(events[i].Type) {
			positions[events[i].Partition] = events[i].Position
		}
	}
	return positions
}
