package projector

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/internal/es"
)

// steadyLog is a log that gets an event every so often.
type steadyLog struct {
	Feed
	began time.Time
	every time.Duration
}

func (l *steadyLog) Head() int64 { return int64(time.Since(l.began) / l.every) }

func (l *steadyLog) After(ctx context.Context, after int64, limit int) ([]es.Event, error) {
	for l.Head() <= after {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(l.every - time.Since(l.began)%l.every):
		}
	}
	var events []es.Event
	for p := after + 1; p <= l.Head() && len(events) < limit; p++ {
		events = append(events, es.Event{Position: p, Type: "t", Fact: struct{}{}})
	}
	return events, nil
}

// laboured is a store that takes its time, and counts.
type laboured struct {
	took    func(events int) time.Duration
	applied func(moves []move, events []es.Event)
}

func (laboured) name() string { return storePostgres }

func (laboured) load(context.Context, []int) ([]mark, error) { return []mark{{}}, nil }

func (s laboured) apply(_ context.Context, moves []move, events []es.Event, _ bool) error {
	time.Sleep(s.took(len(events)))
	if len(events) > 0 {
		s.applied(moves, events)
	}
	return nil
}

// runFor runs a runner of a log that gets an event every so often, and returns how many batches it folded, after the first while.
func runFor(t *testing.T, while time.Duration, every time.Duration, took func(events int) time.Duration) (batches int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &Projection{Name: "p", Events: []string{"t"}}
		began := time.Now()
		next := int64(1)
		s := laboured{took: took, applied: func(moves []move, events []es.Event) {
			for i := range events {
				if events[i].Position != next {
					t.Errorf("event %d was folded instead of %d", events[i].Position, next)
				}
				next = events[i].Position + 1
			}
			if to := moves[0].to; to != next-1 {
				t.Errorf("the checkpoint moved to %d behind %d", to, next-1)
			}
			if time.Since(began) > while {
				batches++
			}
		}}
		r := &runner{
			projection: p, filter: newFilter(p, nil), feed: &steadyLog{began: began, every: every}, metrics: NewMetrics(prometheus.NewRegistry()), meter: newMeter(nil, slog.Default()),
			logger: slog.New(slog.DiscardHandler), newStore: func() store { return s }, parts: []*part{{live: true}},
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*while)
		defer cancel()
		if err := r.run(ctx); err != nil {
			t.Error(err)
		}
	})
	return batches
}

func TestEventsGatherWhileBatchesTakeLong(t *testing.T) {
	constant := func(took time.Duration) func(int) time.Duration {
		return func(int) time.Duration { return took }
	}
	const while = 10 * time.Second
	for _, c := range []struct {
		name        string
		every       time.Duration // an event
		took        func(events int) time.Duration
		least, most int // batches a second
	}{
		{"quick batches", time.Millisecond / 2, constant(2 * time.Millisecond), 499, 501},
		{"as long as they may be", time.Millisecond / 2, constant(restAbove), 165, 168},
		{"slow batches", time.Millisecond / 2, constant(10 * time.Millisecond), 29, 40},
		{"slow batches, and nothing waits", 50 * time.Millisecond, constant(10 * time.Millisecond), 19, 21},
		{"batches that take longer than events gather", time.Millisecond / 2, constant(restMost), 39, 41},
		{"a runner that is behind", 10 * time.Microsecond, constant(20 * time.Millisecond), 49, 51},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := runFor(t, while, c.every, c.took) / int(while/time.Second); got < c.least || got > c.most {
				t.Errorf("folded %d batches a second, want %d to %d", got, c.least, c.most)
			}
		})
	}
}

func TestRestsEndWhenBatchesAreQuickWithoutThem(t *testing.T) {
	for name, took := range map[string]func(events int) time.Duration{
		"what a batch takes is fixed":       func(int) time.Duration { return 2 * time.Millisecond },
		"what a batch takes grows with it":  func(n int) time.Duration { return 2*time.Millisecond + time.Duration(n)*200*time.Microsecond },
		"and the more the larger it is yet": func(n int) time.Duration { return 3*time.Millisecond + time.Duration(n)*40*time.Microsecond },
	} {
		t.Run(name, func(t *testing.T) {
			every, unhurried := time.Millisecond, 0
			crowd := func(began *time.Time) func(int) time.Duration {
				return func(n int) time.Duration {
					if began.IsZero() {
						*began = time.Now()
					}
					if time.Since(*began) < 5*time.Second {
						return 15 * time.Millisecond
					}
					return took(n)
				}
			}
			unhurried = runFor(t, 10*time.Second, every, took)
			if after := runFor(t, 10*time.Second, every, crowd(new(time.Time))); after < unhurried*9/10 {
				t.Errorf("%d batches long after a crowd, %d without one", after, unhurried)
			}
		})
	}
}

func TestASlowBatchAmongQuickOnesIsNoCrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		for n := range 100 {
			took := 2 * time.Millisecond
			if n%50 == 49 {
				took = 500 * time.Millisecond
			}
			p.folded(took)
		}
		if p.rests != 0 {
			t.Errorf("rests for %s after batches that take %s", p.rests, p.usual)
		}
	})
}

func TestARestIsOnceAfterABatchAndEndsWithTheRunner(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pace
		for range 100 {
			p.folded(restMost - 1)
		}
		began := time.Now()
		p.rest(t.Context(), 0)
		if rested := time.Since(began); rested != 0 {
			t.Errorf("rested for %s where nothing was waiting", rested)
		}
		p.rest(t.Context(), 1)
		p.rest(t.Context(), 1)
		if rested := time.Since(began); rested != restMost {
			t.Errorf("rested for %s, not %s", rested, restMost)
		}
		p.folded(restMost - 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		began = time.Now()
		p.rest(ctx, 1)
		if rested := time.Since(began); rested != time.Millisecond {
			t.Errorf("rested for %s when it was to stop after a millisecond", rested)
		}
	})
}
