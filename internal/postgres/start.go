package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/internal/es"
)

// start reads where the log ends, as often as it takes.
func (w *Writer) start(ctx context.Context) error {
	for attempt := 0; ; attempt++ {
		err := w.restart(ctx, attempt)
		if err == nil {
			err = w.addRangeAhead(ctx)
		}
		if err == nil {
			w.setDown(nil)
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		w.setDown(errSilent)
		w.o.Log.Warn("the writer cannot read the log", "error", err)
		if err := pause(ctx, attempt); err != nil {
			return err
		}
	}
}

// restart forgets all that the writer knows and reads where the log ends.
func (w *Writer) restart(ctx context.Context, attempt int) error {
	w.pipeline.close() // to where the log is not ours any more
	ctx, cancel := context.WithTimeout(ctx, w.attemptTimeout(attempt))
	defer cancel()
	head, ends, err := w.log.PartitionEnds(ctx)
	if err != nil {
		return err
	}
	recordedAt, headBatch := time.Time{}, uuid.Nil
	if head > 0 {
		if err := w.log.pool.QueryRow(ctx, `SELECT recorded_at, batch FROM events WHERE position = $1`, head).Scan(&recordedAt, &headBatch); err != nil {
			return fmt.Errorf("postgres: reading the event at the head: %w", err)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.states.reset(head)
	w.moved.all = true
	w.head, w.headBatch, w.recordedAt = head, headBatch, recordedAt.UTC()
	w.ordinals = make([]int64, len(ends))
	for i, end := range ends {
		w.ordinals[i] = end.Ordinal
	}
	return nil
}

// keepRanges sees to it that there is room ahead of the head, and that ranges left behind are closed.
func (w *Writer) keepRanges(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		if w.Head() < 0 {
			continue
		}
		err := w.addRangeAhead(ctx)
		if err == nil {
			err = w.closeRanges(ctx)
		}
		if err != nil && ctx.Err() == nil && !failing {
			w.o.Log.Warn("ranges of positions could not be looked after; trying again each second", "error", err)
		}
		failing = err != nil
	}
}

// rangeTimeout bounds work on ranges. Closing one goes through all of its events.
const rangeTimeout = time.Minute

func (w *Writer) closeRanges(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, rangeTimeout)
	defer cancel()
	_, err := w.log.pool.Exec(ctx, `SELECT close_event_ranges() WHERE EXISTS
		(SELECT FROM event_ranges WHERE NOT closed AND last_position < $1)`, w.Head())
	if err != nil {
		return fmt.Errorf("postgres: closing ranges: %w", err)
	}
	return nil
}

// addRangeAhead adds a range when the head is in the last half of the last one.
func (w *Writer) addRangeAhead(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, rangeTimeout)
	defer cancel()
	if _, err := w.log.pool.Exec(ctx, `SELECT add_event_range()
		WHERE $1 > (SELECT max(last_position) - (max(last_position) - max(first_position)) / 2 FROM event_ranges)`, w.Head()); err != nil {
		return fmt.Errorf("postgres: adding a range: %w", err)
	}
	return nil
}

// addRange adds a range now: the append has found none for its rows.
func (w *Writer) addRange(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.o.AppendTimeout)
	defer cancel()
	if _, err := w.log.pool.Exec(ctx, `SELECT add_event_range()`); err != nil {
		return fmt.Errorf("postgres: adding a range: %w", err)
	}
	return nil
}

var _ es.Executor = (*Writer)(nil)
var _ es.Reader = (*Log)(nil)

// SessionSettings are the parameters that sessions of a writer should begin with. What commands ask for is found by keys, some or many at a time, and by positions near the head. The planner's
// estimates count the keys and know the head, so that a plan for any of them never seems as good to it, and it would plan each statement anew: that
// takes longer than most of them, and some of it while the turn is held. A plan for all cases overestimates: it must neither read a whole table that
// was small when it was last analysed, nor be compiled because it seems to be long.
var SessionSettings = map[string]string{"plan_cache_mode": "force_generic_plan", "enable_seqscan": "off", "jit": "off"}
