package projector

import (
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
)

const (
	beginSnapshot = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`
	endSnapshot   = `COMMIT`
	// lookUp finds the live generations of projections, and how far their partitions are, in one pass over each. Its arguments are those of lookedUp.
	lookUp = `SELECT p.name, p.generation, coalesce(c.held::text, ''), c.partitions, c.positions, coalesce(f.positions::text, '')
		FROM unnest($1::text[], $2::integer[]) AS needed(name, version)
		JOIN projections p ON p.name = needed.name AND p.version = needed.version AND p.status = 'live'
		CROSS JOIN LATERAL (
		  SELECT array_agg(c.partition), array_agg(c.position), jsonb_object_agg(c.partition, c.held) FILTER (WHERE c.held IS NOT NULL)
		  FROM checkpoints c WHERE c.projection = p.name AND c.generation = p.generation AND c.store = 'postgres'
		) AS c(partitions, positions, held)
		CROSS JOIN LATERAL (
		  SELECT jsonb_object_agg(f.partition, f.position)
		  FROM projection_failures f WHERE f.projection = p.name AND f.generation = p.generation AND f.store = 'postgres'
		) AS f(positions)
		WHERE (p.log_id, p.log_epoch) = ($3::uuid, $4)`
)

// lookedUp returns the arguments of lookUp.
func (m *Models) lookedUp(projections []string) []any {
	return []any{projections, m.versions(projections), m.o.Info.ID, m.o.Info.Epoch}
}

// seen is what a snapshot shows of a live generation in PostgreSQL.
type seen struct {
	Part
	positions map[int16]int64 // the checkpoints, by partition
	failures  map[int16]int64 // where partitions stood still last
	held      map[int16]held
}

// parkedAt returns from where on a stream is parked, 0 if it is not.
func (g *seen) parkedAt(stream string) int64 {
	for _, h := range g.held {
		if at, ok := h[stream]; ok {
			return at
		}
	}
	return 0
}

// collectSeen returns what lookUp has found, by projection.
func collectSeen(rows pgx.Rows) (map[string]seen, error) {
	found := make(map[string]seen)
	var name, heldNow, failures string
	var number int
	var partitions []int16
	var positions []int64
	_, err := pgx.ForEachRow(rows, []any{&name, &number, &heldNow, &partitions, &positions, &failures}, func() error {
		g := seen{Part: Part{Generation: number, Held: heldNow}, positions: make(map[int16]int64, len(partitions))}
		for i, p := range partitions {
			g.positions[p] = positions[i]
		}
		for text, value := range map[string]any{heldNow: &g.held, failures: &g.failures} {
			if text == "" {
				continue
			}
			if err := json.Unmarshal([]byte(text), value); err != nil {
				return fmt.Errorf("projector: what partitions of %s go without: %w", name, err)
			}
		}
		found[name] = g
		return nil
	})
	return found, err
}
