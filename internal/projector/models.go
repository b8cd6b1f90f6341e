package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/es"
)

// ErrStale is wrapped by errors that say that a model has not reached the position asked for in time, or will not
// soon, or is still being built for the first time.
var ErrStale = errors.New("the read model has not caught up")

// ErrBeyond is wrapped, beside [ErrStale], by errors that say that the log ends before the position asked for.
var ErrBeyond = errors.New("the log ends before it")

// ModelsOptions are the parts of Models.
type ModelsOptions struct {
	// Primary is asked when no replica can answer.
	Primary *pgxpool.Pool
	// Replicas are asked in turn; none: the primary is asked always.
	Replicas []*pgxpool.Pool
	// Redis holds the documents; nil: Documents answers nil for every key.
	Redis redis.UniversalClient
	// Feed tells where the log ends. It may be nil for readers that bring no positions; replicas that lag are then not
	// noticed.
	Feed Feed
	Info es.Log
	// Projections are this binary's.
	Projections []Projection
	// Wait bounds how long a read waits for its position, documents and rows together; 0 means 2 s.
	Wait time.Duration
	// LagTarget is the lag under which readers are to be kept: how many workers are wanted depends on it; 0 means 5 s.
	LagTarget time.Duration
	// Logger is nil for slog.Default.
	Logger *slog.Logger
	// Metrics is nil for none.
	Metrics *Metrics
}

// Models is the reading side of all projections, one a process.
type Models struct {
	o        ModelsOptions
	byName   map[string]*Projection
	filters  map[string]*filter
	replicas []*server
	primary  *server
	turn     atomic.Uint32

	namesMu sync.Mutex
	names   map[string]*schemaNames // by the schemas' names

	lists     listReads
	documents documentReader
	editions  atomic.Pointer[map[string]seen] // what readers see of each projection that has a live generation, as far as this process knows
}

