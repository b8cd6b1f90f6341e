package projector

import (
	"math"
	"time"
)

// demand is what workers have to get done of a generation in one store.
type demand struct {
	arriving   float64 // events a second
	backlog    int64   // events that are not in the store yet
	lagging    int     // partitions that they are in
	throughput float64 // events that one worker folds in a busy second; 0: not known yet
}

// workers returns how many workers would fold what arrives and, within the target, what is waiting:
//
//	(arriving + backlog / target) / throughput, rounded up
//
// but not more than have something to do: a partition is folded by one worker at a time, so that beside those who keep up with
// what arrives there can be one for each partition that lags. It is at least 1: where nothing is known yet somebody has to begin, and
// where nothing is to be done somebody has to wait for it.
func (d demand) workers(target time.Duration) int {
	if d.throughput <= 0 {
		return 1
	}
	keepUp := math.Ceil(d.arriving / d.throughput)
	wanted := math.Ceil((d.arriving + float64(d.backlog)/target.Seconds()) / d.throughput)
	return int(max(1, min(wanted, keepUp+float64(d.lagging))))
}

// workersWanted is the demand's of the generation and store that needs the most, and at most one a partition. The stores of a
// projection, and the projections, are folded beside each other in every worker, each at the throughput that was measured that
// way: so numbers of workers are not added up. What is behind an event that cannot be applied is not among the backlog:
// workers do not help there.
func (i *inspection) workersWanted(p *Projection) int {
	type store struct {
		generation int
		name       string
	}
	demands := make(map[store]demand)
	for _, f := range i.fed {
		if f.projection != p.Name {
			continue
		}
		of := store{f.generation, f.store}
		d := demands[of]
		if f.error == "" && f.lag.events > 0 {
			d.backlog += f.lag.events
			d.lagging++
		}
		demands[of] = d
	}
	wanted := 1
	for of, d := range demands {
		d.arriving, d.throughput = i.arriving, i.throughput[throughputOf{p.Name, of.name}]
		wanted = max(wanted, d.workers(i.target))
	}
	return min(wanted, i.partitions)
}
