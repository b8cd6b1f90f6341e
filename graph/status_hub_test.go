package graph

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/graph/model"
	"github.com/millrace/millrace/internal/projector"
)

// lookedAt counts how often read models are looked at. They stand at another position each time, or stand still, or cannot be read.
type lookedAt struct {
	Projections
	looks, parked atomic.Int64
	still, fails  atomic.Bool
}

var errAway = errors.New("the database is away")

func (l *lookedAt) Status(context.Context) ([]projector.Status, error) {
	if l.fails.Load() {
		return nil, errAway
	}
	position := l.looks.Add(1)
	if l.still.Load() {
		position = 1_000
	}
	return []projector.Status{{Name: "orders", Position: position, Partitions: []projector.PartitionStatus{{Number: 0}}}}, nil
}

func (l *lookedAt) Parked(context.Context, ...string) ([]projector.ParkedEvent, error) {
	l.parked.Add(1)
	return nil, nil
}

// TestFollowersShareTheirLooks has many subscriptions follow a read model, which is looked at twice a second however many there are,
// and not at all when they have gone.
func TestFollowersShareTheirLooks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lookedAt{}
		h := &statusHub{projections: l}
		ctx, cancel := context.WithCancel(t.Context())
		var followers sync.WaitGroup
		var slow atomic.Int64
		for n := range 50 {
			followers.Go(func() {
				time.Sleep(time.Duration(n) * 7 * time.Millisecond) // they do not come all at once
				f, err := h.follow()
				if err != nil {
					t.Error(err)
					return
				}
				defer f.leave()
				first := f.behind(ctx, nil)
				values := make(chan *model.Projection)
				followers.Go(func() {
					defer close(values)
					if err := f.show(ctx, "orders", first, values); err != nil {
						t.Error(err)
					}
				})
				var last int64
				for p := range values {
					if p.Position <= last {
						t.Errorf("behind position %d comes %d", last, p.Position)
					}
					last = p.Position
					if _, err := p.Parked(ctx); err != nil {
						t.Error(err)
					}
					if n == 0 { // takes as long as 6 looks, and misses some of them
						time.Sleep(3 * time.Second)
						slow.Add(1)
					}
				}
			})
		}
		time.Sleep(10*time.Second + statusInterval/2)
		if looks := l.looks.Load(); looks != 21 {
			t.Errorf("after 10 seconds there were %d looks", looks)
		}
		if looks, parked := l.looks.Load(), l.parked.Load(); parked > looks {
			t.Errorf("after %d looks what is parked was read %d times", looks, parked)
		}
		if slow.Load() != 3 {
			t.Errorf("the slow one got %d values", slow.Load())
		}
		cancel()
		followers.Wait()
		h.running.Wait() // nobody looks any more
		if _, err := h.follow(); err != nil {
			t.Errorf("a new follower: %v", err)
		}
		h.close()
		if _, err := h.follow(); !errors.Is(err, errShuttingDown) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// TestFollowersHearOfChangesOnly has a read model stand still, which is told once.
func TestFollowersHearOfChangesOnly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lookedAt{}
		l.still.Store(true)
		h := &statusHub{projections: l}
		f, err := h.follow()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		values := make(chan *model.Projection, 100)
		done := make(chan error, 1)
		go func() { done <- f.show(ctx, "orders", f.behind(ctx, nil), values) }()
		time.Sleep(10 * time.Second)
		if looks := l.looks.Load(); looks < 20 || len(values) != 1 {
			t.Errorf("after %d looks there were %d values", looks, len(values))
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		f.leave()
		h.close()
	})
}

// TestFollowersArePatient lets looks fail for a while, and then for too long.
func TestFollowersArePatient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &lookedAt{}
		h := &statusHub{projections: l}
		f, err := h.follow()
		if err != nil {
			t.Fatal(err)
		}
		first := f.behind(t.Context(), nil)
		values, ended := make(chan *model.Projection), make(chan error, 1)
		go func() { ended <- f.show(t.Context(), "orders", first, values) }()
		<-values
		l.fails.Store(true)
		time.Sleep(patience - time.Second)
		l.fails.Store(false)
		<-values
		l.fails.Store(true)
		began := time.Now()
		if err := <-ended; !errors.Is(err, errAway) {
			t.Errorf("it ends with %v", err)
		}
		if waited := time.Since(began); waited < patience-time.Second || waited > patience+time.Second {
			t.Errorf("it ends after %s", waited)
		}
		f.leave()
		h.close()
	})
}
