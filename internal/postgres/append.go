package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/internal/es"
)

// errRefusedRows wraps what the database has against the rows themselves: sending them again is no use.
var errRefusedRows = errors.New("postgres: the events cannot be stored")

// eventRows are the rows of a batch, a slice a column.
type eventRows struct {
	stream     []string
	version    []int64
	typ        []string
	data       []string
	metadata   []string
	occurredAt []time.Time
	partition  []int16
	ordinal    []int64
	facts      []any
	recordedAt time.Time
}

// add appends the rows of a decision; nothing is added if a fact cannot be encoded.
func (r *eventRows) add(w *Writer, b *batch, d *es.Decision, metadata json.RawMessage) error {
	appended := d.Appended()
	types, data := make([]string, len(appended)), make([]string, len(appended))
	for i, a := range appended {
		eventType, encoded, err := w.log.codec.Encode(a.Fact)
		if err != nil {
			return err
		}
		types[i], data[i] = eventType, string(encoded)
	}
	for i, a := range appended {
		r.append(w, b, a.Stream, a.Version, types[i], data[i], string(metadata), d.OccurredAt(), a.Fact)
	}
	return nil
}

// addAgain appends rows of another batch, whose decision still stands.
func (r *eventRows) addAgain(w *Writer, b *batch, old *eventRows, from, to int) {
	for i := from; i < to; i++ {
		r.append(w, b, old.stream[i], old.version[i], old.typ[i], old.data[i], old.metadata[i], old.occurredAt[i], old.facts[i])
	}
}

// append appends a row in its place of its partition.
func (r *eventRows) append(w *Writer, b *batch, stream string, version int64, typ, data, metadata string, occurredAt time.Time, fact any) {
	p := es.PartitionOf(stream, w.log.info.Partitions)
	ordinal, seen := b.ordinals[p]
	if !seen && b.on != nil {
		ordinal, seen = b.on.ordinals[p]
	}
	if !seen {
		ordinal = w.ordinals[p]
	}
	ordinal++
	b.ordinals[p] = ordinal
	change := b.changed[stream]
	change.bytes += len(data)
	change.row = len(r.stream)
	b.changed[stream] = change
	r.stream = append(r.stream, stream)
	r.version = append(r.version, version)
	r.typ = append(r.typ, typ)
	r.data = append(r.data, data)
	r.metadata = append(r.metadata, metadata)
	r.occurredAt = append(r.occurredAt, occurredAt)
	r.partition = append(r.partition, int16(p))
	r.ordinal = append(r.ordinal, ordinal)
	r.facts = append(r.facts, fact)
}

// events returns the rows as the log will hand them out.
func (r *eventRows) events(b *batch) []es.Event {
	events := make([]es.Event, len(r.stream))
	for i := range events {
		events[i] = es.Event{
			Position: b.head + int64(i) + 1, Stream: r.stream[i], Version: r.version[i], Type: r.typ[i],
			Data: json.RawMessage(r.data[i]), Metadata: json.RawMessage(r.metadata[i]),
			OccurredAt: r.occurredAt[i].Truncate(time.Microsecond).UTC(), RecordedAt: r.recordedAt.Truncate(time.Microsecond),
			Partition: int(r.partition[i]), Ordinal: r.ordinal[i], Fact: r.facts[i],
		}
	}
	return events
}

