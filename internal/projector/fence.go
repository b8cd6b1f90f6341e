package projector

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/fence"
)

const (
	// blockedFor is how long a batch waits for another transaction before it is looked at who is in its way.
	blockedFor = 300 * time.Millisecond
	// mutedFor is how long the server must have heard nothing from a client to end what is in the way.
	mutedFor = time.Second
)

// fence sees to it, until the returned function is called, that the batch on conn is not held up by a worker that was
// stopped, or cut off, in the middle of one: its transaction holds the checkpoints for as long as it sleeps. Who holds the
// lease now ends it. The one that wakes finds its transaction undone, which is what the compare-and-set would have done.
// A rebuild that switches holds an advisory lock, and is left alone: see lockProjection.
func (s *postgresStore) fence(ctx context.Context, conn *pgx.Conn) (stop func()) {
	return fence.Fence{Pool: s.pool, Blocked: blockedFor, Again: blockedFor, Muted: mutedFor, SpareAdvisory: true}.Watch(ctx, conn.PgConn().PID())
}
