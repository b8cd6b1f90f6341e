package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/internal/es"
)

// errOtherLog says that the event at the writer's head is not the one that it knows.
var errOtherLog = errors.New("postgres: the log does not hold the event that was at its head")

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
	partitions := w.log.info.Partitions
	for i, a := range appended {
		p := es.PartitionOf(a.Stream, partitions)
		ordinal, seen := b.ordinals[p]
		if !seen {
			ordinal = w.ordinals[p]
		}
		ordinal++
		b.ordinals[p] = ordinal
		r.stream = append(r.stream, a.Stream)
		r.version = append(r.version, a.Version)
		r.typ = append(r.typ, types[i])
		r.data = append(r.data, data[i])
		r.metadata = append(r.metadata, string(metadata))
		r.occurredAt = append(r.occurredAt, d.OccurredAt())
		r.partition = append(r.partition, int16(p))
		r.ordinal = append(r.ordinal, ordinal)
		r.facts = append(r.facts, a.Fact)
	}
	return nil
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

const appendStatement = `
INSERT INTO events (position, stream, version, type, data, metadata, occurred_at, recorded_at, partition, ordinal, batch)
SELECT $1 + n, stream, version, type, data::json, metadata::json, occurred_at, $2, partition, ordinal, $3
FROM unnest($4::text[], $5::bigint[], $6::text[], $7::text[], $8::text[], $9::timestamptz[], $10::smallint[], $11::bigint[])
  WITH ORDINALITY AS rows(stream, version, type, data, metadata, occurred_at, partition, ordinal, n)
WHERE $1 = 0 OR EXISTS (SELECT FROM events WHERE position = $1 AND batch = $12)`

