package projector

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	// blockedFor is how long a batch waits for another transaction before it is looked at who is in its way.
	blockedFor = 300 * time.Millisecond
	// mutedFor is how long the server must have heard nothing from a client to end what is in the way.
	mutedFor = time.Second
)

// endSilent ends the transactions that keep a backend waiting while the server waits for their clients. A rebuild that
// switches holds advisory locks, and is left alone.
const endSilent = `SELECT count(pg_terminate_backend(b.pid)) FROM unnest(pg_blocking_pids($1)) AS blocking(pid) JOIN pg_stat_activity b USING (pid)
	WHERE b.wait_event_type = 'Client' AND b.wait_event = 'ClientRead' AND b.state_change < now() - $2::interval
	AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = b.pid AND l.locktype = 'advisory')`

// fence sees to it, until the returned function is called, that the batch on conn is not held up by a worker that was
// stopped, or cut off, in the middle of one: its transaction holds the checkpoints for as long as it sleeps. Who holds the
// lease now ends it. The one that wakes finds its transaction undone, which is what the compare-and-set would have done.
func (s *postgresStore) fence(ctx context.Context, conn *pgx.Conn) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	pid := conn.PgConn().PID()
	done := make(chan struct{})
	timer := time.AfterFunc(blockedFor, func() {
		defer close(done)
		again := time.NewTicker(blockedFor)
		defer again.Stop()
		for ctx.Err() == nil {
			// An error is no reason for anything else: the batch goes on waiting, as it would without.
			_, _ = s.pool.Exec(ctx, endSilent, pid, mutedFor)
			select {
			case <-ctx.Done():
			case <-again.C:
			}
		}
	})
	return func() {
		cancel()
		if !timer.Stop() {
			<-done
		}
	}
}
