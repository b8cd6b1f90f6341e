package responsecache

import (
	"sync"
	"sync/atomic"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// touches remembers where streams and read models were touched last. Of streams that it had to forget it knows that it was not
// behind the floor.
type touches struct {
	projections []string
	wants       func(projection, eventType string) bool

	seen atomic.Int64 // all events at or below it are accounted for

	mu      sync.RWMutex
	floor   int64
	streams *simplelru.LRU[string, int64]
	models  map[string]int64
	types   map[string][]string // by the type of an event: the projections that want it
}

// newTouches knows nothing of what lies at or below a position.
func newTouches(projections []string, wants func(projection, eventType string) bool, streams int, position int64) (*touches, error) {
	t := &touches{projections: projections, wants: wants, models: make(map[string]int64), types: make(map[string][]string)}
	var err error
	t.streams, err = simplelru.NewLRU(streams, func(_ string, last int64) { t.floor = max(t.floor, last) })
	t.reset(position)
	return t, err
}

// reset forgets everything, and begins behind a position.
func (t *touches) reset(position int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.streams.Purge()
	t.floor = position
	for _, p := range t.projections {
		t.models[p] = position
	}
	t.seen.Store(position)
}

// add accounts for the next events of the log.
func (t *touches) add(events []es.Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range events {
		e := &events[i]
		wanting, known := t.types[e.Type]
		if !known {
			for _, p := range t.projections {
				if t.wants(p, e.Type) {
					wanting = append(wanting, p)
				}
			}
			t.types[e.Type] = wanting
		}
		if len(wanting) == 0 {
			continue
		}
		for _, p := range wanting {
			t.models[p] = e.Position
		}
		t.streams.Add(e.Stream, e.Position)
	}
	t.seen.Store(events[len(events)-1].Position)
}

// untouched reports whether nothing of a reading was touched behind a position, as far as the events have been seen.
func (t *touches) untouched(r *projector.Reading, position int64) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for name, part := range r.Models {
		last, known := t.models[name]
		if !known || part.Whole && last > position {
			return false
		}
	}
	for _, stream := range r.Streams {
		last, known := t.streams.Peek(stream)
		if !known {
			last = t.floor
		}
		if last > position {
			return false
		}
	}
	return true
}
