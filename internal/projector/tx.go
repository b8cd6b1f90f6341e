package projector

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
)

// Tx is the transaction in which a batch of events is folded and its checkpoints move. It is sent in as few
// round trips as possible: what is queued travels with the next Query, Exec or Copy, or with the commit.
// It is not safe for concurrent use.
type Tx struct {
	conn       *pgx.Conn
	names      *schemaNames
	partitions int
	bulk       bool

	queued *pgx.Batch
	begun  bool
	lost   bool // the checkpoints had been moved by somebody else

	folds  map[foldID]deferredFold // in a rebuild: the states that Fold has not saved yet
	kept   keptFolds               // with a store that remembers them: the states that Fold made in earlier batches
	folded map[foldID]struct{}     // those used in this call of Apply
}

// Partition returns the partition of a stream.
func (t *Tx) Partition(stream string) int { return es.PartitionOf(stream, t.partitions) }

// Bulk reports whether the batch is one of many of a rebuild or a catch-up. Applying has the same result; it
// may choose another way there.
func (t *Tx) Bulk() bool { return t.bulk }

// Undone says that all that Apply has done has been rolled back to a savepoint, and will be done again.
func (t *Tx) Undone() {
	clear(t.kept)
	clear(t.folded)
}

// Queue sends a statement together with the next ones. Its error, if any, undoes the batch.
func (t *Tx) Queue(sql string, args ...any) {
	t.queued.Queue(t.names.rewrite(sql), args...)
}

// Exec runs a statement, behind those queued, and returns the number of rows affected.
func (t *Tx) Exec(ctx context.Context, sql string, args ...any) (int64, error) {
	t.Queue(sql, args...)
	results, n := t.send(ctx)
	for range n - 1 {
		if _, err := results.Exec(); err != nil {
			return 0, t.failed(results, err)
		}
	}
	tag, err := results.Exec()
	if err != nil {
		return 0, t.failed(results, err)
	}
	return tag.RowsAffected(), results.Close()
}

// Query runs a query, behind the statements queued. The rows must be closed before the next call.
func (t *Tx) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	t.Queue(sql, args...)
	results, n := t.send(ctx)
	for range n - 1 {
		if _, err := results.Exec(); err != nil {
			return nil, t.failed(results, err)
		}
	}
	rows, err := results.Query()
	if err != nil {
		return nil, t.failed(results, err)
	}
	return &batchRows{Rows: rows, results: results}, nil
}

// Copy adds rows to a table, named "<projection>.<table>", by COPY, behind the statements queued.
func (t *Tx) Copy(ctx context.Context, table string, columns []string, rows [][]any) error {
	if err := t.flush(ctx); err != nil {
		return err
	}
	schema, name, ok := strings.Cut(t.names.rewrite(table), ".")
	if !ok {
		return fmt.Errorf("projector: table %q to copy to is not named <projection>.<table>", table)
	}
	_, err := t.conn.CopyFrom(ctx, pgx.Identifier{schema, name}, columns, pgx.CopyFromRows(rows))
	return err
}

// send sends what is queued; the transaction begins with the first thing sent.
func (t *Tx) send(ctx context.Context) (pgx.BatchResults, int) {
	b := t.queued
	t.queued = &pgx.Batch{}
	if !t.begun {
		t.begun = true
		begin := &pgx.Batch{}
		begin.Queue("begin")
		begin.QueuedQueries = append(begin.QueuedQueries, b.QueuedQueries...)
		b = begin
	}
	return t.conn.SendBatch(ctx, b), b.Len()
}

func (t *Tx) flush(ctx context.Context) error {
	if t.begun && t.queued.Len() == 0 {
		return nil
	}
	results, _ := t.send(ctx)
	if err := results.Close(); err != nil {
		return t.failed(nil, err)
	}
	return nil
}

func (t *Tx) failed(results pgx.BatchResults, err error) error {
	if results != nil {
		_ = results.Close() // reports the same error
	}
	if sqlState(err) == checkpointMoved {
		t.lost = true
	}
	return err
}

// commit sends what is still queued and commits. A transaction that never had to wait for an answer is one
// round trip, and commits by the end of the pipeline.
func (t *Tx) commit(ctx context.Context) error {
	if t.begun {
		t.queued.Queue("commit")
	}
	results := t.conn.SendBatch(ctx, t.queued)
	if err := results.Close(); err != nil {
		return t.failed(nil, err)
	}
	t.begun = false
	return nil
}

// rollbackTimeout bounds the end of a transaction that failed; the connection is closed when it takes longer.
const rollbackTimeout = 2 * time.Second

// rollback leaves the connection fit for others, also when ctx has ended.
func (t *Tx) rollback(ctx context.Context) {
	if t.begun && !t.conn.IsClosed() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
		defer cancel()
		_, _ = t.conn.Exec(ctx, "rollback") // a connection that fails is closed and not used again
	}
}

// batchRows are the rows of the last statement of a batch: closing them ends the batch.
type batchRows struct {
	pgx.Rows
	results pgx.BatchResults
	err     error
}

func (r *batchRows) Next() bool {
	if r.Rows.Next() {
		return true
	}
	r.Close()
	return false
}

func (r *batchRows) Close() {
	r.Rows.Close()
	if err := r.results.Close(); err != nil && r.err == nil {
		r.err = err
	}
}

func (r *batchRows) Err() error {
	if err := r.Rows.Err(); err != nil {
		return err
	}
	return r.err
}
