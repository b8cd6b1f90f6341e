package es

import (
	"context"
	"time"
)

type contextKey int

const (
	metadataKey contextKey = iota
	positionKey
)

// WithMetadata returns a context whose commands record the metadata with their events.
func WithMetadata(ctx context.Context, m Metadata) context.Context {
	return context.WithValue(ctx, metadataKey, m)
}

// MetadataFrom returns the metadata of the context.
func MetadataFrom(ctx context.Context) Metadata {
	m, _ := ctx.Value(metadataKey).(Metadata)
	return m
}

// wanted is a position that reads have to have reached, and when that was asked for.
type wanted struct {
	position int64
	since    time.Time
}

// WithPosition returns a context whose reads of read models show at least what had been recorded up to
// the position. How long they may wait for that is counted from now on, for all of them together.
func WithPosition(ctx context.Context, position int64) context.Context {
	return context.WithValue(ctx, positionKey, wanted{position: position, since: time.Now()})
}

// PositionFrom returns the position that reads have to have reached, 0 for none.
func PositionFrom(ctx context.Context) int64 {
	w, _ := ctx.Value(positionKey).(wanted)
	return w.position
}

// PositionSince returns when the position of [PositionFrom] was asked for, the zero time where there is none.
func PositionSince(ctx context.Context) time.Time {
	w, _ := ctx.Value(positionKey).(wanted)
	return w.since
}
