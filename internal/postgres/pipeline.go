package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
)

// pipeline sends transactions over one connection without waiting for the answer to the one before: PostgreSQL goes from one to the next, in their
// order, while answers are on their way. It is not safe for concurrent use. pgx can send a next batch only when the last one has been read, so
// that this speaks the protocol itself, on a connection that pgx has opened and prepared the statements on.
type pipeline struct {
	pool     *pgxpool.Pool
	lifetime time.Duration // of a connection, as the pool's
	line     *line         // nil before the first, and after one that was given up
}

func newPipeline(pool *pgxpool.Pool) pipeline {
	return pipeline{pool: pool, lifetime: pool.Config().MaxConnLifetime}
}

// attempt is a transaction that has been sent, or could not be.
type attempt struct {
	answer
	timeout time.Duration // from when it is the next to be answered
	// answered is closed when the answer is complete.
	answered chan struct{}
}

// send sends the statements as a transaction. If the connection ends before its answer, what became of it is not known; so it is if ctx ends.
func (p *pipeline) send(ctx context.Context, statements []statement, timeout time.Duration) *attempt {
	a := &attempt{answer: answer{to: statements}, timeout: timeout, answered: make(chan struct{})}
	if p.line == nil || p.line.isWornOut(p.lifetime) {
		p.close()
		opening, cancel := context.WithTimeout(ctx, timeout)
		defer cancel()
		if p.line, a.err = openLine(opening, p.pool); a.err != nil {
			p.line = nil
			close(a.answered)
			return a
		}
		go p.line.read()
	}
	l := p.line
	defer context.AfterFunc(ctx, func() { l.breakOff(context.Cause(ctx)) })() // a server that reads nothing more would hold the sending up
	l.send(a)
	return a
}

// pid is the backend that answers, 0 if there is none.
func (p *pipeline) pid() uint32 {
	if p.line == nil {
		return 0
	}
	return p.line.pid
}

// close ends the connection, and with it what is under way. The next transaction is sent on another one.
func (p *pipeline) close() {
	if p.line != nil {
		p.line.breakOff(net.ErrClosed)
		p.line = nil
	}
}

// line is the connection of a pipeline.
type line struct {
	conn     net.Conn
	pid      uint32
	frontend *pgproto3.Frontend // written to by who sends, and read from by read
	prepared prepared
	opened   time.Time

	mu      sync.Mutex
	pending []*attempt // in the order of their answers
	broken  error      // why it is of no use any more
}

func openLine(ctx context.Context, pool *pgxpool.Pool) (*line, error) {
	pooled, err := pool.Acquire(ctx)
	if err != nil {
		return nil, fmt.Errorf("postgres: a connection for appends: %w", err)
	}
	conn := pooled.Hijack()
	l := &line{opened: time.Now()}
	if err := l.take(ctx, conn); err != nil {
		return nil, errors.Join(fmt.Errorf("postgres: preparing a connection for appends: %w", err), conn.Close(ctx))
	}
	return l, nil
}

// take prepares the connection and takes it over from pgx.
func (l *line) take(ctx context.Context, conn *pgx.Conn) (err error) {
	if l.prepared, err = prepare(ctx, conn); err != nil {
		return err
	}
	if err := conn.PgConn().SyncConn(ctx); err != nil {
		return err
	}
	raw, err := conn.PgConn().Hijack()
	if err != nil {
		return err
	}
	l.conn, l.pid, l.frontend = raw.Conn, raw.PID, pgproto3.NewFrontend(raw.Conn, raw.Conn)
	return nil
}

// isWornOut reports whether the connection has ended, or nothing is under way on it and it has lived long enough: one that lives for ever keeps a server
// from being left, and all the memory that its session ever needed.
func (l *line) isWornOut(lifetime time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken != nil || len(l.pending) == 0 && time.Since(l.opened) > lifetime
}

// send sends the attempt's statements as one transaction: what stands between two Syncs is one.
func (l *line) send(a *attempt) {
	if err := l.prepared.queue(l.frontend, a.to); err != nil {
		l.breakOff(err) // with what is in the buffer, of which nothing has been sent
	}
	if !l.expect(a) {
		return
	}
	if err := l.frontend.Flush(); err != nil {
		l.breakOff(err)
	}
}

// expect has the attempt wait for its answer, which it has at once if there will be none.
func (l *line) expect(a *attempt) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		a.err = l.broken
		close(a.answered)
		return false
	}
	l.pending = append(l.pending, a)
	if len(l.pending) == 1 {
		l.setDeadline()
	}
	return true
}

// setDeadline gives the attempt that is answered next its time. It fails where the connection has ended, which read notices. l.mu is held.
func (l *line) setDeadline() {
	deadline := time.Time{}
	if len(l.pending) > 0 {
		deadline = time.Now().Add(l.pending[0].timeout)
	}
	_ = l.conn.SetDeadline(deadline)
}

// read reads answers until the connection ends.
func (l *line) read() {
	for {
		message, err := l.frontend.Receive()
		if err != nil {
			l.breakOff(err)
			return
		}
		if err := l.hear(message); err != nil {
			l.breakOff(err)
			return
		}
	}
}

// hear counts a message towards the answer to the attempt that is answered next. An error says that the connection is of no use any more.
func (l *line) hear(message pgproto3.BackendMessage) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) == 0 {
		return unasked(message)
	}
	a := l.pending[0]
	complete, err := a.hear(message)
	if err != nil || !complete {
		return err
	}
	l.pending = slices.Delete(l.pending, 0, 1)
	l.setDeadline()
	close(a.answered)
	return nil
}

// unasked returns an error unless the message is one that a server sends of its own accord, of a setting that has changed, say.
func unasked(message pgproto3.BackendMessage) error {
	switch m := message.(type) {
	case *pgproto3.ErrorResponse:
		return pgconn.ErrorResponseToPgError(m)
	case *pgproto3.CommandComplete, *pgproto3.ReadyForQuery:
		return errUnexpected
	}
	return nil
}

// breakOff ends the connection. What is under way gets the error, unless it has one.
func (l *line) breakOff(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return
	}
	l.broken = err
	_ = l.conn.Close() // which nobody uses any more
	for _, a := range l.pending {
		if a.err == nil {
			a.err = err
		}
		close(a.answered)
	}
	l.pending = nil
}
