package projector

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestSharesAddUpAndAreFair draws who takes what: everybody the same, or each what it likes.
func TestSharesAddUpAndAreFair(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		partitions := rapid.IntRange(1, 64).Draw(t, "partitions")
		projections := rapid.IntRange(1, 6).Draw(t, "projections")
		workers := rapid.IntRange(1, 20).Draw(t, "workers")
		choosy := rapid.Bool().Draw(t, "choosy")
		takers := make(map[string][]string)
		for p := range projections {
			name := fmt.Sprintf("p%d@1", p)
			for w := range workers {
				if !choosy || rapid.Bool().Draw(t, "takes") {
					takers[name] = append(takers[name], fmt.Sprintf("w%02d", w))
				}
			}
		}
		totals := make([]int, workers)
		sums := make(map[string]int)
		least, most := make(map[string]int), make(map[string]int)
		for w := range workers {
			id := fmt.Sprintf("w%02d", w)
			shares := allot(id, takers, partitions)
			for name, ids := range takers {
				n, has := shares[name]
				if has != slices.Contains(ids, id) {
					t.Fatalf("%s, taken by %v, gives %s a share: %v", name, ids, id, has)
				}
				if !has {
					continue
				}
				if _, seen := least[name]; !seen {
					least[name] = n
				}
				sums[name], least[name], most[name] = sums[name]+n, min(least[name], n), max(most[name], n)
				totals[w] += n
			}
		}
		for name, ids := range takers {
			if sums[name] != partitions || most[name]-least[name] > 1 {
				t.Fatalf("%s, taken by %v: the shares add up to %d of %d, between %d and %d", name, ids, sums[name], partitions, least[name], most[name])
			}
		}
		if !choosy && slices.Max(totals)-slices.Min(totals) > 1 {
			t.Fatalf("the remainders are not spread: %v", totals)
		}
		if len(allot("stranger", takers, partitions)) != 0 {
			t.Fatal("a worker that is not on the list has a share")
		}
	})
}
