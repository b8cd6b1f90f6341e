package bench

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestPercentile(t *testing.T) {
	t.Parallel()
	hundred := make([]time.Duration, 100)
	for i := range hundred {
		hundred[i] = time.Duration(100 - i) // 100 down to 1
	}
	for _, c := range []struct {
		sample []time.Duration
		p      float64
		want   time.Duration
	}{
		{nil, 50, 0},
		{[]time.Duration{7}, 0, 7},
		{[]time.Duration{7}, 99, 7},
		{[]time.Duration{3, 1, 2}, 50, 2},
		{[]time.Duration{4, 1, 3, 2}, 50, 2}, // a value that was measured, not one between two
		{hundred, 50, 50},
		{hundred, 99, 99},
		{hundred, 99.5, 100},
		{hundred, 100, 100},
		{hundred, 0, 1},
	} {
		if got := percentile(slices.Clone(c.sample), c.p); got != c.want {
			t.Errorf("percentile %v of %d values = %d, want %d", c.p, len(c.sample), got, c.want)
		}
	}
}

func TestPercentileHasItsShareBelow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(rapid.IntRange(0, 50), 1, 200).Draw(t, "values")
		p := rapid.Float64Range(0, 100).Draw(t, "p")
		sample := make([]time.Duration, len(values))
		for i, v := range values {
			sample[i] = time.Duration(v)
		}
		got := percentile(sample, p)
		if !slices.Contains(sample, got) {
			t.Fatalf("%d was not measured", got)
		}
		atOrBelow, below := 0, 0
		for _, v := range sample {
			if v <= got {
				atOrBelow++
			}
			if v < got {
				below++
			}
		}
		share := p / 100 * float64(len(sample))
		if float64(atOrBelow) < share-1e-9 || float64(below) > share+1e-9 {
			t.Fatalf("%d values are at or below the percentile %v and %d below it, of %d", atOrBelow, p, below, len(sample))
		}
	})
}

func TestMedian(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		values []float64
		want   float64
	}{
		{nil, 0},
		{[]float64{5}, 5},
		{[]float64{9, 1, 5}, 5},
		{[]float64{4, 1, 9, 2}, 3},
	} {
		before := slices.Clone(c.values)
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v = %v, want %v", c.values, got, c.want)
		}
		if !slices.Equal(before, c.values) {
			t.Errorf("the median changed its values from %v to %v", before, c.values)
		}
	}
}
