package projector

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// flushAfter is how long no commit has come before those that came are brought to the disk, and flushWithin how long they wait at
// most. On a busy server the next append takes them along long before, and a flush more would only hold it up.
const (
	flushAfter  = 4 * time.Millisecond
	flushWithin = 20 * time.Millisecond
)

// flusher brings commits that did not wait for the disk to it, and so to the replicas, where nothing else does: without it the last
// ones before a pause would wait for PostgreSQL's own writer, 200 ms as it comes.
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
	pause := time.NewTimer(flushAfter)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.dirty:
		}
		for latest := time.Now().Add(flushWithin); ; {
			pause.Reset(min(flushAfter, time.Until(latest)))
			select {
			case <-ctx.Done():
				return nil
			case <-f.dirty:
				continue
			case <-pause.C:
			}
			break
		}
		f.flush(ctx)
	}
}

// flush has a transaction wait for the disk, which takes along what was written before it.
func (f *flusher) flush(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	_, err := f.pool.Exec(bounded, `SELECT CASE WHEN pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn()
		THEN pg_logical_emit_message(true, 'millrace', '') END`)
	if err != nil && ctx.Err() == nil {
		f.logger.DebugContext(ctx, "commits of projections not flushed; the server does it itself", "error", err)
	}
}
