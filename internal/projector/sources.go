package projector

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
)

// Reading is what an answer was read from: it holds for as long as nothing behind Position changes that.
type Reading struct {
	// Position is what the read models had reached at least, all of them, as far as they were read.
	Position int64 `json:"position"`
	// Models are the read models, by the names of their projections.
	Models map[string]Part `json:"models,omitempty"`
	// Streams are those whose events were read one by one, from models that are not read as a whole.
	Streams []string `json:"streams,omitempty"`
}

// Part is what was read of a read model.
type Part struct {
	Generation int `json:"generation"`
	// Whole says that any event that the projection wants may change the answer.
	Whole bool `json:"whole,omitempty"`
	// Held are the streams that a model that was read as a whole goes without, "" for none.
	Held string `json:"held,omitempty"`
}

// Sources collects the Reading of a context's reads.
type Sources struct {
	position int64
	until    time.Time

	mu      sync.Mutex
	models  map[string]Part
	streams map[string]struct{}
	late    bool
}

type sourcesKey struct{}

// WithSources returns a context whose reads show what had been recorded up to the position if they can within a time, which they
// share; otherwise they show what there is, and the Sources say so. Reads that bring a position of their own ([es.WithPosition])
// are not collected: the Sources call them late.
func WithSources(ctx context.Context, position int64, within time.Duration) (context.Context, *Sources) {
	s := &Sources{position: position, until: time.Now().Add(within), models: make(map[string]Part), streams: make(map[string]struct{})}
	return context.WithValue(ctx, sourcesKey{}, s), s
}

// sourcesFrom returns the sources of a context, nil for none.
func sourcesFrom(ctx context.Context) *Sources {
	s, _ := ctx.Value(sourcesKey{}).(*Sources)
	if s != nil && es.PositionFrom(ctx) > 0 {
		s.isLate()
		return nil
	}
	return s
}

// Reading returns what has been read, and whether all of it showed the position.
func (s *Sources) Reading() (Reading, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Reading{
		Position: s.position, Models: maps.Clone(s.models), Streams: slices.Sorted(maps.Keys(s.streams)),
	}, !s.late
}

// wanted is the position that a read is to show, 0 for none: once one of them was late, the others need not wait.
func (s *Sources) wanted() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.late {
		return 0
	}
	return s.position
}

func (s *Sources) isLate() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.late = true
}

// Note tells the Sources of a context, if it has any, of a read from a model by other means than [Models]: of streams, or, where there
// are none, of the whole of it.
func Note(ctx context.Context, projection string, generation int, streams ...string) {
	if s := sourcesFrom(ctx); s != nil {
		s.note(projection, Part{Generation: generation}, streams)
	}
}

// Late tells them that something was read that may be older than their position.
func Late(ctx context.Context) {
	if s := sourcesFrom(ctx); s != nil {
		s.isLate()
	}
}

// note adds a read of a model: of streams, or, where there are none, of the whole of it.
func (s *Sources) note(projection string, p Part, streams []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p.Whole = len(streams) == 0
	if !p.Whole {
		p.Held = "" // a read of streams of which one is parked is late
	}
	if before, ok := s.models[projection]; ok {
		if before.Generation != p.Generation || before.Whole && p.Whole && before.Held != p.Held {
			s.late = true // a switch, or an operator, came between the two reads
		}
		if before.Whole {
			p = before
		}
	}
	s.models[projection] = p
	for _, stream := range streams {
		s.streams[stream] = struct{}{}
	}
}

// Shows reports whether readers still see the generations that an answer was read from, and these the same streams. This process
// learns of a switch, and of what operators set aside, within a second.
func (m *Models) Shows(r Reading) bool {
	known := m.editions.Load()
	if known == nil {
		return false
	}
	for name, p := range r.Models {
		now, live := (*known)[name]
		if !live || now.Generation != p.Generation || p.Whole && now.Held != p.Held {
			return false
		}
	}
	return true
}

// Wants reports whether a projection wants events of a type, in whatever version.
func (m *Models) Wants(projection, eventType string) bool {
	f := m.filters[projection]
	return f != nil && f.wants(eventType)
}

// refreshEditions looks up what readers see.
func (m *Models) refreshEditions(ctx context.Context) error {
	return refresh(ctx, m, &m.editions, func(ctx context.Context, s *server) (map[string]seen, error) {
		names := m.projectionNames()
		b := &pgx.Batch{}
		m.queueLookUps(b, names)
		results := s.pool.SendBatch(ctx, b)
		found, err := collectSeen(results, names)
		return found, errors.Join(err, results.Close())
	})
}

// expected returns the schemas that a reader will find to be live, as far as this process knows; nil where it does not.
func (m *Models) expected(projections []string) map[string]string {
	known := m.editions.Load()
	if known == nil {
		return nil
	}
	schemas := make(map[string]string, len(projections))
	for _, name := range projections {
		p, live := (*known)[name]
		if !live {
			return nil
		}
		schemas[name] = schemaName(name, p.Generation)
	}
	return schemas
}