// The ways to append the rows of a batch, all of them or none. A batch of a few rows is inserted, one of many copied: see [copyFrom].
var (
	appendStatement = `
INSERT INTO events (position, stream, version, type, data, metadata, occurred_at, recorded_at, partition, ordinal, batch)
SELECT $1 + n, stream, version, type, data, metadata, occurred_at, $2, partition, ordinal, $3
FROM unnest($4::text[], $5::bigint[], $6::text[], $7::json[], $8::json[], $9::timestamptz[], $10::smallint[], $11::bigint[])
  WITH ORDINALITY AS rows(stream, version, type, data, metadata, occurred_at, partition, ordinal, n)
WHERE ` + headStands("$1", "$12")
	appendPresuming = appendStatement + ` AND ` + nothingBegun("$1", "cardinality($4)", "$13", "$14")

	// admitCopy and admitPresuming let the copy that follows in their transaction append, or have it pass over its rows.
	admitCopy      = `SELECT set_config('millrace.admit', (` + headStands("$1::bigint", "$2::uuid") + `)::text, true)`
	admitPresuming = `SELECT set_config('millrace.admit', (` + headStands("$1::bigint", "$2::uuid") + ` AND ` +
		nothingBegun("$1", "$3::integer", "$4", "$5") + `)::text, true)`
	copyStatement = `COPY events (position, stream, version, type, data, metadata, occurred_at, recorded_at, partition, ordinal, batch)
FROM STDIN (FORMAT binary) WHERE ` + admitted
	// admitted asks for what holds for all rows with a function that is stable: with a volatile one PostgreSQL would insert row by row.
	admitted = `current_setting('millrace.admit') = 'true'`
)

// headStands is true where the log ends at a head, which is an event of a batch, and nobody else is about to append. That nothing stands behind the head
// the primary key finds out.
func headStands(head, batch string) string {
	return lockHeld + ` AND (` + head + ` = 0 OR EXISTS (SELECT FROM events WHERE position = ` + head + ` AND batch = ` + batch + `))`
}

// nothingBegun is true where none of some streams has begun. Where something stands behind the head it is true nevertheless: an index refuses the rows, and
// then it is asked whose that is, the batch's own perhaps, of an attempt whose outcome was not known.
func nothingBegun(head, rows, begins, elsewhere string) string {
	return `(EXISTS (SELECT FROM events WHERE position = ` + head + ` + 1) OR NOT EXISTS (` + begun(head+` + `+rows, begins, elsewhere) + `))`
}

// begun finds the first events of streams where [streamQuery] looks, but in the range of the batch's last row of those elsewhere alone: to the others the
// batch itself appends the first events, which the range's own index refuses where there are any.
//
// In ranges that are not closed it finds them one stream after the other: the planner, which may know a range as it was when it was small, then sees nothing
// better than the index of streams.
func begun(last, begins, elsewhere string) string {
	all := begins + `::text[] || ` + elsewhere + `::text[]`
	return `
  SELECT FROM stream_ranges WHERE stream = ANY (` + all + `)
  UNION ALL
  SELECT FROM event_ranges AS r
  CROSS JOIN unnest(CASE WHEN r.last_position < ` + last + ` THEN ` + all + ` ELSE ` + elsewhere + ` END) AS presumed(name)
  CROSS JOIN LATERAL (
    SELECT FROM events
    WHERE position >= r.first_position AND stream = presumed.name AND version = 1
    LIMIT 1
  ) AS begun
  WHERE NOT r.closed`
}

