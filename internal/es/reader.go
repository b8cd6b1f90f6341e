package es

import (
	"context"
	"slices"
	"time"
)

// Reader reads the log. Events come decoded where their type is known; Fact is nil where it is not. Errors wrap [ErrUnavailable]
// where the log cannot be read now.
type Reader interface {
	// Head returns the position of the last event, 0 in an empty log.
	Head(ctx context.Context) (int64, error)
	// ReadAll returns up to limit events behind a position, in the order of the log.
	ReadAll(ctx context.Context, after int64, limit int) ([]Event, error)
	// ReadStream returns up to limit events of a stream behind a version, in the stream's order.
	ReadStream(ctx context.Context, stream string, afterVersion int64, limit int) ([]Event, error)
}

// Load folds a whole stream and returns its state and version; version 0 means that the stream is empty.
func Load[S any](ctx context.Context, r Reader, s Stream[S]) (S, int64, error) {
	return loadWhile(ctx, r, s, func(*Event) bool { return true })
}

// LoadAsOf is Load for the stream as it stood: it folds what had been recorded at that time.
func LoadAsOf[S any](ctx context.Context, r Reader, s Stream[S], at time.Time) (S, int64, error) {
	return loadWhile(ctx, r, s, func(e *Event) bool { return !e.RecordedAt.After(at) })
}

// LoadUpTo is Load for the stream as it stood at a position of the log.
func LoadUpTo[S any](ctx context.Context, r Reader, s Stream[S], position int64) (S, int64, error) {
	return loadWhile(ctx, r, s, func(e *Event) bool { return e.Position <= position })
}

// loadWhile folds the events of a stream up to the first that does not belong.
func loadWhile[S any](ctx context.Context, r Reader, s Stream[S], belongs func(*Event) bool) (S, int64, error) {
	const page = 1000
	state, version := s.kind.zero.(S), int64(0)
	for {
		events, err := r.ReadStream(ctx, s.name, version, page)
		if err != nil {
			return state, 0, err
		}
		whole := len(events) < page
		if end := slices.IndexFunc(events, func(e Event) bool { return !belongs(&e) }); end >= 0 {
			events, whole = events[:end], true
		}
		if state, err = FoldStream(s.kind, state, events); err != nil {
			return state, 0, err
		}
		version += int64(len(events))
		if whole {
			return state, version, nil
		}
	}
}
