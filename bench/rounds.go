package bench

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// side is one of the two things that are compared: callers, each doing one operation after the other.
type side struct {
	name    string
	callers int
	// operate does one operation for a caller, who is counted from 0.
	operate func(ctx context.Context, caller int) error
}

// measured is what the rounds of a side came to.
type measured struct {
	rates     []float64 // operations/s, one a round
	latencies []time.Duration
}

func (m *measured) rate() float64 { return median(m.rates) }

func (m *measured) p50() float64 { return milliseconds(percentile(m.latencies, 50)) }

// pairs is how many rounds each side gets: an odd number, so that the median is a round that took place.
const pairs = 5

// alternate runs rounds of a and b in turn, so that what the machine does beside hits both, for about the given time in
// all. Each side has a short round before that does not count.
func alternate(ctx context.Context, total time.Duration, a, b side, say func(format string, args ...any)) (ofA, ofB measured, err error) {
	round := total / (2*pairs + 1)
	for n := range pairs + 1 {
		for _, s := range []struct {
			side
			into *measured
		}{{a, &ofA}, {b, &ofB}} {
			length := round
			if n == 0 {
				length = round / 2
			}
			rate, latencies, err := closedLoop(ctx, length, s.side)
			if err != nil {
				return ofA, ofB, fmt.Errorf("bench: %s: %w", s.name, err)
			}
			if n == 0 {
				continue
			}
			say("  %s, round %d of %d: %.0f/s, p50 %.2f ms", s.name, n, pairs, rate, milliseconds(percentile(latencies, 50)))
			s.into.rates = append(s.into.rates, rate)
			s.into.latencies = append(s.into.latencies, latencies...)
		}
	}
	return ofA, ofB, nil
}

// closedLoop lets all callers work for a time. It returns the operations per second and how long each took.
func closedLoop(ctx context.Context, length time.Duration, s side) (rate float64, latencies []time.Duration, err error) {
	group, ctx := errgroup.WithContext(ctx)
	each := make([][]time.Duration, s.callers)
	began := time.Now()
	for caller := range s.callers {
		group.Go(func() error {
			for now := began; now.Sub(began) < length; {
				if err := s.operate(ctx, caller); err != nil {
					return err
				}
				end := time.Now()
				each[caller] = append(each[caller], end.Sub(now))
				now = end
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, nil, err
	}
	elapsed := time.Since(began)
	for _, l := range each {
		latencies = append(latencies, l...)
	}
	return float64(len(latencies)) / elapsed.Seconds(), latencies, nil
}

// openLoop begins an operation rate times a second for a time, whether those before it have ended or not: a slow answer does
// not keep the next question back. Operations are counted from 0 and told when they were due; it returns how many there
// were once all have ended.
func openLoop(ctx context.Context, rate int, length time.Duration, operate func(ctx context.Context, n int, due time.Time) error) (n int, err error) {
	group, ctx := errgroup.WithContext(ctx)
	began := time.Now()
	for ; ctx.Err() == nil; n++ {
		due := began.Add(time.Duration(n) * time.Second / time.Duration(rate))
		if due.Sub(began) >= length {
			break
		}
		if err := wait(ctx, time.Until(due)); err != nil {
			break // it stands in the group, or is the caller's
		}
		operation := n // which counts on while this one begins
		group.Go(func() error { return operate(ctx, operation, due) })
	}
	return n, group.Wait()
}