// append writes the batch, its events or, if it has none, its records of keys, in the turn if there is one, and returns nil only when that is
// committed. It returns errHeadMoved when it was not, and has to be decided again in a turn, and an error wrapping errRefusedRows when the
// rows themselves are the trouble. While the outcome is unknown it sends the same rows again, waiting in line for each attempt.
//
// Where the next batch was decided meanwhile it is returned too, whatever became of this one.
func (w *Writer) append(ctx context.Context, f *flight, t *turn) (next *flight, err error) {
	began := time.Now()
	defer w.watchSilence()()
	b := f.batch
	for attempt := 0; ; attempt++ {
		switch {
		case attempt > 0:
			err = w.appendInLine(ctx, b, w.attemptTimeout(attempt))
		case t != nil:
			err = w.appendInTurn(ctx, b, t, w.attemptTimeout(attempt))
		default:
			next, err = w.firstAttempt(ctx, f)
		}
		var pgErr *pgconn.PgError
		switch {
		case err == nil:
			w.setDown(nil)
			return next, nil
		case ctx.Err() != nil:
			return next, ctx.Err()
		case errors.Is(err, errNotOurTurn):
			w.setDown(nil)
			return next, errHeadMoved
		case errors.As(err, &pgErr) && pgErr.ConstraintName == "idempotency_pkey":
			// Somebody has used one of the keys, or an earlier attempt has recorded them, without events: in the turn they are looked up.
			w.setDown(nil)
			return next, errHeadMoved
		case errors.As(err, &pgErr) && pgErr.Code == uniqueViolation:
			mine, err := w.catchUp(ctx, b, attempt)
			if mine {
				w.setDown(nil)
				return next, nil
			}
			if err == nil {
				w.setDown(nil)
				return next, errHeadMoved
			}
			// What stands at head + 1 could not be read: the outcome is not known.
		case errors.As(err, &pgErr) && pgErr.Code == checkViolation && pgErr.ConstraintName == "":
			if err := w.addRange(ctx); err == nil {
				continue
			}
		case errors.As(err, &pgErr) && rowsAtFault(pgErr.Code):
			w.setDown(nil)
			return next, fmt.Errorf("%w: %w", errRefusedRows, err)
		}
		w.pipeline.close() // whatever its connection suffers from, another one may not
		w.o.Log.Warn("the outcome of an append is not known; asking again", "head", b.head, "attempt", attempt, "error", err)
		w.troubled(time.Since(began), fmt.Errorf("%w: %w", es.ErrUnavailable, es.ErrOutcomeUnknown), f, next)
		if err := pause(ctx, attempt); err != nil {
			return next, err
		}
	}
}

// A connection that broke is no reason to refuse anybody, a server that stays away is.
const (
	refuseAfter = 250 * time.Millisecond
	answerAfter = time.Second
	// silentAfter is when newcomers are refused though the connection stands: nothing comes back on it.
	silentAfter = time.Second
)

var errSilent = errors.New("the database does not answer")

// troubled is called while the database does not answer: after a while newcomers are refused, and then the
// calls of the flights, if there are any, get err. The writer itself goes on asking.
func (w *Writer) troubled(since time.Duration, err error, flights ...*flight) {
	if since >= refuseAfter {
		w.setDown(errSilent)
	}
	if since >= answerAfter {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, f := range flights {
			if f != nil {
				f.batch.answer(err)
			}
		}
	}
}

// rowsAtFault reports whether an error of this SQLSTATE is about the rows: every attempt to send them ends like this one.
// Whatever else the server says (no such table, login refused, read only, ...) tells nothing about an earlier attempt.
func rowsAtFault(code string) bool {
	switch code[:2] {
	case "22", "23", "54":
		return true
	}
	return false
}

// answer ends the calls of the batch with an error; the writer itself goes on asking the database. Writer.mu is held.
func (b *batch) answer(err error) {
	for _, v := range b.verdicts {
		if v.outcome.Replayed && !errors.Is(err, es.ErrOutcomeUnknown) {
			v.call.fail(fmt.Errorf("%w: %w", es.ErrOutcomeUnknown, err)) // it was done, some time ago
			continue
		}
		v.call.fail(err)
	}
	for _, q := range b.asking {
		q.call.fail(err)
	}
	b.verdicts, b.asking = nil, nil
}

// watchSilence refuses newcomers once the database has been silent for a while. The returned function ends the watch, as an answer does: who
// refuses all newcomers would never hear another.
func (w *Writer) watchSilence() (stop func()) {
	w.mu.Lock()
	over, before := false, w.answers // guarded by w.mu
	w.mu.Unlock()
	timer := time.AfterFunc(silentAfter, func() {
		w.setDownUnless(errSilent, func() bool { return over || w.answers != before })
	})
	return func() {
		timer.Stop()
		w.mu.Lock()
		defer w.mu.Unlock()
		over = true
	}
}

