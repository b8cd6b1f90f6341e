package bench

import (
	"math"
	"slices"
	"time"
)

// percentile returns the value below or at which p percent of the sample lie, by the nearest-rank method: always a value that
// was measured. It sorts the sample; p is from 0 to 100. An empty sample has no percentile: 0.
func percentile(sample []time.Duration, p float64) time.Duration {
	if len(sample) == 0 {
		return 0
	}
	slices.Sort(sample)
	rank := int(math.Ceil(p / 100 * float64(len(sample))))
	return sample[min(max(rank, 1), len(sample))-1]
}

// median returns the middle of the values, between the two middle ones of an even number; 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[middle]
	}
	return (sorted[middle-1] + sorted[middle]) / 2
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
