package projector

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/es"
)

// TestPositionsAreAskedAboutOnce checks that all reads for one position ask about it as of when it came, so that one answer of Postgres is enough for them.
func TestPositionsAreAskedAboutOnce(t *testing.T) {
	t.Parallel()
	log := &logEnd{head: 3}
	m, err := NewModels(ModelsOptions{Feed: log, Info: es.Log{Partitions: 1}})
	if err != nil {
		t.Fatal(err)
	}
	require := func(ctx context.Context, position int64, want error) time.Time {
		t.Helper()
		if _, err := m.require(ctx, nil, position, nil); !errors.Is(err, want) {
			t.Errorf("position %d: %v", position, err)
		}
		return log.since
	}
	ctx := es.WithPosition(t.Context(), 4)
	for range 2 {
		if since := require(ctx, 4, ErrBeyond); !since.Equal(es.PositionSince(ctx)) {
			t.Errorf("a read asks as of %v, its position came at %v", since, es.PositionSince(ctx))
		}
	}
	require(ctx, 3, nil)
	began := time.Now()
	if since := require(t.Context(), 4, ErrBeyond); since.Before(began) {
		t.Errorf("a read without a position of its own, which began at %v, asks as of %v", began, since)
	}
}
