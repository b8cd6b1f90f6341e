package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/fence"
)

// Processes that append to one log take turns while they are in each other's way. A turn is a transaction that holds an advisory lock,
// for which PostgreSQL lets everybody wait in line. The lock makes room for who would lose for ever; that nobody writes over another is still
// the work of the primary key on position.
//
// Who has been alone for a while appends without a turn, in one round trip, and takes the lock in passing, if it is free. If it is not, or the
// head has moved, the round is lost: the next one is a turn, and in that one the head stands still. So a command is decided twice at most; once more
// in a batch in which a stream was presumed to be new that is not, which loses a round of its own, and once more if it was decided on a batch that was lost.

// appendLock is the advisory lock of turns.
const appendLock = `hashtext('millrace.append')`

// crowdedFor is how many turns without a rival's event it takes to go on without turns.
const crowdedFor = 8

// lockHeld is true in a transaction that holds the lock or can take it in passing.
const lockHeld = `(SELECT pg_try_advisory_xact_lock(` + appendLock + `))`

// errNotOurTurn says that nothing was written: somebody else holds the lock, or has appended in the meantime, or what stands at the writer's
// head is not what it knows (after a restore, or a failover to a replica that lacked the end), or a stream that was presumed to be new is
// not. The next turn tells which.
var errNotOurTurn = errors.New("postgres: another process has or had the turn, or the log is not what it was taken for")

// turn is a transaction that holds the lock, on a connection of its own, with the writer's states brought up to date in it.
type turn struct {
	conn *pgxpool.Conn
}

// beginTurn waits in line, and then asks what is queued. Where there is no turn it releases the connection. A server that is waited for in vain is told so
// by pgx: it would else wait on.
func beginTurn(ctx context.Context, conn *pgxpool.Conn, asked *pgx.Batch) (*turn, error) {
	_, err := prepare(ctx, conn.Conn()) // for end, so that nobody has to wait for it in the turn
	if err == nil {
		begin := []*pgx.QueuedQuery{{SQL: `BEGIN ISOLATION LEVEL READ COMMITTED`}, {SQL: `SELECT pg_advisory_xact_lock(` + appendLock + `)`}}
		asked.QueuedQueries = append(begin, asked.QueuedQueries...)
		err = conn.SendBatch(ctx, asked).Close()
	}
	if err != nil {
		conn.Release()
		return nil, fmt.Errorf("postgres: taking a turn: %w", err)
	}
	return &turn{conn: conn}, nil
}

// end sends the statements, which write what the turn was taken for, and a commit, and returns how many rows they have written. After an error nothing of
// the turn is certain.
func (t *turn) end(ctx context.Context, statements []statement) (written int64, err error) {
	defer t.conn.Release() // which closes a connection that is still in a transaction
	return exchange(ctx, t.conn.Conn(), append(statements, statement{sql: commit}))
}

// takeTurn waits in line, catches up with what the others have appended, and looks up the idempotency keys that are waiting: a command that is
// decided in the turn is decided on what cannot change meanwhile. The calls are those that are told if the database does not
// answer. The only errors are those that end the writer.
func (w *Writer) takeTurn(ctx context.Context, calls []*call) (*turn, error) {
	began := time.Now()
	defer w.watchSilence()()
	for attempt := 0; ; {
		t, complete, err := w.tryTurn(ctx, calls, attempt)
		switch {
		case err == nil && complete: // whatever has ended meanwhile: a turn has to be ended as well
			w.setDown(nil)
			w.metrics.turns.Inc()
			return t, nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case err == nil:
			continue
		}
		w.o.Log.Warn("no turn to append could be taken; trying again", "attempt", attempt, "error", err)
		since := time.Since(began)
		w.troubled(since, err)
		if since >= answerAfter {
			w.failAll(calls, fmt.Errorf("%w: %w", es.ErrUnavailable, errSilent))
		}
		if err := pause(ctx, attempt); err != nil {
			return nil, err
		}
		attempt++
	}
}

// tryTurn returns a turn, or, with complete false, none because there was so much to catch up with that others were not to wait for it.
func (w *Writer) tryTurn(ctx context.Context, calls []*call, attempt int) (t *turn, complete bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.attemptTimeout(attempt))
	defer cancel()
	conn, err := w.log.pool.Acquire(ctx)
	if err != nil {
		return nil, false, fmt.Errorf("postgres: taking a turn: %w", err)
	}
	defer w.fence(ctx, conn.Conn().PgConn().PID())()
	same := w.head == 0
	var events []es.Event
	var by uuid.UUID
	keys, found := w.waitingKeys(calls), (*foundKeys)(nil)
	b := &pgx.Batch{}
	if !same {
		b.Queue(sameLogQuery, w.head, w.headBatch).QueryRow(func(row pgx.Row) error { return row.Scan(&same) })
	}
	b.Queue(behindQuery, w.head, catchUpEvents).Query(func(rows pgx.Rows) (err error) {
		events, by, err = w.scanBehind(rows, nil)
		return err
	})
	if len(keys) > 0 {
		found = w.queueKeys(b, keys)
	}
	if t, err = beginTurn(ctx, conn, b); err != nil {
		return nil, false, err
	}
	if same && len(events) < catchUpEvents {
		w.caughtUp(events, by, keys, found)
		return t, true, nil
	}
	if _, err := conn.Exec(ctx, `ROLLBACK`); err != nil {
		conn.Release()
		return nil, false, fmt.Errorf("postgres: giving a turn back: %w", err)
	}
	conn.Release()
	if !same {
		return nil, false, w.restart(ctx, attempt)
	}
	w.caughtUp(events, by, nil, nil)
	return nil, false, w.catchUpRest(ctx, attempt)
}

// waitingKeys returns the idempotency keys of commands that wait to be decided, but for those that are known to have been used.
func (w *Writer) waitingKeys(calls []*call) (keys []es.Hash) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, calls := range [][]*call{calls, w.ready} {
		for _, c := range calls {
			for i := c.next; i < len(c.commands); i++ {
				id := c.commands[i].Idempotency
				if id == nil {
					continue
				}
				if _, used := w.states.usedKey(id.Key); !used {
					keys = append(keys, id.Key)
				}
			}
		}
	}
	return keys
}

// caughtUp takes notice of the events behind the head, and of what is known of keys as of the last of them.
func (w *Writer) caughtUp(events []es.Event, by uuid.UUID, keys []es.Hash, found *foundKeys) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.crowded--
	if len(events) > 0 {
		w.crowded = crowdedFor
	}
	w.applyAll(events, by)
	for _, k := range keys {
		if w.states.learn(k, found, w.head) {
			w.repeated = repeatedFor
		}
	}
}

const (
	// blockedFor is how long a writer waits in line before it looks at who is in its way.
	blockedFor = 200 * time.Millisecond
	// mutedFor is for how long the server must have waited for a client to end what is in the way.
	mutedFor = 400 * time.Millisecond
)

// fence sees to it, until the returned function is called, that what the backend pid waits for is not held up by a process that was stopped, or cut
// off, in the middle of its turn, or of sending a batch. The one that wakes asks the log what became of it.
func (w *Writer) fence(ctx context.Context, pid uint32) (stop func()) {
	return fence.Fence{
		Pool: w.log.pool, Blocked: blockedFor, Again: blockedFor / 2, Muted: mutedFor,
		Ended: func(transactions int) {
			w.o.Log.Warn("ended the transaction of a process that fell silent in its turn to append", "transactions", transactions)
		},
	}.Watch(ctx, pid)
}
