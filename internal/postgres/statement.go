package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
)

// statement is one of those that write a batch.
type statement struct {
	sql  string
	args []any
	// writes says that the rows that it concerns are what is written.
	writes bool
	// data is what a COPY copies, nil for other statements.
	data []byte
}

// sendable are the statements that a batch is written with.
var sendable = []string{
	appendStatement, appendPresuming, admitCopy, admitPresuming, copyStatement, copyRecords, recordWithEvents, recordAtHead, makeRoomForKeys, commit,
}

const commit = `COMMIT`

// prepared are the statements as a connection knows them. They are sent as PostgreSQL's protocol has it, since pgx cannot send anything else together with a
// COPY: it would wait for the answer to each.
type prepared struct {
	types   *pgtype.Map
	against map[string]*pgconn.StatementDescription
}

// prepare prepares the statements on a connection, the first time that it is called for it.
func prepare(ctx context.Context, conn *pgx.Conn) (prepared, error) {
	p := prepared{types: conn.TypeMap(), against: make(map[string]*pgconn.StatementDescription, len(sendable))}
	for _, sql := range sendable {
		sd, err := conn.Prepare(ctx, sql, sql)
		if err != nil {
			return prepared{}, fmt.Errorf("postgres: preparing to append: %w", err)
		}
		p.against[sql] = sd
	}
	return p, nil
}

// queue puts the statements, and a Sync that ends them, into what is sent when the frontend is flushed.
func (p prepared) queue(f *pgproto3.Frontend, statements []statement) error {
	for _, s := range statements {
		var values pgx.ExtendedQueryBuilder
		sd := p.against[s.sql]
		if err := values.Build(p.types, sd, s.args); err != nil {
			return fmt.Errorf("postgres: encoding an append: %w", err)
		}
		f.SendBind(&pgproto3.Bind{PreparedStatement: sd.Name, ParameterFormatCodes: values.ParamFormats, Parameters: values.ParamValues})
		f.SendExecute(&pgproto3.Execute{})
		if s.data != nil { // the server takes it when it comes to it, or passes over it if something has failed before
			f.Send(&pgproto3.CopyData{Data: s.data})
			f.Send(&pgproto3.CopyDone{})
		}
	}
	f.SendSync(&pgproto3.Sync{})
	return nil
}

// answer is what a server says to statements.
type answer struct {
	to      []statement
	next    int   // the one that is answered next
	written int64 // rows
	err     error // what the server has against them
}

// hear counts a message towards the answer, and reports whether it is complete. An error says that the connection is of no use any more.
func (a *answer) hear(message pgproto3.BackendMessage) (complete bool, err error) {
	switch m := message.(type) {
	case *pgproto3.ErrorResponse:
		a.err = pgconn.ErrorResponseToPgError(m)
	case *pgproto3.CommandComplete:
		if a.next == len(a.to) {
			return false, errUnexpected
		}
		if a.to[a.next].writes {
			a.written += pgconn.NewCommandTag(string(m.CommandTag)).RowsAffected()
		}
		a.next++
	case *pgproto3.ReadyForQuery:
		if a.err == nil && a.next < len(a.to) {
			return false, errUnexpected
		}
		return true, nil
	}
	return false, nil
}

var errUnexpected = errors.New("postgres: an answer to nothing that was asked")

// exchange sends the statements in one go and returns how many rows they have written. Unless the server has answered, with an error or not, it closes the
// connection, and what became of the statements is not known.
func exchange(ctx context.Context, conn *pgx.Conn, statements []statement) (written int64, err error) {
	a := answer{to: statements}
	if err := a.fetch(ctx, conn); err != nil {
		_ = conn.Close(ctx) // which says nothing that err does not
		return 0, err
	}
	return a.written, a.err
}

// fetch sends the statements and hears the whole answer to them.
func (a *answer) fetch(ctx context.Context, conn *pgx.Conn) error {
	if err := ctx.Err(); err != nil { // else they would still be sent
		return err
	}
	p, err := prepare(ctx, conn)
	if err != nil {
		return err
	}
	raw := conn.PgConn()
	if err := p.queue(raw.Frontend(), a.to); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = raw.Conn().Close() }) // a server that reads nothing more would hold the sending up
	err = raw.Frontend().Flush()
	stop()
	for complete := false; err == nil && !complete; {
		var message pgproto3.BackendMessage
		if message, err = raw.ReceiveMessage(ctx); err == nil {
			complete, err = a.hear(message)
		}
	}
	if err != nil {
		return fmt.Errorf("postgres: sending an append: %w", err)
	}
	return nil
}
