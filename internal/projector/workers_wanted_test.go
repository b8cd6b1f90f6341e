package projector

import (
	"testing"
	"time"
)

func TestWorkersForADemand(t *testing.T) {
	for name, c := range map[string]struct {
		demand
		want int
	}{
		"nothing at all":                                     {demand{}, 1},
		"a backlog of which nothing is known":                {demand{backlog: 1_000_000, lagging: 16}, 1},
		"nothing waits":                                      {demand{arriving: 900, throughput: 1_000}, 1},
		"more arrives than one folds":                        {demand{arriving: 2_100, throughput: 1_000}, 3},
		"a backlog that one drains in time":                  {demand{backlog: 5_000, lagging: 8, throughput: 1_000}, 1},
		"a backlog that one does not":                        {demand{backlog: 5_001, lagging: 8, throughput: 1_000}, 2},
		"a backlog and what arrives":                         {demand{arriving: 600, backlog: 12_500, lagging: 8, throughput: 1_000}, 4},
		"a backlog of one partition, which one worker folds": {demand{arriving: 600, backlog: 50_000, lagging: 1, throughput: 1_000}, 2},
	} {
		if got := c.workers(5 * time.Second); got != c.want {
			t.Errorf("%s: %d workers, want %d", name, got, c.want)
		}
	}
}
