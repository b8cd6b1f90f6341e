package projector

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/es"
)

// records is what is written down, beside the model itself, about one generation in one store.
type records struct {
	pool       *pgxpool.Pool
	projection string
	generation int
	store      string
	logger     *slog.Logger
}

type failure struct {
	position int64
	attempts int
}

func (r *records) failures(ctx context.Context, partitions []int) (map[int]failure, error) {
	rows, err := r.pool.Query(ctx, `SELECT partition, position, attempts FROM projection_failures
		WHERE projection = $1 AND generation = $2 AND store = $3 AND partition = ANY ($4::smallint[])`,
		r.projection, r.generation, r.store, partitions)
	if err != nil {
		return nil, fmt.Errorf("projector: reading the failures of %s: %w", r.projection, err)
	}
	found := make(map[int]failure)
	var n int
	var f failure
	_, err = pgx.ForEachRow(rows, []any{&n, &f.position, &f.attempts}, func() error {
		found[n] = f
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("projector: reading the failures of %s: %w", r.projection, err)
	}
	return found, nil
}

// exists returns errGone when the generation has been dropped.
func (r *records) exists(ctx context.Context) error {
	var dropped bool
	err := r.pool.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM projections WHERE name = $1 AND generation = $2 AND status <> 'dropped')`,
		r.projection, r.generation).Scan(&dropped)
	if err != nil {
		return fmt.Errorf("projector: looking for generation %d of %s: %w", r.generation, r.projection, err)
	}
	if dropped {
		return fmt.Errorf("projector: generation %d of %s: %w", r.generation, r.projection, errGone)
	}
	return nil
}

func (r *records) fail(ctx context.Context, p *part, e *es.Event, cause error) error {
	_, err := r.pool.Exec(ctx, `INSERT INTO projection_failures AS f
		(projection, generation, store, partition, position, stream, type, error, attempts)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		ON CONFLICT (projection, generation, store, partition) DO UPDATE SET position = excluded.position,
		  stream = excluded.stream, type = excluded.type, error = excluded.error, attempts = excluded.attempts, failed_at = now(),
		  retry_asked = false`,
		r.projection, r.generation, r.store, p.number, e.Position, e.Stream, e.Type, errorText(cause), p.attempts)
	if err != nil {
		return fmt.Errorf("projector: writing down a failure of %s: %w", r.projection, err)
	}
	return nil
}

func (r *records) resolve(ctx context.Context, partition int) error {
	_, err := r.pool.Exec(ctx, `DELETE FROM projection_failures
		WHERE projection = $1 AND generation = $2 AND store = $3 AND partition = $4`, r.projection, r.generation, r.store, partition)
	if err != nil {
		return fmt.Errorf("projector: striking off a failure of %s: %w", r.projection, err)
	}
	return nil
}

// remember notes how far Redis is known to have come, for readers to tell when it has lost data.
func (r *records) remember(ctx context.Context, moves []move) {
	partitions, to := make([]int16, len(moves)), make([]int64, len(moves))
	for i, m := range moves {
		partitions[i], to[i] = int16(m.partition), m.to
	}
	b := &pgx.Batch{}
	b.Queue(`SELECT set_config('synchronous_commit', 'off', true)`) // nothing is lost that is not found again
	b.Queue(`UPDATE checkpoints c SET position = m.position
		FROM unnest($4::smallint[], $5::bigint[]) AS m(partition, position)
		WHERE c.projection = $1 AND c.generation = $2 AND c.store = $3 AND c.partition = m.partition AND c.position < m.position`,
		r.projection, r.generation, storeRedis, partitions, to)
	bounded, cancel := context.WithTimeout(ctx, answerTimeout) // live partitions wait for it
	defer cancel()
	if err := r.pool.SendBatch(bounded, b).Close(); err != nil && ctx.Err() == nil {
		r.logger.WarnContext(ctx, "progress in Redis not remembered", "error", err)
	}
}
