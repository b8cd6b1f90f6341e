// Package fence keeps a process that was stopped, or cut off, in the middle of a transaction from holding others up for as long as it sleeps.
package fence

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Fence ends the transactions of clients that fell silent while others wait for them. Whoever wakes finds its transaction undone, as after
// any broken connection: it must be one that may be undone until it is committed.
type Fence struct {
	// Pool has a connection to spare for looking who is in the way, to the server that is waited for.
	Pool *pgxpool.Pool
	// Blocked is how long one waits before that, and Again the pause between looks.
	Blocked, Again time.Duration
	// Muted is for how long the server must have waited for a client to end its transaction.
	Muted time.Duration
	// SpareAdvisory leaves transactions alone that hold advisory locks.
	SpareAdvisory bool
	// Ended, if not nil, is told how many transactions a look has ended.
	Ended func(transactions int)
}

// endSilent ends the transactions that keep a backend waiting while the server waits for their clients.
const endSilent = `SELECT count(pg_terminate_backend(b.pid)) FROM unnest(pg_blocking_pids($1)) AS blocking(pid) JOIN pg_stat_activity b USING (pid)
	WHERE b.wait_event_type = 'Client' AND b.wait_event IN ('ClientRead', 'ClientWrite') AND b.state_change < now() - $2::interval
	AND NOT ($3 AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = b.pid AND l.locktype = 'advisory'))`

// Watch sees to it, until the returned function is called, that what the backend pid waits for is not held up.
func (f Fence) Watch(ctx context.Context, pid uint32) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	timer := time.AfterFunc(f.Blocked, func() {
		defer close(done)
		again := time.NewTicker(f.Again)
		defer again.Stop()
		for ctx.Err() == nil {
			var ended int
			// An error is no reason for anything else: one goes on waiting, as one would without.
			err := f.Pool.QueryRow(ctx, endSilent, pid, f.Muted, f.SpareAdvisory).Scan(&ended)
			if err == nil && ended > 0 && f.Ended != nil {
				f.Ended(ended)
			}
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
