package projector

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// flushDelay is how long a commit may wait for its way to the disk, and so to the replicas.
const flushDelay = 3 * time.Millisecond

// flusher brings commits that did not wait for the disk to it a moment later, many at once. Without it the last ones
// before a pause would wait for PostgreSQL's own writer, 200 ms as it comes, before a replica sees them.
type flusher struct {
	pool   *pgxpool.Pool
	logger *slog.Logger
	dirty  chan struct{}
}

func newFlusher(pool *pgxpool.Pool, logger *slog.Logger) *flusher {
	return &flusher{pool: pool, logger: logger, dirty: make(chan struct{}, 1)}
}

// poke says that there is a commit to flush.
func (f *flusher) poke() {
	select {
	case f.dirty <- struct{}{}:
	default:
	}
}

func (f *flusher) run(ctx context.Context) error {
	timer := time.NewTimer(flushDelay)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.dirty:
		}
		bounded, cancel := context.WithTimeout(ctx, answerTimeout)
		err := f.flush(bounded, timer)
		cancel()
		if err != nil && ctx.Err() == nil {
			f.logger.DebugContext(ctx, "commits of projections not flushed; the server does it itself", "error", err)
		}
	}
}

// flush sees to it that what has been written so far is on the disk after flushDelay. On a busy server others have
// done it by then; they are not to be held up.
func (f *flusher) flush(ctx context.Context, timer *time.Timer) error {
	var written string
	if err := f.pool.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&written); err != nil {
		return err
	}
	timer.Reset(flushDelay)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	// A transaction of its own that waits for the disk takes along what was written before it.
	_, err := f.pool.Exec(ctx, `SELECT CASE WHEN pg_current_wal_flush_lsn() < $1::text::pg_lsn
		THEN pg_logical_emit_message(true, 'millrace', '') END`, written)
	return err
}
