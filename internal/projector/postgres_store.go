package projector

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/es"
)

// applyTimeout bounds one batch, so that a server that does not answer is noticed.
const applyTimeout = 30 * time.Second

// postgresStore is a generation kept in a schema of the primary.
type postgresStore struct {
	pool       *pgxpool.Pool
	projection *Projection
	generation int
	partitions int
	names      *schemaNames
	committed  func() // called after a commit that may not have reached the disk yet
}

func newPostgresStore(pool *pgxpool.Pool, p *Projection, generation, partitions int, committed func()) *postgresStore {
	return &postgresStore{
		pool: pool, projection: p, generation: generation, partitions: partitions, committed: committed,
		names: newSchemaNames(map[string]string{p.Name: schemaName(p.Name, generation)}),
	}
}

func (s *postgresStore) name() string { return storePostgres }

func (s *postgresStore) load(ctx context.Context, partitions []int) ([]int64, error) {
	return loadCheckpoints(ctx, s.pool, s.projection.Name, s.generation, storePostgres, partitions)
}

// loadCheckpoints returns the checkpoints kept in PostgreSQL, or errGone when there are none.
func loadCheckpoints(ctx context.Context, pool *pgxpool.Pool, projection string, generation int, store string, partitions []int) ([]int64, error) {
	rows, err := pool.Query(ctx, `SELECT c.position
		FROM unnest($4::smallint[]) WITH ORDINALITY AS wanted(partition, place)
		JOIN checkpoints c ON c.projection = $1 AND c.generation = $2 AND c.store = $3 AND c.partition = wanted.partition
		ORDER BY place`, projection, generation, store, partitions)
	if err != nil {
		return nil, fmt.Errorf("projector: reading the checkpoints of %s: %w", projection, err)
	}
	positions, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("projector: reading the checkpoints of %s: %w", projection, err)
	}
	if len(positions) != len(partitions) {
		return nil, fmt.Errorf("projector: generation %d of %s: %w", generation, projection, errGone)
	}
	return positions, nil
}

// checkpointArguments are the last three of moveCheckpoints.
func checkpointArguments(moves []move) (partitions []int16, from, to []int64) {
	partitions, from, to = make([]int16, len(moves)), make([]int64, len(moves)), make([]int64, len(moves))
	for i, m := range moves {
		partitions[i], from[i], to[i] = int16(m.partition), m.from, m.to
	}
	return partitions, from, to
}

const moveCheckpoints = `SELECT move_checkpoints($1, $2, $3, $4, $5, $6)`

func (s *postgresStore) apply(ctx context.Context, moves []move, events []es.Event, bulk bool) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("projector: connecting for %s: %w", s.projection.Name, err)
	}
	defer conn.Release()
	defer s.fence(ctx, conn.Conn())()
	tx := &Tx{conn: conn.Conn(), names: s.names, partitions: s.partitions, bulk: bulk, queued: &pgx.Batch{}}
	partitions, from, to := checkpointArguments(moves)
	// The compare-and-set comes first: who has lost does no work.
	tx.queued.Queue(moveCheckpoints, s.projection.Name, s.generation, storePostgres, partitions, from, to)
	if len(events) > 0 {
		err = guarded(func() error { return s.projection.Postgres.Apply(ctx, tx, events) })
	}
	if err == nil {
		err = tx.commit(ctx)
	}
	if err != nil {
		tx.rollback(ctx)
		return s.classify(ctx, tx, err)
	}
	s.committed()
	return nil
}

// classify says who is to blame for a failed batch.
func (s *postgresStore) classify(ctx context.Context, tx *Tx, err error) error {
	state := sqlState(err)
	switch {
	case tx.lost || state == checkpointMoved:
		return errMoved
	case isFault(err):
		return err
	case ctx.Err() != nil || tx.conn.IsClosed() || serverAtFault(state):
		return fmt.Errorf("projector: folding %s: %w", s.projection.Name, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("projector: folding %s: %w", s.projection.Name, err)
	}
	return &faultError{err: err}
}
