package feed

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/postgres"
)

// Head returns the position up to which the log is known: all events at or below it can be had by After.
func (f *Feed) Head() int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.window.head
}

// confirmation is where the log ended at a time at the latest.
type confirmation struct {
	position int64
	at       time.Time
}

// Confirmed returns a position at or below Head at which the log ended, as Postgres has said, not before a time: whoever has seen
// the events up to that position had seen all of them then. The zero time means that Postgres has not said anything yet. More
// reports whether it has said since that there are events that are still on their way here.
func (f *Feed) Confirmed() (position int64, at time.Time, more bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.confirmed.position, f.confirmed.at, f.isBehind()
}

// isBehind reports whether the window has not come up to what Postgres has said.
func (f *Feed) isBehind() bool { return f.asked.position > f.window.head }

// answered notes that the log ended at head when Postgres was asked at a time. An answer that the window has not come up to yet
// stays until it has: where events are always later than the next answer nothing would ever be confirmed.
func (f *Feed) answered(head int64, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.latest = confirmation{head, at}
	if !f.isBehind() {
		f.asked = f.latest
	}
	f.confirm()
	close(f.heard)
	f.heard = make(chan struct{})
}

// confirm is called with the lock held when the window has grown or Postgres has answered.
func (f *Feed) confirm() {
	if !f.isBehind() {
		f.confirmed = f.asked
	}
}

// LastOf returns, by partition, the position at or below Head of the last event of a wanted type, 0 if there is none. Of what was
// in the log before the feed began no types are known: the last one of it counts as wanted.
func (f *Feed) LastOf(wanted func(eventType string) bool) []int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	positions := slices.Clone(f.window.before)
	for eventType, last := range f.window.last {
		if !wanted(eventType) {
			continue
		}
		for n, position := range last {
			positions[n] = max(positions[n], position)
		}
	}
	return positions
}

// Ends returns Head and the last event of every partition at or below it, all of the same moment.
func (f *Feed) Ends() (head int64, ends []postgres.PartitionEnd) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.window.head, slices.Clone(f.window.ends)
}

// WaitFor returns true once the log is known up to a position, or false once Postgres, asked after a time, has said that it ends before: whoever
// had the position then has it from elsewhere. While Postgres does not answer it waits, and returns the error of the context. All who wait share the
// answers that the tail gets.
func (f *Feed) WaitFor(ctx context.Context, position int64, since time.Time) (known bool, err error) {
	for {
		f.mu.RLock()
		head, changed, latest, heard := f.window.head, f.changed, f.latest, f.heard
		f.mu.RUnlock()
		switch {
		case head >= position:
			return true, nil
		case latest.position < position && latest.at.After(since):
			return false, nil
		}
		select {
		case <-changed:
		case <-heard:
		case <-ctx.Done():
			return false, fmt.Errorf("feed: waiting for position %d, the log is known up to %d: %w", position, head, ctx.Err())
		}
	}
}

// After returns at least one and up to limit events behind a position, in order and without a gap, none of them
// beyond Head. It waits until there is one, and also while it needs Postgres for old events and cannot reach it; then it
// returns the error of the context.
func (f *Feed) After(ctx context.Context, after int64, limit int) ([]es.Event, error) {
	if limit < 1 {
		return nil, fmt.Errorf("feed: asked for up to %d events; at least 1 is needed", limit)
	}
	after = max(after, 0)
	retry := newBackoff(50*time.Millisecond, time.Second)
	for {
		f.mu.RLock()
		first, head, changed := f.window.first, f.window.head, f.changed
		if after < head && after >= first-1 {
			events := f.window.behind(after, limit)
			f.mu.RUnlock()
			return events, nil
		}
		f.mu.RUnlock()
		if after >= head {
			select {
			case <-changed:
				continue
			case <-ctx.Done():
				return nil, fmt.Errorf("feed: waiting for an event behind position %d: %w", after, ctx.Err())
			}
		}
		events, err := f.page(ctx, after, int(min(int64(limit), head-after)))
		if err == nil {
			return events, nil
		}
		if retry.first() && ctx.Err() == nil {
			f.logger.Warn("cannot read old events; waiting for Postgres", "after", after, "error", err)
		}
		if waitErr := retry.wait(ctx, nil); waitErr != nil {
			return nil, errors.Join(waitErr, err)
		}
	}
}

// page reads events from Postgres, decoded, and makes sure that none is missing.
func (f *Feed) page(ctx context.Context, after int64, limit int) ([]es.Event, error) {
	events, err := f.log.ReadAll(ctx, after, limit)
	if err != nil {
		return nil, fmt.Errorf("feed: %w", err)
	}
	if len(events) == 0 {
		return nil, fmt.Errorf("feed: %w: nothing lies behind position %d", ErrLogWentBack, after)
	}
	for i := range events {
		if want := after + 1 + int64(i); events[i].Position != want {
			return nil, fmt.Errorf("feed: the log has a hole: position %d follows %d", events[i].Position, want-1)
		}
		f.decode(&events[i])
	}
	return events, nil
}

// decode sets the fact if the codec knows the event's type and can read its data. Whoever needs the fact of
// another decodes again, and gets the error.
func (f *Feed) decode(e *es.Event) { _ = f.codec.Decode(e) }

// Follow calls do with every event behind a position, in order, in slices of up to 512, until ctx ends or do
// returns an error, which it returns.
func (f *Feed) Follow(ctx context.Context, after int64, do func([]es.Event) error) error {
	const limit = 512
	for {
		events, err := f.After(ctx, after, limit)
		if err != nil {
			return err
		}
		if err := do(events); err != nil {
			return err
		}
		after = events[len(events)-1].Position
	}
}
