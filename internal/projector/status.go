package projector

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// State says how a projection is, in one word.
type State string

// What a projection can be. The words are those of the GraphQL schema.
const (
	// Live: every partition has a worker, none has failed.
	Live State = "LIVE"
	// Rebuilding: a generation is being built, or the model was lost in Redis and is read again.
	Rebuilding State = "REBUILDING"
	// Stopped: no worker has some of the partitions.
	Stopped State = "STOPPED"
	// Failed: a partition stands still at an event that cannot be applied.
	Failed State = "FAILED"
)

// Status is the operator's view of a projection.
type Status struct {
	Name       string
	Version    int
	Generation int // the one that readers see; 0: none yet
	State      State
	// Position is that at or below which everything is visible to readers.
	Position int64
	// Lag is the number of positions of the log behind Position.
	Lag        int64
	Partitions []PartitionStatus
	// Rebuild is how far the next generation has come that is being built, nil if none is.
	Rebuild *Rebuild
}

// PartitionStatus is the operator's view of one partition of a projection.
type PartitionStatus struct {
	Number   int
	Position int64
	Worker   string // empty: none
	// Parked is the number of streams that wait behind a parked event.
	Parked int
	// Error tells what the partition stands still at: position, stream, type and error. Empty: it does not.
	Error string
}

// Status returns the projections of this binary, in the order of the options.
func (m *Models) Status(ctx context.Context) ([]Status, error) {
	all := make([]Status, len(m.o.Projections))
	for i := range m.o.Projections {
		s, err := m.status(ctx, &m.o.Projections[i])
		if err != nil {
			return nil, err
		}
		all[i] = s
	}
	return all, nil
}

// statusQuery has a row for each partition and store of the live generation.
const statusQuery = `SELECT p.generation, c.store, c.partition, c.position,
	  CASE WHEN l.expires_at > now() THEN coalesce(l.worker, '') ELSE '' END,
	  (SELECT count(DISTINCT k.stream) FROM parked_events k
	    WHERE k.projection = p.name AND k.generation = p.generation AND k.partition = c.partition),
	  coalesce('position ' || f.position || ', ' || f.type || ' of ' || f.stream || ', tried ' || f.attempts || ' times: ' || f.error, '')
	FROM projections p
	JOIN checkpoints c ON c.projection = p.name AND c.generation = p.generation
	LEFT JOIN leases l ON l.projection = p.name AND l.version = p.version AND l.partition = c.partition
	LEFT JOIN projection_failures f ON f.projection = p.name AND f.generation = p.generation AND f.store = c.store
	  AND f.partition = c.partition
	WHERE p.name = $1 AND p.version = $2 AND p.status = 'live' AND (p.log_id, p.log_epoch) = ($3::uuid, $4)
	ORDER BY c.store, c.partition`

type checkpointRow struct {
	generation    int
	store         string
	partition     int
	position      int64
	parked        int
	worker, error string
}

func (m *Models) status(ctx context.Context, p *Projection) (Status, error) {
	head := m.o.Feed.Head()
	var rows []checkpointRow
	var building []Rebuild
	err := m.onServers(ctx, m.primaryFirst(), func(ctx context.Context, s *server) error {
		args := []any{p.Name, p.Version, m.o.Info.ID, m.o.Info.Epoch}
		b := &pgx.Batch{}
		b.Queue(buildingQuery, append(args, head)...).Query(func(found pgx.Rows) (err error) {
			building, err = pgx.CollectRows(found, scanRebuild)
			return err
		})
		b.Queue(statusQuery, args...).Query(func(found pgx.Rows) (err error) {
			rows, err = pgx.CollectRows(found, func(row pgx.CollectableRow) (r checkpointRow, err error) {
				return r, row.Scan(&r.generation, &r.store, &r.partition, &r.position, &r.worker, &r.parked, &r.error)
			})
			return err
		})
		return s.pool.SendBatch(ctx, b).Close()
	})
	if err != nil {
		return Status{}, fmt.Errorf("projector: reading the status of %s: %w", p.Name, err)
	}
	s := Status{Name: p.Name, Version: p.Version, State: Live, Position: head}
	if len(building) > 0 || len(rows) == 0 {
		s.State = Rebuilding
	}
	if len(building) > 0 {
		s.Rebuild = &building[0]
	}
	if m.foldStatus(ctx, &s, p, rows, head) {
		s.State = Rebuilding
	}
	for _, part := range s.Partitions {
		if part.Worker == "" && s.State != Failed {
			s.State = Stopped
		}
		if part.Error != "" {
			s.State = Failed
		}
		s.Position = min(s.Position, part.Position)
	}
	if len(rows) == 0 {
		s.Position = 0
	}
	s.Lag = max(0, head-s.Position)
	return s, nil
}

// foldStatus puts the stores of each partition together, and reports whether Redis has lost some of its data.
func (m *Models) foldStatus(ctx context.Context, s *Status, p *Projection, rows []checkpointRow, head int64) (lost bool) {
	inRedis := m.redisCheckpoints(ctx, p, rows)
	at := make(map[int]int)
	for _, r := range rows {
		s.Generation = r.generation
		position := r.position
		if r.store == storeRedis && r.partition < len(inRedis) {
			lost = lost || inRedis[r.partition] < position
			position = inRedis[r.partition]
		}
		if position >= m.o.Feed.PartitionEnd(r.partition) {
			position = max(position, head) // nothing is missing
		}
		i, known := at[r.partition]
		if !known {
			i = len(s.Partitions)
			at[r.partition] = i
			s.Partitions = append(s.Partitions, PartitionStatus{Number: r.partition, Position: position})
		}
		part := &s.Partitions[i]
		part.Position = min(part.Position, position)
		part.Worker, part.Parked = r.worker, r.parked
		if r.error != "" {
			part.Error = r.error
		}
	}
	return lost
}

// redisCheckpoints returns the checkpoints beside the documents of the live generation, nil if Redis does not tell.
func (m *Models) redisCheckpoints(ctx context.Context, p *Projection, rows []checkpointRow) []int64 {
	if p.Redis == nil || m.o.Redis == nil || len(rows) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, documentTimeout)
	defer cancel()
	marks, err := newRedisStore(m.o.Redis, p, rows[0].generation, m.o.Info).load(ctx, everyPartition(m.o.Info.Partitions))
	if err != nil {
		m.o.Logger.WarnContext(ctx, "Redis does not tell its checkpoints", "projection", p.Name, "error", err)
		return nil
	}
	positions := make([]int64, len(marks))
	for i, m := range marks {
		positions[i] = m.position
	}
	return positions
}
