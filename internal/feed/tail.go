package feed

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/internal/es"
)

const (
	// livePoll is how often Postgres is asked for its head while JetStream delivers. Where JetStream has brought nothing for one
	// to two of these intervals, or is longLate behind, what is missing is read from Postgres: a busy machine is not helped by
	// reading everything twice.
	livePoll = 50 * time.Millisecond
	longLate = 10 * livePoll
	// tailPoll is how often while JetStream does not deliver.
	tailPoll = 10 * time.Millisecond
	// epochPoll is how often it is made sure that the log is still in the same epoch.
	epochPoll = time.Second
	// queryTimeout bounds one query, so that a connection that hangs is noticed.
	queryTimeout = 5 * time.Second
	// fillPage is the number of events read at once.
	fillPage = 1000
)

// tail reads from Postgres what JetStream does not bring in time.
func (f *Feed) tail(ctx context.Context) error {
	retry := newBackoff(tailPoll, time.Second)
	var before looked       // what the previous look found
	var epochSeen time.Time // when the epoch was last looked at
	for {
		if err := f.untilNextLook(ctx); err != nil {
			return err
		}
		now, err := f.look(ctx, before)
		if err == nil && time.Since(epochSeen) > epochPoll {
			epochSeen, err = time.Now(), f.sameEpoch(ctx)
		}
		switch {
		case errors.Is(err, ErrLogWentBack), errors.Is(err, ErrEpochChanged):
			return err
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if retry.first() {
				f.logger.Warn("Postgres cannot be read; the feed goes on with JetStream alone", "error", err)
			}
			if err := retry.wait(ctx, nil); err != nil {
				return err
			}
			continue
		case !retry.first():
			f.logger.Info("Postgres can be read again")
			retry.reset()
		}
		before = now
	}
}

// looked is what a look has found: where the log and the window ended, and since when the window has been behind, if it is.
type looked struct {
	head, known int64
	behind      time.Time
}

func (f *Feed) untilNextLook(ctx context.Context) error {
	interval := tailPoll
	if f.live.Load() {
		interval = livePoll
	}
	timer := time.NewTimer(interval)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-f.nudge:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// look compares the window with the log. While JetStream delivers it is given the time between two looks.
func (f *Feed) look(ctx context.Context, before looked) (now looked, err error) {
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	began := time.Now()
	now.known = f.Head()
	if now.head, err = f.log.Head(ctx); err != nil {
		return before, fmt.Errorf("feed: %w", err)
	}
	if now.head < now.known {
		return before, fmt.Errorf("%w: it ends at %d, seen was %d", ErrLogWentBack, now.head, now.known)
	}
	f.answered(now.head, began)
	late := f.Head() < before.head
	if late {
		if now.behind = before.behind; now.behind.IsZero() {
			now.behind = time.Now()
		}
		if comes := f.Head() > before.known; comes && f.live.Load() && time.Since(now.behind) < longLate {
			return now, nil
		}
		f.setLive(false)
	}
	if now.head > now.known && (late || !f.live.Load()) {
		return now, f.fill(ctx, now.head)
	}
	return now, nil
}

func (f *Feed) sameEpoch(ctx context.Context) error {
	if f.epoch == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	epoch, err := f.epoch(ctx)
	if err != nil {
		return fmt.Errorf("feed: reading the log's epoch: %w", err)
	}
	if epoch != f.info.Epoch {
		return fmt.Errorf("%w: %d instead of %d", ErrEpochChanged, epoch, f.info.Epoch)
	}
	return nil
}

// fill extends the window from Postgres up to a position.
func (f *Feed) fill(ctx context.Context, upTo int64) error {
	f.filling.Lock()
	defer f.filling.Unlock()
	for {
		head := f.Head()
		if head >= upTo {
			return nil
		}
		events, err := f.page(ctx, head, int(min(upTo-head, fillPage)))
		if err != nil {
			return err
		}
		if err := f.extend(events, fromPostgres); err != nil {
			return err
		}
	}
}

// extend adds those of the events, which are without a gap, that the window does not have yet, and wakes whoever
// waits for them. A message that is not the next of its partition is refused, with those behind it.
func (f *Feed) extend(events []es.Event, source string) (err error) {
	f.mu.Lock()
	added := 0
	for i := range events {
		e := &events[i]
		if e.Position <= f.window.head {
			continue
		}
		if e.Position != f.window.head+1 {
			err = fmt.Errorf("feed: position %d does not follow %d", e.Position, f.window.head)
			break
		}
		if err = f.window.check(e); err != nil {
			var ordinal *OrdinalError
			if source != fromPostgres || !errors.As(err, &ordinal) {
				break
			}
			// The log is what it is: standing still would not mend it.
			f.logger.Error("the log has an event with a wrong ordinal", "error", err)
			err = nil
		}
		f.window.add(*e)
		added++
	}
	head := f.window.head
	if added > 0 {
		f.confirm()
		close(f.changed)
		f.changed = make(chan struct{})
	}
	f.mu.Unlock()
	if added > 0 {
		f.metrics.head.Set(float64(head))
		f.metrics.events.WithLabelValues(source).Add(float64(added))
	}
	return err
}

func (f *Feed) setLive(live bool) {
	if f.live.Swap(live) == live {
		return
	}
	if live {
		f.metrics.live.Set(1)
		return
	}
	f.metrics.live.Set(0)
	select {
	case f.nudge <- struct{}{}:
	default:
	}
}
