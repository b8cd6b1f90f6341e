package projector

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	// toldEvery is how often a worker adds what it has done to the table throughput.
	toldEvery = time.Second
	// busyHalfLife is after how much time of work the work before it counts half. It is time of work, not time: what a
	// worker can do is known best from when it had much to do, and an idle night does not make that less true.
	busyHalfLife = 2 * time.Second
)

// throughputKey is what throughput is measured of. Generations of one version cost the same.
type throughputKey struct {
	projection string
	version    int
	store      string
}

// work is what was done in how much time, reading included, waiting for events not.
type work struct {
	events int
	busy   time.Duration
}

// meter adds up what the runners of a worker do, and tells it to the table throughput.
type meter struct {
	pool   *pgxpool.Pool
	logger *slog.Logger

	mu   sync.Mutex
	done map[throughputKey]work
}

func newMeter(pool *pgxpool.Pool, logger *slog.Logger) *meter {
	return &meter{pool: pool, logger: logger, done: make(map[throughputKey]work)}
}

func (m *meter) worked(p *Projection, store string, events int, busy time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := throughputKey{p.Name, p.Version, store}
	w := m.done[key]
	m.done[key] = work{events: w.events + events, busy: w.busy + busy}
}

// run tells until ctx ends. What cannot be told is left out: the next measurement is as good.
func (m *meter) run(ctx context.Context) error {
	ticker := time.NewTicker(toldEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		bounded, cancel := context.WithTimeout(ctx, answerTimeout)
		err := m.tell(bounded)
		cancel()
		if err != nil && ctx.Err() == nil {
			m.logger.DebugContext(ctx, "throughput not told", "error", err)
		}
	}
}

// addThroughput adds work. The rows are written in one order, so that two workers cannot wait for each other; the decay is
// bounded, because PostgreSQL takes a number that is too small for an error.
const addThroughput = `WITH told AS (SELECT set_config('synchronous_commit', 'off', true))
	INSERT INTO throughput AS t (projection, version, store, events, busy_seconds)
	SELECT w.projection, w.version, w.store, w.events, w.busy FROM told,
	  unnest($1::text[], $2::integer[], $3::text[], $4::double precision[], $5::double precision[]) AS w(projection, version, store, events, busy)
	ORDER BY w.projection, w.version, w.store
	ON CONFLICT (projection, version, store) DO UPDATE SET
	  events = t.events * power(0.5, least(excluded.busy_seconds / $6, 30)) + excluded.events,
	  busy_seconds = t.busy_seconds * power(0.5, least(excluded.busy_seconds / $6, 30)) + excluded.busy_seconds`

func (m *meter) tell(ctx context.Context) error {
	m.mu.Lock()
	done := m.done
	m.done = make(map[throughputKey]work)
	m.mu.Unlock()
	var projections, stores []string
	var versions []int
	var events, busy []float64
	for _, key := range slices.SortedFunc(maps.Keys(done), func(a, b throughputKey) int {
		return cmp.Or(cmp.Compare(a.projection, b.projection), cmp.Compare(a.version, b.version), cmp.Compare(a.store, b.store))
	}) {
		if w := done[key]; w.events > 0 && w.busy > 0 {
			projections, versions, stores = append(projections, key.projection), append(versions, key.version), append(stores, key.store)
			events, busy = append(events, float64(w.events)), append(busy, w.busy.Seconds())
		}
	}
	if len(projections) == 0 {
		return nil
	}
	if _, err := m.pool.Exec(ctx, addThroughput, projections, versions, stores, events, busy, busyHalfLife.Seconds()); err != nil {
		return fmt.Errorf("projector: telling the throughput: %w", err)
	}
	return nil
}
