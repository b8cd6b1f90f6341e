package projector

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/es"
)

// A rebuild commits when it has folded this many events, or holds this many states in memory. Statements are sent before that, when a page has left this many
// queued.
const (
	deferredEvents     = 250_000
	deferredStates     = 5_000
	deferredStatements = 5_000
)

// bulkTimeout bounds a reading or a writing of a rebuild, so that a server that does not answer is noticed.
const bulkTimeout = 5 * time.Minute

// deferringStore is a store whose apply may leave the writing to a later one; flush writes all that is left.
// After an error nothing of what was left has been written, unless the checkpoints say so. It is not safe for
// concurrent use.
type deferringStore interface {
	store
	flush(ctx context.Context) error
	// discard forgets what is left, and lets go of what it holds of the server, also when ctx has ended.
	discard(ctx context.Context)
	// direct is the same generation without deferring.
	direct() store
}

// bulkStore applies many batches in one transaction. States folded by [Fold] stay in memory until its end, so that a row
// that many events change is written once.
type bulkStore struct {
	*postgresStore
	conn    *pgxpool.Conn // nil: no transaction is open
	unfence func()
	tx      *Tx
	moves   deferredMoves
}

func (s *bulkStore) direct() store { return s.postgresStore }

func (s *bulkStore) apply(ctx context.Context, moves []move, events []es.Event, _ bool) error {
	if s.conn == nil {
		conn, err := s.pool.Acquire(ctx)
		if err != nil {
			return fmt.Errorf("projector: connecting for %s: %w", s.projection.Name, err)
		}
		s.conn, s.unfence = conn, s.fence(ctx, conn.Conn()) // a worker that had this share before may sleep
		s.tx = &Tx{
			conn: conn.Conn(), names: s.names, partitions: s.partitions, bulk: true, queued: &pgx.Batch{},
			folds: make(map[foldID]deferredFold),
		}
		s.tx.queued.Queue(`SELECT set_config('enable_seqscan', 'off', true)`) // see moveCheckpoints
		s.moves.reset()
	}
	s.moves.add(moves, len(events))
	if len(events) > 0 {
		clear(s.tx.folded)
		bounded, cancel := context.WithTimeout(ctx, bulkTimeout)
		defer cancel()
		err := guarded(func() error { return s.projection.Postgres.Apply(bounded, s.tx, events) })
		if err == nil && s.tx.queued.Len() >= deferredStatements {
			err = s.tx.flush(bounded)
		}
		if err != nil {
			return s.abort(ctx, err)
		}
	}
	states := 0
	for _, f := range s.tx.folds {
		states += f.size()
	}
	if s.moves.events < deferredEvents && states < deferredStates {
		return nil
	}
	return s.flush(ctx)
}

func (s *bulkStore) flush(ctx context.Context) error {
	if s.conn == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, bulkTimeout)
	defer cancel()
	for _, f := range s.tx.folds {
		if err := guarded(func() error { return f.save(ctx, s.tx) }); err != nil {
			return s.abort(ctx, err)
		}
	}
	s.queueMoves(s.tx.queued, s.moves.list(), commitSoon)
	if err := s.tx.commit(ctx); err != nil {
		return s.abort(ctx, err)
	}
	s.release()
	return nil
}

func (s *bulkStore) abort(ctx context.Context, err error) error {
	s.tx.rollback(ctx)
	err = s.classify(ctx, s.tx, err)
	s.release()
	return err
}

func (s *bulkStore) discard(ctx context.Context) {
	if s.conn != nil {
		s.tx.rollback(ctx)
		s.release()
	}
}

func (s *bulkStore) release() {
	s.unfence()
	s.conn.Release()
	s.conn, s.tx = nil, nil
}

// deferredMoves are those of several batches, put together.
type deferredMoves struct {
	byPartition map[int]move
	events      int
}

func (d *deferredMoves) reset() { d.byPartition, d.events = make(map[int]move), 0 }

func (d *deferredMoves) add(moves []move, events int) {
	d.events += events
	for _, m := range moves {
		if earlier, ok := d.byPartition[m.partition]; ok {
			m.from, m.fromHeld = earlier.from, earlier.fromHeld
		}
		d.byPartition[m.partition] = m
	}
}

func (d *deferredMoves) list() []move {
	moves := make([]move, 0, len(d.byPartition))
	for _, m := range d.byPartition {
		moves = append(moves, m)
	}
	return moves
}
