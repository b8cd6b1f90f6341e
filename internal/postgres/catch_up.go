package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
)

const (
	// sameLogQuery asks whether the log holds the event that the writer knows at its head.
	sameLogQuery = `SELECT EXISTS (SELECT FROM events WHERE position = $1 AND batch = $2)`
	behindQuery  = `SELECT ` + eventColumns + `, batch FROM events WHERE position > $1 ORDER BY position LIMIT $2`
	// behindSameQuery is behindQuery that finds nothing where sameLogQuery says no: it may be another server that answers now, which lacks what
	// the states rest on.
	behindSameQuery = `SELECT ` + eventColumns + `, batch FROM events
		WHERE position > $1 AND ($1 = 0 OR EXISTS (SELECT FROM events WHERE position = $1 AND batch = $3)) ORDER BY position LIMIT $2`
	// catchUpEvents is how many events are caught up with at once.
	catchUpEvents = 10_000
)

// catchUp reads the events behind the writer's head and brings the cached states up to date. mine reports whether the event at head + 1 is of the batch,
// if that is not nil, in which case nothing is changed. It starts anew where there is nothing behind the head, nor a presumption of the batch that may have
// been wrong: then the log does not hold what the writer knows.
func (w *Writer) catchUp(ctx context.Context, b *batch, attempt int) (mine bool, err error) {
	id := uuid.Nil
	if b != nil {
		id = b.id
	}
	n, mine, err := w.catchUpPage(ctx, id, attempt)
	switch {
	case mine || err != nil:
		return mine, err
	case n == 0:
		if b != nil && len(b.presumed) > 0 {
			same, err := w.sameLog(ctx, attempt)
			if same || err != nil {
				return false, err
			}
		}
		w.o.Log.Warn("the log does not hold what the writer knows; it starts anew", "head", w.head)
		return false, w.restart(ctx, attempt)
	case n < catchUpEvents:
		return false, nil
	}
	return false, w.catchUpRest(ctx, attempt)
}

// sameLog reports whether the log holds the event that the writer knows at its head.
func (w *Writer) sameLog(ctx context.Context, attempt int) (same bool, err error) {
	if w.head == 0 {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.attemptTimeout(attempt))
	defer cancel()
	if err := w.log.pool.QueryRow(ctx, sameLogQuery, w.head, w.headBatch).Scan(&same); err != nil {
		return false, fmt.Errorf("postgres: looking for the head %d: %w", w.head, err)
	}
	return same, nil
}

// catchUpRest goes on until little is left.
func (w *Writer) catchUpRest(ctx context.Context, attempt int) error {
	for {
		if n, _, err := w.catchUpPage(ctx, uuid.Nil, attempt); err != nil || n < catchUpEvents {
			return err
		}
	}
}

// errMine ends a reading at the event that the writer itself has appended.
var errMine = errors.New("postgres: the batch is in the log")

func (w *Writer) catchUpPage(ctx context.Context, id uuid.UUID, attempt int) (n int, mine bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.attemptTimeout(attempt))
	defer cancel()
	rows, err := w.log.pool.Query(ctx, behindSameQuery, w.head, catchUpEvents, w.headBatch)
	if err != nil {
		return 0, false, fmt.Errorf("postgres: catching up behind %d: %w", w.head, err)
	}
	events, by, err := w.scanBehind(rows, &id)
	if errors.Is(err, errMine) {
		return 0, true, nil
	}
	if err != nil {
		return 0, false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.applyAll(events, by)
	return len(events), false, nil
}

// scanBehind reads the rows of behindQuery and returns the batch of the last one. It returns errMine if the first one is of the batch mine.
func (w *Writer) scanBehind(rows pgx.Rows, mine *uuid.UUID) (events []es.Event, by uuid.UUID, err error) {
	defer rows.Close()
	for rows.Next() {
		var e es.Event
		if err := w.log.scanEvent(rows, &e); err != nil {
			return nil, by, err
		}
		copy(by[:], rows.RawValues()[len(eventWidths)])
		if len(events) == 0 && mine != nil && *mine != uuid.Nil && by == *mine {
			return nil, by, errMine
		}
		events = append(events, e)
	}
	if err := rows.Err(); err != nil {
		return nil, by, fmt.Errorf("postgres: catching up behind %d: %w", w.head, err)
	}
	return events, by, nil
}

// applyAll takes notice of other processes' events, the last of which came with the batch by. w.mu is held.
func (w *Writer) applyAll(events []es.Event, by uuid.UUID) {
	for i := range events {
		w.apply(&events[i])
	}
	if len(events) > 0 {
		w.headBatch = by
	}
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
	w.moved.streams[e.Stream] = struct{}{}
	w.states.remember(*e)
	w.states.lastRival = e.Position
	w.head, w.recordedAt = e.Position, e.RecordedAt
	w.ordinals[e.Partition] = e.Ordinal
}