// append writes the batch and returns nil only when it is committed. It returns errHeadMoved, having caught
// up, when it was not and has to be decided again, and an error wrapping errRefusedRows when the rows
// themselves are the trouble. While the outcome is unknown it sends the same rows again.
func (w *Writer) append(ctx context.Context, b *batch) error {
	began := time.Now()
	defer w.watchSilence()()
	for attempt := 0; ; attempt++ {
		err := w.tryAppend(ctx, b, w.o.AppendTimeout*time.Duration(1+min(attempt, 11)))
		var pgErr *pgconn.PgError
		switch {
		case err == nil:
			w.setDown(nil)
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &pgErr) && pgErr.ConstraintName == "idempotency_pkey":
			w.forgetKeys(b.keys)
			w.setDown(nil)
			return errHeadMoved
		case errors.Is(err, errOtherLog):
			if err = w.restart(ctx); err == nil {
				w.setDown(nil)
				return errHeadMoved
			}
		case errors.As(err, &pgErr) && pgErr.Code == uniqueViolation:
			mine, err := w.catchUp(ctx, b.id)
			if mine {
				w.setDown(nil)
				return nil
			}
			if err == nil {
				w.setDown(nil)
				return errHeadMoved
			}
			// What stands at head + 1 could not be read: the outcome is not known.
		case errors.As(err, &pgErr) && pgErr.Code == checkViolation && pgErr.ConstraintName == "":
			if err := w.addRange(ctx); err == nil {
				continue
			}
		case errors.As(err, &pgErr) && rowsAtFault(pgErr.Code):
			w.setDown(nil)
			return fmt.Errorf("%w: %w", errRefusedRows, err)
		}
		w.o.Log.Warn("the outcome of an append is not known; asking again", "head", b.head, "attempt", attempt, "error", err)
		w.troubled(b, time.Since(began), fmt.Errorf("%w: %w", es.ErrUnavailable, es.ErrOutcomeUnknown))
		if err := pause(ctx, attempt); err != nil {
			return err
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
// calls of the batch get err. The writer itself goes on asking.
func (w *Writer) troubled(b *batch, since time.Duration, err error) {
	if since >= refuseAfter {
		w.setDown(errSilent)
	}
	if since >= answerAfter {
		b.answer(err)
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

// answer ends the calls of the batch with an error; the writer itself goes on asking the database.
func (b *batch) answer(err error) {
	for _, v := range b.verdicts {
		v.call.fail(err)
	}
	for _, q := range b.asking {
		q.call.fail(err)
	}
	b.verdicts, b.asking = nil, nil
}

// watchSilence refuses newcomers once the database has been silent for a while. The returned function ends the watch.
func (w *Writer) watchSilence() (stop func()) {
	over := false // guarded by w.mu
	timer := time.AfterFunc(silentAfter, func() { w.setDownUnless(errSilent, &over) })
	return func() {
		timer.Stop()
		w.mu.Lock()
		defer w.mu.Unlock()
		over = true
	}
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

func (w *Writer) tryAppend(ctx context.Context, b *batch, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	r := &b.rows
	q := &pgx.Batch{}
	var inserted int64
	q.Queue(appendStatement, b.head, r.recordedAt, b.id, r.stream, r.version, r.typ, r.data, r.metadata, r.occurredAt, r.partition, r.ordinal, b.headBatch).
		Exec(func(ct pgconn.CommandTag) error {
			inserted = ct.RowsAffected()
			return nil
		})
	for _, k := range b.keys {
		q.Queue(`INSERT INTO idempotency (key, request, streams, position) SELECT $1, $2, $3, $4 WHERE EXISTS (SELECT FROM events WHERE position = $4 AND batch = $5)`,
			[]byte(k.key), k.record.request, k.record.streams, k.record.position, b.id)
	}
	if err := w.log.pool.SendBatch(ctx, q).Close(); err != nil {
		return err
	}
	if inserted == 0 {
		return errOtherLog // what stands at our head is not what we know: a restore, or a replica that lacked the end
	}
	return nil
}

// confirm returns nil when the log still ends at the batch's head, errHeadMoved after catching up when it
// does not. It asks until the database answers.
func (w *Writer) confirm(ctx context.Context, b *batch) error {
	began := time.Now()
	defer w.watchSilence()()
	for attempt := 0; ; attempt++ {
		attemptCtx, cancel := context.WithTimeout(ctx, w.o.AppendTimeout)
		now, batch, err := w.log.headBatch(attemptCtx)
		cancel()
		moved := err == nil && (now != b.head || batch != b.headBatch)
		if moved {
			err = w.follow(ctx)
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
		w.troubled(b, time.Since(began), es.ErrUnavailable)
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

// follow catches up, or starts anew where the log does not hold the event that the writer knows at its head.
func (w *Writer) follow(ctx context.Context) error {
	attemptCtx, cancel := context.WithTimeout(ctx, w.o.AppendTimeout)
	defer cancel()
	same := w.head == 0
	if !same {
		if err := w.log.pool.QueryRow(attemptCtx, `SELECT EXISTS (SELECT FROM events WHERE position = $1 AND batch = $2)`, w.head, w.headBatch).Scan(&same); err != nil {
			return fmt.Errorf("postgres: looking for the head %d: %w", w.head, err)
		}
	}
	if !same {
		return w.restart(ctx)
	}
	_, err := w.catchUp(ctx, uuid.Nil)
	return err
}

// forgetKeys lets the keys be looked up again: one of them turned out to have been used.
func (w *Writer) forgetKeys(keys []keyRow) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, k := range keys {
		w.states.unused.Remove(k.key)
	}
}

// catchUp reads the events behind the writer's head and brings the cached states up to date. mine reports
// whether the event at head + 1 is of the given batch, in which case nothing is changed.
func (w *Writer) catchUp(ctx context.Context, id uuid.UUID) (mine bool, err error) {
	const page = 10_000
	for first := true; ; first = false {
		attemptCtx, cancel := context.WithTimeout(ctx, w.o.AppendTimeout)
		n, own, err := w.catchUpPage(attemptCtx, id, first, page)
		cancel()
		if own || err != nil || n < page {
			return own, err
		}
	}
}

func (w *Writer) catchUpPage(ctx context.Context, id uuid.UUID, first bool, page int) (n int, mine bool, err error) {
	rows, err := w.log.pool.Query(ctx, `SELECT batch, `+eventColumns+` FROM events WHERE position > $1 ORDER BY position LIMIT $2`, w.head, page)
	if err != nil {
		return 0, false, fmt.Errorf("postgres: catching up behind %d: %w", w.head, err)
	}
	defer rows.Close()
	var events []es.Event
	var by uuid.UUID
	for rows.Next() {
		var e es.Event
		if err := rows.Scan(&by, &e.Position, &e.Stream, &e.Version, &e.Type, (*[]byte)(&e.Data), (*[]byte)(&e.Metadata),
			&e.OccurredAt, &e.RecordedAt, &e.Partition, &e.Ordinal); err != nil {
			return 0, false, fmt.Errorf("postgres: catching up behind %d: %w", w.head, err)
		}
		if first && len(events) == 0 && id != uuid.Nil && by == id {
			return 0, true, nil
		}
		events = append(events, e)
	}
	if err := rows.Err(); err != nil {
		return 0, false, fmt.Errorf("postgres: catching up behind %d: %w", w.head, err)
	}
	if len(events) == 0 && first {
		return 0, false, w.restart(ctx)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range events {
		w.apply(&events[i])
	}
	if len(events) > 0 {
		w.headBatch = by
	}
	return len(events), false, nil
}

// apply takes notice of another process's event. w.mu is held.
func (w *Writer) apply(e *es.Event) {
	if v, ok := w.states.streams.Peek(e.Stream); ok {
		if next, err := w.fold(v.Versioned, e); err != nil {
			w.states.remove(e.Stream)
		} else if next.Version > v.Version {
			v.Versioned, v.size = next, v.size.after(len(e.Data), next.State)
			w.states.put(e.Stream, v)
		}
	}
	w.states.remember(*e)
	w.states.lastRival = e.Position
	w.head, w.recordedAt = e.Position, e.RecordedAt
	w.ordinals[e.Partition] = e.Ordinal
}
