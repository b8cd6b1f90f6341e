package projector

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	beginSnapshot = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`
	endSnapshot   = `COMMIT`
	// lookUp finds the live generation of a projection, and how far its partitions are. It names one projection, and the limit, which the key makes needless,
	// comes first: for a list of names PostgreSQL's generic plan would go through the checkpoints of all projections, and without one it plans each time anew.
	lookUp = `SELECT p.generation, p.switched_at, coalesce(c.held::text, ''), c.partitions, c.positions, coalesce(f.positions::text, '')
		FROM (
		  SELECT generation, switched_at FROM projections
		  WHERE name = $1 AND version = $2 AND status = 'live' AND (log_id, log_epoch) = ($3::uuid, $4) LIMIT 1
		) AS p
		CROSS JOIN LATERAL (
		  SELECT array_agg(c.partition), array_agg(c.position), jsonb_object_agg(c.partition, c.held) FILTER (WHERE c.held IS NOT NULL)
		  FROM checkpoints c WHERE c.projection = $1 AND c.generation = p.generation AND c.store = 'postgres'
		) AS c(partitions, positions, held)
		CROSS JOIN LATERAL (
		  SELECT jsonb_object_agg(f.partition, f.position)
		  FROM projection_failures f WHERE f.projection = $1 AND f.generation = p.generation AND f.store = 'postgres'
		) AS f(positions)`
)

// queueLookUps asks for the live generations of projections; collectSeen takes the answers.
func (m *Models) queueLookUps(b *pgx.Batch, projections []string) {
	for _, name := range projections {
		b.Queue(lookUp, name, m.byName[name].Version, m.o.Info.ID, m.o.Info.Epoch)
	}
}

// seen is what a snapshot shows of a live generation in PostgreSQL.
type seen struct {
	Part
	switchedAt time.Time       // when readers began to see it
	positions  map[int16]int64 // the checkpoints, by partition
	failures   map[int16]int64 // where partitions stood still last
	held       map[int16]held
}

func (g seen) readSince() time.Time { return g.switchedAt }

// parkedAt returns from where on a stream is parked, 0 if it is not.
func (g *seen) parkedAt(stream string) int64 {
	for _, h := range g.held {
		if at, ok := h[stream]; ok {
			return at
		}
	}
	return 0
}

// collectSeen returns what lookUps of projections have found, by their names; there is nothing where none is live.
func collectSeen(results pgx.BatchResults, projections []string) (map[string]seen, error) {
	found := make(map[string]seen, len(projections))
	for _, name := range projections {
		var g seen
		var failures string
		var partitions []int16
		var positions []int64
		switch err := results.QueryRow().Scan(&g.Generation, &g.switchedAt, &g.Held, &partitions, &positions, &failures); {
		case errors.Is(err, pgx.ErrNoRows):
			continue
		case err != nil:
			return nil, err
		}
		g.positions = make(map[int16]int64, len(partitions))
		for i, p := range partitions {
			g.positions[p] = positions[i]
		}
		if err := errors.Join(unlessEmpty(g.Held, &g.held), unlessEmpty(failures, &g.failures)); err != nil {
			return nil, fmt.Errorf("projector: what partitions of %s go without: %w", name, err)
		}
		found[name] = g
	}
	return found, nil
}

func unlessEmpty(text string, into any) error {
	if text == "" {
		return nil
	}
	return json.Unmarshal([]byte(text), into)
}
