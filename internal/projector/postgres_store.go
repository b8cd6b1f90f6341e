package projector

import (
	"context"
	"errors"
	"fmt"
	"slices"
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
		names: newSchemaNames(map[string]string{p.sqlName(): schemaName(p.Name, generation)}),
	}
}

func (s *postgresStore) name() string { return storePostgres }

func (s *postgresStore) load(ctx context.Context, partitions []int) ([]mark, error) {
	return loadCheckpoints(ctx, s.pool, s.projection.Name, s.generation, storePostgres, partitions)
}

// loadCheckpoints returns the marks kept in PostgreSQL, or errGone when there are none.
func loadCheckpoints(ctx context.Context, pool *pgxpool.Pool, projection string, generation int, store string, partitions []int) ([]mark, error) {
	rows, err := pool.Query(ctx, `SELECT c.position, coalesce(c.held::text, '')
		FROM unnest($4::smallint[]) WITH ORDINALITY AS wanted(partition, place)
		JOIN checkpoints c ON c.projection = $1 AND c.generation = $2 AND c.store = $3 AND c.partition = wanted.partition
		ORDER BY place`, projection, generation, store, partitions)
	if err != nil {
		return nil, fmt.Errorf("projector: reading the checkpoints of %s: %w", projection, err)
	}
	marks, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m mark, err error) {
		var text string
		if err := row.Scan(&m.position, &text); err != nil {
			return m, err
		}
		m.held, err = parseHeld(text)
		return m, err
	})
	if err != nil {
		return nil, fmt.Errorf("projector: reading the checkpoints of %s: %w", projection, err)
	}
	if len(marks) != len(partitions) {
		return nil, fmt.Errorf("projector: generation %d of %s: %w", generation, projection, errGone)
	}
	return marks, nil
}

// moveCheckpoints is the compare-and-set of several partitions that go without nothing, all or nothing. Whether the
// commit waits for the disk is $7; it need not: rows and checkpoints are lost together, and are folded again. Folding finds rows by their keys: without statistics yet, the planner takes a new table for a small one
// and would rather read all of it.
const moveCheckpoints = `WITH moved AS (
	  UPDATE checkpoints c SET position = m.to_position
	  FROM unnest($4::smallint[], $5::bigint[], $6::bigint[]) AS m(partition, from_position, to_position)
	  WHERE c.projection = $1 AND c.generation = $2 AND c.store = $3 AND c.partition = m.partition
	    AND c.position = m.from_position AND c.held IS NULL
	  RETURNING 1
	)
	SELECT set_config('synchronous_commit', $7, true), set_config('enable_seqscan', 'off', true),
	  CASE WHEN (SELECT count(*) FROM moved) <> cardinality($4::smallint[]) THEN checkpoints_moved($1, $2) END`

// Values of synchronous_commit: replicas are sent what is on the disk, so that their readers wait for it.
const (
	commitNow  = "local"
	commitSoon = "off"
)

// queueMoves queues the compare-and-set of the marks.
func (s *postgresStore) queueMoves(b *pgx.Batch, moves []move, commit string) {
	// In order, so that two workers do not wait for each other.
	moves = slices.SortedFunc(slices.Values(moves), func(a, b move) int { return a.partition - b.partition })
	partitions, from, to := make([]int16, len(moves)), make([]int64, len(moves)), make([]int64, len(moves))
	holding := false
	for i, m := range moves {
		partitions[i], from[i], to[i] = int16(m.partition), m.from, m.to
		holding = holding || len(m.fromHeld) > 0 || len(m.toHeld) > 0
	}
	if !holding {
		b.Queue(moveCheckpoints, s.projection.Name, s.generation, storePostgres, partitions, from, to, commit)
		return
	}
	fromHeld, toHeld := make([]string, len(moves)), make([]string, len(moves))
	for i, m := range moves {
		fromHeld[i], toHeld[i] = m.fromHeld.text(), m.toHeld.text()
	}
	b.Queue(`SELECT move_checkpoints($1, $2, $3, $4, $5, $6, $7, $8)`,
		s.projection.Name, s.generation, storePostgres, partitions, from, to, fromHeld, toHeld)
	b.Queue(`SELECT set_config('synchronous_commit', $1, true)`, commit)
}

// queueEnd has marks move without an event only as far as the log reaches on the server that they are on, which may not have what was seen of the log of another.
func (s *postgresStore) queueEnd(b *pgx.Batch, moves []move) {
	var most int64
	for _, m := range moves {
		if m.to > m.from {
			most = max(most, m.to)
		}
	}
	if most > 0 {
		b.Queue(`SELECT checkpoints_moved($1, $2) WHERE NOT EXISTS (SELECT FROM events WHERE position >= $3)`, s.projection.Name, s.generation, most)
	}
}

// apply folds one batch. Runners keep the states of theirs: see keepingStore.
func (s *postgresStore) apply(ctx context.Context, moves []move, events []es.Event, bulk bool) error {
	return s.applyWith(ctx, nil, moves, events, bulk, commitSoon)
}

// keepingStore is a postgresStore that remembers the states that [Fold] made: a batch then need not read them. They are those of
// the marks, which nobody else moves unnoticed. It is not safe for concurrent use.
type keepingStore struct {
	*postgresStore
	kept keptFolds
	last time.Time // when the last batch was committed
}

func (s *postgresStore) keeping() *keepingStore {
	return &keepingStore{postgresStore: s, kept: keptFolds{}}
}

// load forgets what belongs to marks of before: somebody else may have moved them since.
func (s *keepingStore) load(ctx context.Context, partitions []int) ([]mark, error) {
	clear(s.kept)
	return s.postgresStore.load(ctx, partitions)
}

func (s *keepingStore) apply(ctx context.Context, moves []move, events []es.Event, bulk bool) error {
	commit := commitSoon
	if time.Since(s.last) > flushAfter && !ofSeveralAppends(events) {
		commit = commitNow // no append is likely to take it along
	}
	err := s.applyWith(ctx, s.kept, moves, events, bulk, commit)
	if err != nil {
		clear(s.kept)
	}
	s.last = time.Now()
	return err
}

// ofSeveralAppends reports whether events, in order, were appended one after the other and have come together, as they do where they come thick and fast.
func ofSeveralAppends(events []es.Event) bool {
	return len(events) > 1 && events[0].RecordedAt.Before(events[len(events)-1].RecordedAt)
}

func (s *postgresStore) applyWith(ctx context.Context, kept keptFolds, moves []move, events []es.Event, bulk bool, commit string) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("projector: connecting for %s: %w", s.projection.Name, err)
	}
	defer conn.Release()
	defer s.fence(ctx, conn.Conn())()
	tx := &Tx{conn: conn.Conn(), names: s.names, partitions: s.partitions, bulk: bulk, queued: &pgx.Batch{}, kept: kept}
	s.queueMoves(tx.queued, moves, commit) // first: who has lost does no work
	if len(events) == 0 {
		s.queueEnd(tx.queued, moves)
	} else {
		err = guarded(func() error { return s.projection.Postgres.Apply(ctx, tx, events) })
	}
	if err == nil {
		err = tx.commit(ctx)
	}
	if err != nil {
		tx.rollback(ctx)
		return s.classify(ctx, tx, err)
	}
	if commit == commitSoon {
		s.committed()
	}
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
