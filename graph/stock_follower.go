package graph

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/graph/model"
	"github.com/millrace/millrace/internal/es"
)

const (
	// stockRetry is the pause after a read model could not be read, or was behind.
	stockRetry = time.Second
	// patience is how long a subscription goes on while what it shows cannot be read. Then it ends with an error.
	patience = 30 * time.Second
)

// stockFollower paces what a subscription hears of each SKU.
type stockFollower struct {
	skus map[string]*followedStock // by stream
	// failing is since when nothing could be read, zero if it could.
	failing time.Time
}

// followedStock is what is known of one SKU.
type followedStock struct {
	sku       string
	available int
	// quiet is when the next value may be given.
	quiet time.Time
	// dirty is the position of the last event that was not given yet, 0 for none.
	dirty int64
}

func newStockFollower(skus []string) *stockFollower {
	s := &stockFollower{skus: make(map[string]*followedStock, len(skus))}
	for _, sku := range skus {
		s.skus[commands.Stocks.Stream(sku).Name()] = &followedStock{sku: sku, available: -1}
	}
	return s
}

// soil says that all SKUs are to be read again, at a position.
func (s *stockFollower) soil(position int64) {
	for _, known := range s.skus {
		known.dirty = position
	}
}

// give hands over a variant and remembers what it said.
func (s *stockFollower) give(ctx context.Context, to chan<- *model.Variant, v *model.Variant) bool {
	known := s.skus[commands.Stocks.Stream(v.SKU).Name()]
	known.available, known.quiet = *v.Available, time.Now().Add(stockInterval)
	return give(ctx, to, v)
}

// follow gives values until the subscription ends. What can be bought is read from the read model, at a position that the
// events have named: nothing is read while nothing happens.
func (s *stockFollower) follow(ctx context.Context, w *watcher, r subscriptionResolver, to chan<- *model.Variant) error {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(s.wait(time.Now()))
		select {
		case <-ctx.Done():
			return nil
		case <-w.changed:
			events, err := w.take()
			if err != nil {
				return err
			}
			for i := range events {
				if known := s.skus[events[i].Stream]; known != nil {
					known.dirty = events[i].Position
				}
			}
		case <-timer.C:
		}
		if err := s.flush(ctx, r, to); err != nil {
			return err
		}
	}
}

// wait returns how long it is until a value may be given.
func (s *stockFollower) wait(now time.Time) time.Duration {
	shortest := time.Hour
	for _, known := range s.skus {
		if known.dirty > 0 {
			shortest = min(shortest, max(0, known.quiet.Sub(now)))
		}
	}
	return shortest
}

// flush gives the values that may be given now, if they say something new.
func (s *stockFollower) flush(ctx context.Context, r subscriptionResolver, to chan<- *model.Variant) error {
	now := time.Now()
	var due []string
	var position int64
	for _, stream := range slices.Sorted(maps.Keys(s.skus)) {
		known := s.skus[stream]
		if known.dirty > 0 && !now.Before(known.quiet) {
			due = append(due, known.sku)
			position = max(position, known.dirty)
			known.dirty = 0
		}
	}
	if len(due) == 0 {
		return nil
	}
	variants, err := r.variants(es.WithPosition(ctx, position), due)
	if err != nil {
		return s.later(due, position, err)
	}
	s.failing = time.Time{}
	for _, v := range variants {
		if *v.Available == s.skus[commands.Stocks.Stream(v.SKU).Name()].available {
			continue
		}
		if !s.give(ctx, to, v) {
			return nil
		}
	}
	return nil
}

// later has the SKUs read again after a pause. It returns err when it is the client's, or when it has gone on for too long.
func (s *stockFollower) later(due []string, position int64, err error) error {
	var own *Error
	now := time.Now()
	if s.failing.IsZero() {
		s.failing = now
	}
	if errors.As(err, &own) || now.Sub(s.failing) > patience {
		return err
	}
	for _, sku := range due {
		known := s.skus[commands.Stocks.Stream(sku).Name()]
		known.dirty, known.quiet = max(known.dirty, position), now.Add(stockRetry)
	}
	return nil
}
