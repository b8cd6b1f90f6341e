package es

import "context"

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

// WithPosition returns a context whose reads of read models show at least what had been recorded up to
// the position.
func WithPosition(ctx context.Context, position int64) context.Context {
	return context.WithValue(ctx, positionKey, position)
}

// PositionFrom returns the position that reads have to have reached, 0 for none.
func PositionFrom(ctx context.Context) int64 {
	p, _ := ctx.Value(positionKey).(int64)
	return p
}
