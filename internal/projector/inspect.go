package projector

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// inspection is how all projections of a process stand, as far as one look can tell. Checkpoints are read before the log, so
// that the lag between the two is rather too high, by what has come in the meantime, than too low.
type inspection struct {
	fed        []fedPartition
	building   map[string]*Rebuild      // by projection: the generation that is being built, by whomever
	throughput map[throughputOf]float64 // events that a worker folds in a busy second
	head       int64                    // the end of the log
	arriving   float64                  // events a second that the log grows by
	whole      []lag                    // by partition: what somebody lags who has seen nothing
	partitions int
	target     time.Duration
}

type throughputOf struct{ projection, store string }

// fedPartition is how one partition of a generation stands in one store.
type fedPartition struct {
	projection    string
	generation    int
	status, store string
	partition     int
	position      int64
	lost          bool // Redis had more
	untold        bool // Redis does not tell its checkpoints: the position is the one that was remembered
	parked        int
	worker, error string
	lag           lag
}

// fedQuery has a row for each partition and store of the generations that workers feed.
const fedQuery = `SELECT p.name, p.generation, p.status, c.store, c.partition, c.position,
	  CASE WHEN l.expires_at > now() THEN coalesce(l.worker, '') ELSE '' END,
	  (SELECT count(DISTINCT k.stream) FROM parked_events k
	    WHERE k.projection = p.name AND k.generation = p.generation AND k.partition = c.partition),
	  coalesce('position ' || f.position || ', ' || f.type || ' of ' || f.stream || ', tried ' || f.attempts || ' times: ' || f.error, '')
	FROM unnest($1::text[], $2::integer[]) AS needed(name, version)
	JOIN projections p ON p.name = needed.name AND p.version = needed.version
	  AND ` + isFed + ` AND (p.log_id, p.log_epoch) = ($3::uuid, $4)
	JOIN checkpoints c ON c.projection = p.name AND c.generation = p.generation
	LEFT JOIN leases l ON l.projection = p.name AND l.version = p.version AND l.partition = c.partition
	LEFT JOIN projection_failures f ON f.projection = p.name AND f.generation = p.generation AND f.store = c.store
	  AND f.partition = c.partition
	ORDER BY p.name, p.generation, c.store, c.partition`

const throughputQuery = `SELECT t.projection, t.store, t.events / t.busy_seconds
	FROM unnest($1::text[], $2::integer[]) AS needed(name, version)
	JOIN throughput t ON t.projection = needed.name AND t.version = needed.version`

// inspect looks at all projections: three round trips, however many there are.
func (m *Models) inspect(ctx context.Context) (*inspection, error) {
	i := &inspection{partitions: m.o.Info.Partitions, target: m.o.LagTarget}
	if err := m.onServers(ctx, m.primaryFirst(), func(ctx context.Context, s *server) error { return m.inspectTables(ctx, s, i) }); err != nil {
		return nil, fmt.Errorf("projector: reading the status of projections: %w", err)
	}
	m.inspectRedis(ctx, i)
	if err := m.onServers(ctx, m.primaryFirst(), func(ctx context.Context, s *server) error {
		if err := i.measure(ctx, s); err != nil {
			return err
		}
		if s == m.primary { // a replica may lack what Redis has
			i.findBeyond()
		}
		return nil
	}); err != nil {
		return nil, fmt.Errorf("projector: measuring the lag of projections: %w", err)
	}
	return i, nil
}

func (m *Models) inspectTables(ctx context.Context, s *server, i *inspection) error {
	names := m.projectionNames()
	versions := m.versions(names)
	i.building, i.throughput = make(map[string]*Rebuild), make(map[throughputOf]float64)
	b := &pgx.Batch{}
	b.Queue(buildingQuery, names, versions, m.o.Info.ID, m.o.Info.Epoch).Query(func(rows pgx.Rows) error {
		var name string
		var r Rebuild
		_, err := pgx.ForEachRow(rows, []any{&name, &r.Generation, &r.Position, &r.Head, &r.Rate}, func() error {
			r.RemainingSeconds = remaining(r.Progress)
			latest := r
			i.building[name] = &latest
			return nil
		})
		return err
	})
	b.Queue(throughputQuery, names, versions).Query(func(rows pgx.Rows) error {
		var of throughputOf
		var perSecond float64
		_, err := pgx.ForEachRow(rows, []any{&of.projection, &of.store, &perSecond}, func() error {
			i.throughput[of] = perSecond
			return nil
		})
		return err
	})
	b.Queue(fedQuery, names, versions, m.o.Info.ID, m.o.Info.Epoch).Query(func(rows pgx.Rows) (err error) {
		i.fed, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (f fedPartition, err error) {
			return f, row.Scan(&f.projection, &f.generation, &f.status, &f.store, &f.partition, &f.position, &f.worker, &f.parked, &f.error)
		})
		return err
	})
	return s.pool.SendBatch(ctx, b).Close()
}

// inspectRedis puts the checkpoints that stand beside documents in the place of those that PostgreSQL remembers. Where Redis does not
// tell them, what it lacks is not known: it may have lost everything.
func (m *Models) inspectRedis(ctx context.Context, i *inspection) {
	if m.o.Redis == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, documentTimeout)
	defer cancel()
	partitions := everyPartition(m.o.Info.Partitions)
	known := make(map[generationOf][]mark)
	for n := range i.fed {
		f := &i.fed[n]
		if f.store != storeRedis || f.partition >= len(partitions) {
			continue
		}
		of := generationOf{f.projection, f.generation}
		marks, asked := known[of]
		if !asked {
			var err error
			marks, err = newRedisStore(m.o.Redis, m.byName[f.projection], f.generation, m.o.Info).load(ctx, partitions)
			if err != nil {
				m.o.Logger.WarnContext(ctx, "Redis does not tell its checkpoints", "projection", f.projection, "error", err)
			}
			known[of] = marks
		}
		if f.untold = marks == nil; !f.untold {
			f.lost = marks[f.partition].position < f.position
			f.position = marks[f.partition].position
		}
	}
}

type generationOf struct {
	projection string
	generation int
}

// findBeyond names the partitions whose checkpoints are beyond the end of the log.
func (i *inspection) findBeyond() {
	for n := range i.fed {
		if f := &i.fed[n]; f.position > i.head {
			f.error = fmt.Sprintf("checkpoint %d is beyond the end of the log, position %d: the log has lost events", f.position, i.head)
		}
	}
}