// attemptTimeout is how long an attempt may take: what takes long on a slow server, the opening of a connection with it, does not end in the
// same way for ever.
func (w *Writer) attemptTimeout(attempt int) time.Duration {
	return w.o.AppendTimeout * time.Duration(1+min(attempt, 11))
}

// pause waits a little longer with each attempt, at most a second.
func pause(ctx context.Context, attempt int) error {
	t := time.NewTimer(min(20*time.Millisecond<<min(attempt, 6), time.Second))
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// statements are those that write the batch.
func (w *Writer) statements(b *batch) []statement {
	if len(b.rows.stream) < copyFrom || b.rows.copySize() > copyMost {
		return append(b.inserting(), w.recordStatements(b)...)
	}
	return append(b.copying(), w.copyingRecords(b)...)
}

// inserting are the statements that append the rows, none if there are none.
func (b *batch) inserting() []statement {
	r := &b.rows
	if len(r.stream) == 0 {
		return nil
	}
	s := statement{sql: appendStatement, writes: true, args: []any{
		b.head, r.recordedAt, b.id, r.stream, r.version, r.typ, r.data, r.metadata, r.occurredAt, r.partition, r.ordinal, b.headBatch,
	}}
	if len(b.presumed) > 0 {
		begins, elsewhere := b.presumptions()
		s.sql, s.args = appendPresuming, append(s.args, begins, elsewhere)
	}
	return []statement{s}
}

// presumptions returns the streams that decisions take for empty: those that the batch begins, and the others.
func (b *batch) presumptions() (begins, elsewhere []string) {
	begins, elsewhere = make([]string, 0, len(b.presumed)), []string{}
	for _, s := range b.presumed {
		if b.changed[s].Version > 0 {
			begins = append(begins, s)
		} else {
			elsewhere = append(elsewhere, s)
		}
	}
	return begins, elsewhere
}

// appendInTurn sends the batch in the turn, which ends with it.
func (w *Writer) appendInTurn(ctx context.Context, b *batch, t *turn, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return didWrite(t.end(ctx, w.statements(b)))
}

// appendInLine sends the batch once, waiting in line.
func (w *Writer) appendInLine(ctx context.Context, b *batch, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := w.log.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer w.fence(ctx, conn.Conn().PgConn().PID())()
	t, err := beginTurn(ctx, conn, &pgx.Batch{})
	if err != nil {
		return err
	}
	return didWrite(t.end(ctx, w.statements(b)))
}

// didWrite returns an error where an append that nothing spoke against has written nothing.
func didWrite(written int64, err error) error {
	if err == nil && written == 0 {
		return errNotOurTurn
	}
	return err
}

// confirm returns nil when the log still ends at the head of the batch, which has nothing to write, errHeadMoved when it does not. It asks
// until the database answers. With a turn, that it could be ended says that nobody else has appended in it.
func (w *Writer) confirm(ctx context.Context, f *flight, t *turn) error {
	b := f.batch
	if t != nil {
		attemptCtx, cancel := context.WithTimeout(ctx, w.o.AppendTimeout)
		defer cancel()
		if _, err := t.end(attemptCtx, nil); err != nil {
			return errHeadMoved // maybe not, but the next turn will tell
		}
		return nil
	}
	began := time.Now()
	defer w.watchSilence()()
	for attempt := 0; ; attempt++ {
		attemptCtx, cancel := context.WithTimeout(ctx, w.attemptTimeout(attempt))
		now, batch, err := w.log.headBatch(attemptCtx)
		cancel()
		moved := err == nil && (now != b.head || batch != b.headBatch)
		if moved {
			_, err = w.catchUp(ctx, nil, attempt)
		}
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err == nil:
			w.setDown(nil)
			if moved {
				return errHeadMoved
			}
			return nil
		}
		w.troubled(time.Since(began), es.ErrUnavailable, f)
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}