// NewModels checks the options. Only while Run runs are documents answered, and servers that were left alone asked again.
func NewModels(o ModelsOptions) (*Models, error) {
	if err := validateAll(o.Projections); err != nil {
		return nil, err
	}
	if o.Wait == 0 {
		o.Wait = 2 * time.Second
	}
	if o.LagTarget <= 0 {
		o.LagTarget = 5 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	m := &Models{
		o: o, byName: make(map[string]*Projection), filters: make(map[string]*filter), names: make(map[string]*schemaNames),
	}
	m.primary = m.newServer("primary", o.Primary)
	for i, pool := range o.Replicas {
		m.replicas = append(m.replicas, m.newServer(fmt.Sprintf("replica %d", i+1), pool))
	}
	for i := range o.Projections {
		m.byName[o.Projections[i].Name] = &o.Projections[i]
		m.filters[o.Projections[i].Name] = newFilter(&o.Projections[i], nil) // no codec: all versions of what is wanted count
	}
	m.documents.init(m)
	return m, nil
}

// refreshEvery is how often the list of generations is read.
const refreshEvery = 500 * time.Millisecond

// Run keeps the list of generations and what is known of the servers fresh until ctx ends, and returns nil.
func (m *Models) Run(ctx context.Context) error {
	var watching sync.WaitGroup
	defer watching.Wait()
	if len(m.replicas) > 0 {
		watching.Go(func() { m.watchReplicas(ctx) })
	}
	ticker := time.NewTicker(refreshEvery)
	defer ticker.Stop()
	failing := false
	for ctx.Err() == nil {
		err := errors.Join(m.documents.refresh(ctx), m.refreshEditions(ctx))
		if err != nil && ctx.Err() == nil && !failing { // breakers tell how it goes on
			m.o.Logger.WarnContext(ctx, "generations of read models not refreshed", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
	return nil
}

// refresh replaces what is known of live generations, by projection, with what lookUp finds on a server. The primary is asked first: it knows of a switch before
// replicas do. Where it does not answer, what was switched to later counts: replicas at different lags would take readers from the one generation to the
// other and back.
func refresh[G interface{ readSince() time.Time }](
	ctx context.Context, m *Models, known *atomic.Pointer[map[string]G], lookUp func(context.Context, *server) (map[string]G, error),
) error {
	var found map[string]G
	present := false
	err := m.onServers(ctx, m.primaryFirst(), func(ctx context.Context, s *server) (err error) {
		present = s == m.primary
		found, err = lookUp(ctx, s)
		return err
	})
	if err != nil {
		return err
	}
	if before := known.Load(); before != nil && !present {
		for name, g := range *before {
			if other, ok := found[name]; !ok || other.readSince().Before(g.readSince()) {
				found[name] = g // the replica has not heard of it yet
			}
		}
	}
	known.Store(&found)
	return nil
}

// Ready returns nil when every projection has a live generation of this binary's version, and an error wrapping
// ErrStale that names those that have none. What a replica does not know of yet does not count where another server knows it.
func (m *Models) Ready(ctx context.Context) error {
	var building, failed error
	for _, s := range m.primaryFirst() {
		if !s.breaker.Allow() {
			failed = errors.Join(failed, fmt.Errorf("projector: looking for live read models: %s: %w", s.name, errLeftAlone))
			continue
		}
		missing, err := m.missing(ctx, s)
		s.ended(ctx, err)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			failed = errors.Join(failed, fmt.Errorf("projector: looking for live read models: %s: %w", s.name, err))
		case len(missing) == 0:
			return nil
		default:
			building = fmt.Errorf("projector: %s: still being built: %w", strings.Join(missing, ", "), ErrStale)
			if s == m.primary {
				return building
			}
		}
	}
	if building != nil {
		return building
	}
	return failed
}

// missing names the projections that have no live generation of this binary's version, as one server says.
func (m *Models) missing(ctx context.Context, s *server) ([]string, error) {
	ctx, cancel := bounded(ctx, answerTimeout)
	defer cancel()
	rows, err := s.pool.Query(ctx, `SELECT wanted.name FROM unnest($1::text[], $2::integer[]) AS wanted(name, version)
		WHERE NOT EXISTS (SELECT FROM projections p WHERE p.name = wanted.name AND p.version = wanted.version
		  AND p.status = 'live' AND (p.log_id, p.log_epoch) = ($3::uuid, $4))`,
		m.projectionNames(), m.versions(m.projectionNames()), m.o.Info.ID, m.o.Info.Epoch)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

func (m *Models) projectionNames() []string {
	names := make([]string, len(m.o.Projections))
	for i := range m.o.Projections {
		names[i] = m.o.Projections[i].Name
	}
	return names
}

func (m *Models) versions(names []string) []int {
	versions := make([]int, len(names))
	for i, n := range names {
		versions[i] = m.byName[n].Version
	}
	return versions
}

// requirement is how far partitions of projections have to have come for a read: a projection, a partition and a position at each
// place.
type requirement struct {
	projections []string
	partitions  []int16
	positions   []int64
}

// require waits until the log is known up to the position, and returns what that asks of the projections' partitions: the position,
// or that of the last event that the projection wants where that is before it. No partitions means all. It does not wait for a position that the log
// did not have when it was asked for: the error is then [ErrBeyond].
func (m *Models) require(ctx context.Context, projections []string, position int64, partitions []int) (requirement, error) {
	var r requirement
	if position <= 0 {
		return r, nil
	}
	switch known, err := m.o.Feed.WaitFor(ctx, position, since(ctx, time.Now())); {
	case err != nil:
		return r, err
	case !known:
		return r, ErrBeyond
	}
	for _, name := range projections {
		for n, last := range m.o.Feed.LastOf(m.filters[name].wants) {
			if last > 0 && (partitions == nil || slices.Contains(partitions, n)) {
				r.projections = append(r.projections, name)
				r.partitions = append(r.partitions, int16(n))
				r.positions = append(r.positions, min(position, last))
			}
		}
	}
	return r, nil
}

// partitionsOf returns the partitions of streams, nil for no streams.
func (m *Models) partitionsOf(streams []string) []int {
	var partitions []int
	for _, s := range streams {
		if n := es.PartitionOf(s, m.o.Info.Partitions); !slices.Contains(partitions, n) {
			partitions = append(partitions, n)
		}
	}
	return partitions
}

// namesOf returns the rewriting of SQL for a set of generations.
func (m *Models) namesOf(schemas map[string]string) *schemaNames {
	var key strings.Builder
	for _, name := range slices.Sorted(maps.Keys(schemas)) {
		key.WriteString(schemas[name])
		key.WriteByte(' ')
	}
	m.namesMu.Lock()
	defer m.namesMu.Unlock()
	if n, ok := m.names[key.String()]; ok {
		return n
	}
	if len(m.names) >= 64 { // old generations
		clear(m.names)
	}
	n := newSchemaNames(schemas)
	m.names[key.String()] = n
	return n
}
