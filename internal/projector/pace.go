package projector

import (
	"context"
	"time"
)

const (
	// easily is what a batch takes at most while there are processors for it: 1 to 4 ms at 2,000 events/s where everything runs on two. In a crowd it is 10,
	// where nothing rests.
	easily = 6 * time.Millisecond
	// restFactor is how long events gather for each moment by which batches take longer than easily, and restMost how long they gather at most.
	restFactor = 12
	restMost   = 25 * time.Millisecond
	// paceOver is of how many batches what they take is averaged, and paceMost the most that one counts: a single slow one is no crowd.
	paceOver = 16
	paceMost = 20 * time.Millisecond
	// hurried is how many events a batch has of a runner that is behind: it does not rest.
	hurried = liveBatch / 2
)

// pace lets events gather between batches while batches take long. A batch of a few events costs nearly what one of many does: where processors are short,
// in this process or in the store, folding each few at once takes them away from whoever makes the events, and everybody is late. Resting makes batches
// larger and therefore fewer, and what they take shorter again, so that it ends by itself.
type pace struct {
	usual time.Duration // what a batch takes
	next  time.Duration // how long to rest before the next one
}

// folded notes what a batch took that was read with so many events.
func (p *pace) folded(events int, took time.Duration) {
	p.usual += (min(took, paceMost) - p.usual) / paceOver
	if p.next = 0; events < hurried {
		p.next = min(max(0, restFactor*(p.usual-easily)), restMost)
	}
}

// rest waits, once after a batch, for as long as events are to gather, or until ctx ends.
func (p *pace) rest(ctx context.Context) {
	if p.next == 0 {
		return
	}
	t := time.NewTimer(p.next)
	defer t.Stop()
	p.next = 0
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
