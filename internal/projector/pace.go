package projector

import (
	"context"
	"time"
)

const (
	// restAbove is what a batch takes at most where nothing needs to rest: at 2,000 events/s, everything on two processors, it is 1 to 4 ms. In a crowd it is 10.
	restAbove = 6 * time.Millisecond
	// restFactor is how long events gather for each moment by which batches take longer than restAbove, and restMost how long they gather at most.
	restFactor = 6
	restMost   = 25 * time.Millisecond
	// paceOver is of how many batches what they take is averaged, and paceMost the most that one counts: a single slow one is no crowd.
	paceOver = 16
	paceMost = 20 * time.Millisecond
	// restFor is for how long batches rest before what they take without that is looked at again.
	restFor = 2 * time.Second
	// farBehind is from how many waiting events on a runner does not rest.
	farBehind = 1000
)

// pace lets events gather between batches while batches take long. A batch of a few events costs nearly what one of many does: where processors are short,
// in this process or in the store, folding each few at once takes them away from whoever makes the events, and everybody is late. A store that is far
// away looks the same: what it shows is then later by restMost at most.
//
// What batches take is looked at while nothing rests: what they take behind a rest, when they are larger, says nothing of whether one is needed.
type pace struct {
	usual time.Duration // what a batch takes, of those that were looked at
	seen  int           // how many were, since the last rest
	rests time.Duration // how long to rest after a batch
	until time.Time     // when to look again
	next  bool          // a batch has been folded since the last rest, and took less than restMost
}

// folded notes what a batch took. One that takes longer than events ever gather gains nothing from more of them.
func (p *pace) folded(took time.Duration) {
	p.next = took < restMost
	now := time.Now()
	if p.rests > 0 {
		if now.Before(p.until) {
			return
		}
		p.rests, p.seen = 0, 0
	}
	p.usual += (min(took, paceMost) - p.usual) / paceOver
	if p.seen++; p.seen >= paceOver && p.usual > restAbove {
		p.rests, p.until = min(restFactor*(p.usual-restAbove), restMost), now.Add(restFor)
	}
}

// rest waits, once after a batch, for as long as events are to gather, or until ctx ends. Where none is waiting yet, or too many
// are, it does not. Partitions that are assigned meanwhile are taken up afterwards.
func (p *pace) rest(ctx context.Context, waiting int64) {
	if !p.next || p.rests == 0 || waiting == 0 || waiting >= farBehind {
		return
	}
	p.next = false
	t := time.NewTimer(p.rests)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
