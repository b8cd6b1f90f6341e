package projector

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// heartbeat shows that a worker lives and renews its leases. It does nothing else, on a connection of its own: neither a
// busy pool nor a batch that takes its time can make it late.
type heartbeat struct {
	config *pgx.ConnConfig
	worker string
	takes  []string
	helps  bool
	logger *slog.Logger

	conn *pgx.Conn // nil: to be made

	mu    sync.Mutex
	last  time.Time // when the last beat that succeeded was begun
	since time.Time // when the first of those was that the last one follows without a gap
}

// beatTimeout bounds one beat, so that there is time for another one, on another connection, before a lease runs out.
const beatTimeout = leaseTTL / 2

// silent reports whether the worker has been silent for so long that others have its partitions.
func (h *heartbeat) silent() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Since(h.last) > leaseTTL
}

// steady reports whether the database has heard of the worker for as long as a lease lasts. Who has just come, or comes
// back to a database that was away, finds leases that have run out although their workers live: those are to have the time
// to renew them.
func (h *heartbeat) steady() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Since(h.last) <= leaseTTL && h.last.Sub(h.since) >= leaseTTL
}

func (h *heartbeat) succeeded(began time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if began.Sub(h.last) > beatTimeout+2*leaseTick {
		h.since = began
	}
	h.last = began
}

// run beats until ctx ends, and tells so each time that it has, or could not. A beat under way is finished: it must not come
// behind the worker's farewell.
func (h *heartbeat) run(ctx context.Context, beats chan<- struct{}) {
	ticker := time.NewTicker(leaseTick)
	defer ticker.Stop()
	quiet := false
	for ctx.Err() == nil {
		began := time.Now()
		switch err := h.beat(context.WithoutCancel(ctx)); {
		case err == nil:
			h.succeeded(began)
			quiet = false
		case !quiet && ctx.Err() == nil:
			h.logger.WarnContext(ctx, "projection worker cannot renew its leases", "worker", h.worker, "error", err)
			quiet = true
		}
		select {
		case beats <- struct{}{}:
		default: // it has not looked at the last one yet
		}
		select {
		case <-ctx.Done():
		case <-ticker.C:
		}
	}
}

func (h *heartbeat) beat(ctx context.Context) error {
	b := &pgx.Batch{}
	b.Queue(`SELECT set_config('synchronous_commit', 'off', true)`) // nothing is lost that the next beat does not bring back
	b.Queue(`INSERT INTO workers (id, projections, helps) VALUES ($1, $2, $3)
		ON CONFLICT (id) DO UPDATE SET projections = excluded.projections, seen_at = now()`, h.worker, h.takes, h.helps)
	b.Queue(`DELETE FROM workers WHERE id IN (SELECT id FROM workers WHERE seen_at < now() - interval '1 minute' FOR UPDATE SKIP LOCKED)`)
	// What is being released or taken at this moment is not waited for.
	b.Queue(`UPDATE leases l SET expires_at = now() + $2::interval FROM (
		  SELECT projection, version, partition FROM leases WHERE worker = $1 FOR NO KEY UPDATE SKIP LOCKED) AS held
		WHERE (l.projection, l.version, l.partition) = (held.projection, held.version, held.partition)`, h.worker, leaseTTL)
	if err := h.send(ctx, beatTimeout, b); err != nil {
		return fmt.Errorf("projector: renewing leases: %w", err)
	}
	return nil
}

// leave frees everything, takes the worker off the list and ends the connection. It comes behind run.
func (h *heartbeat) leave(ctx context.Context) error {
	b := &pgx.Batch{}
	b.Queue(`UPDATE leases SET worker = NULL, expires_at = now() WHERE worker = $1`, h.worker)
	b.Queue(`DELETE FROM workers WHERE id = $1`, h.worker)
	if err := h.send(ctx, handOver, b); err != nil {
		return fmt.Errorf("projector: handing over: %w", err)
	}
	h.hangUp(ctx)
	return nil
}

func (h *heartbeat) send(ctx context.Context, within time.Duration, b *pgx.Batch) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	if h.conn == nil {
		conn, err := pgx.ConnectConfig(ctx, h.config)
		if err != nil {
			return err
		}
		h.conn = conn
	}
	err := h.conn.SendBatch(ctx, b).Close()
	if err != nil {
		h.hangUp(ctx)
	}
	return err
}

// hangUp ends the connection; the next beat makes another one.
func (h *heartbeat) hangUp(ctx context.Context) {
	if h.conn != nil {
		_ = h.conn.Close(ctx) // whatever it says, the connection is not used again
		h.conn = nil
	}
}
