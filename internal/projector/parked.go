package projector

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/es"
)

// parking is an entry of the list parked_events: the operator's wish that a stream be left out from a position on. What a
// store goes without is told by its marks alone; workers bring the two together.
type parking struct {
	position int64
	// retry is the wish that the stream be tried again.
	retry bool
}

// ParkedEvent is an event that was set aside because a projection could not apply it. The later events of its stream wait
// behind it.
type ParkedEvent struct {
	Projection string `json:"projection"`
	Generation int    `json:"generation"`
	// Store is the one of the projection's stores that goes without it: "postgres" or "redis".
	Store     string `json:"store"`
	Partition int    `json:"partition"`
	Position  int64  `json:"position"`
	Stream    string `json:"stream"`
	Type      string `json:"type"`
	// Error is what the last attempt failed with; Attempts counts them.
	Error    string    `json:"error"`
	Attempts int       `json:"attempts"`
	ParkedAt time.Time `json:"parkedAt"`
	FailedAt time.Time `json:"failedAt"`
	// Waiting is the number of later events of the stream.
	Waiting int64 `json:"waiting"`
	// Retrying is whether somebody has asked for another attempt, which no worker has finished yet.
	Retrying bool `json:"retrying"`
}

// parked returns the list's entries by partition and stream.
func (r *records) parked(ctx context.Context, partitions []int) (map[int]map[string]parking, error) {
	rows, err := r.pool.Query(ctx, `SELECT partition, stream, position, retry_asked FROM parked_events
		WHERE projection = $1 AND generation = $2 AND store = $3 AND partition = ANY ($4::smallint[])`,
		r.projection, r.generation, r.store, partitions)
	if err != nil {
		return nil, fmt.Errorf("projector: reading the parked events of %s: %w", r.projection, err)
	}
	found := make(map[int]map[string]parking)
	var n int
	var stream string
	var p parking
	_, err = pgx.ForEachRow(rows, []any{&n, &stream, &p.position, &p.retry}, func() error {
		if found[n] == nil {
			found[n] = make(map[string]parking)
		}
		found[n][stream] = p
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("projector: reading the parked events of %s: %w", r.projection, err)
	}
	return found, nil
}

// unpark takes a stream off the list, if it still stands there with this position.
func (r *records) unpark(ctx context.Context, stream string, position int64) error {
	_, err := r.pool.Exec(ctx, `DELETE FROM parked_events
		WHERE projection = $1 AND generation = $2 AND store = $3 AND stream = $4 AND position = $5`,
		r.projection, r.generation, r.store, stream, position)
	if err != nil {
		return fmt.Errorf("projector: taking a stream of %s off the parked ones: %w", r.projection, err)
	}
	return nil
}

// park notes that an attempt at a parked stream has failed, at its event e. A stream that is held and not on the list,
// because somebody has deleted it, comes onto it again.
func (r *records) park(ctx context.Context, e *es.Event, cause error) error {
	_, err := r.pool.Exec(ctx, `INSERT INTO parked_events AS k (projection, generation, store, stream, partition, position, type, error)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
		ON CONFLICT (projection, generation, store, stream) DO UPDATE SET position = excluded.position, type = excluded.type,
		  error = excluded.error, attempts = k.attempts + 1, failed_at = now(), retry_asked = false`,
		r.projection, r.generation, r.store, e.Stream, e.Partition, e.Position, e.Type, errorText(cause))
	if err != nil {
		return fmt.Errorf("projector: writing down a parked event of %s: %w", r.projection, err)
	}
	return nil
}

// parkedBefore is whether an operator has parked the event, or an earlier one of its stream, in the generation that readers
// see, or, where they see none, in the last one that has a list. $1 is the projection, $2 the generation that is being
// built, $3 the stream, $4 the event's position.
const parkedBefore = `EXISTS (SELECT FROM parked_events k WHERE k.projection = $1 AND k.stream = $3 AND k.position <= $4
	AND k.generation = coalesce(
	  (SELECT max(generation) FROM projections WHERE name = $1 AND generation < $2 AND status = 'live'),
	  (SELECT max(generation) FROM parked_events WHERE projection = $1 AND generation < $2)))`

// inherit parks an event that a generation cannot apply while it is being built, if an operator has parked it in the
// one before: he is not to do so again for every build. It reports whether it has.
func (r *records) inherit(ctx context.Context, e *es.Event, cause error) (bool, error) {
	tag, err := r.pool.Exec(ctx, `INSERT INTO parked_events (projection, generation, store, stream, partition, position, type, error)
		SELECT $1, $2, $5, $3, $6, $4, $7, $8
		WHERE `+parkedBefore+` AND EXISTS (SELECT FROM projections WHERE name = $1 AND generation = $2 AND status = 'building')
		ON CONFLICT DO NOTHING`,
		r.projection, r.generation, e.Stream, e.Position, r.store, e.Partition, e.Type, errorText(cause))
	if err != nil {
		return false, fmt.Errorf("projector: looking for parked events of %s: %w", r.projection, err)
	}
	return tag.RowsAffected() > 0, nil
}

// isParkedBefore tells a rebuild the same; it writes its list when it switches.
func isParkedBefore(ctx context.Context, pool *pgxpool.Pool, projection string, generation int, e *es.Event) (parked bool, err error) {
	if err := pool.QueryRow(ctx, `SELECT `+parkedBefore, projection, generation, e.Stream, e.Position).Scan(&parked); err != nil {
		return false, fmt.Errorf("projector: looking for parked events of %s: %w", projection, err)
	}
	return parked, nil
}

// listParked writes down what a rebuild has parked, as part of its switch.
func listParked(ctx context.Context, tx pgx.Tx, events []ParkedEvent) error {
	for _, e := range events {
		_, err := tx.Exec(ctx, `INSERT INTO parked_events (projection, generation, store, stream, partition, position, type, error)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
			e.Projection, e.Generation, e.Store, e.Stream, e.Partition, e.Position, e.Type, e.Error)
		if err != nil {
			return err
		}
	}
	return nil
}

// errorText is what is kept of an error, as PostgreSQL takes it.
func errorText(cause error) string {
	const most = 2000
	text := strings.ReplaceAll(strings.ToValidUTF8(cause.Error(), "?"), "\x00", "")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "")
	}
	return text
}

// told is what the control tables say of a partition in one store, as a worker sees it at each tick.
type told struct {
	parked int  // how many streams are on the list
	act    bool // an operator has asked for something that has not been done yet
}

// toldQuery is told for the projections named by $1. A partition is to act when a retry is asked for, and when it stands
// still at an event that has been parked, or is behind it and has not struck the failure off.
const toldQuery = `SELECT projection, generation, store, partition, sum(parked)::integer, bool_or(act) FROM (
	  SELECT projection, generation, store, partition, 1 AS parked, retry_asked AS act FROM parked_events
	  UNION ALL
	  SELECT f.projection, f.generation, f.store, f.partition, 0, f.retry_asked OR f.position <= c.position OR EXISTS (SELECT FROM parked_events k
	    WHERE k.projection = f.projection AND k.generation = f.generation AND k.store = f.store AND k.stream = f.stream AND k.position <= f.position)
	  FROM projection_failures f JOIN checkpoints c USING (projection, generation, store, partition)
	) AS said WHERE projection = ANY ($1) GROUP BY projection, generation, store, partition`

func scanTold(rows pgx.Rows) (map[runnerKey]map[int]told, error) {
	all := make(map[runnerKey]map[int]told)
	var key runnerKey
	var partition int
	var t told
	_, err := pgx.ForEachRow(rows, []any{&key.projection, &key.generation, &key.store, &partition, &t.parked, &t.act}, func() error {
		if all[key] == nil {
			all[key] = make(map[int]told)
		}
		all[key][partition] = t
		return nil
	})
	return all, err
}
