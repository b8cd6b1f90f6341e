package projector

import (
	"sync/atomic"
	"time"
)

// part is a partition as its runner knows it. While it is behind it belongs to its catch-up goroutine, but for live,
// retryAt and released.
type part struct {
	number   int
	mark     mark               // as it is in the store
	parked   map[string]parking // by stream, as the list was when last read
	seen     int64              // handled up to here: at least the mark
	live     bool
	retryAt  time.Time // when a stopped partition tries again; zero: it is not stopped
	released atomic.Bool

	failing  int64 // position of the event that it stands at; 0: none
	attempts int

	// For the metrics, whoever it belongs to.
	stopped atomic.Bool
	holding atomic.Int64
}

// stands is the move that goes nowhere yet.
func (p *part) stands() move {
	return move{partition: p.number, from: p.mark.position, to: p.mark.position, fromHeld: p.mark.held, toHeld: p.mark.held}
}

// moved notes what the mark has become.
func (p *part) moved(to mark) {
	p.mark, p.seen = to, max(p.seen, to.position)
	p.holding.Store(int64(len(to.held)))
}

// due returns the parked stream to be tried next, the one parked first, or "". A stream is due when an operator has asked
// for it, and when nobody wishes it parked: its entry was deleted, or Redis was set back to before it was applied.
func (p *part) due() string {
	due, from := "", int64(0)
	for stream, position := range p.mark.held {
		if listed, ok := p.parked[stream]; (!ok || listed.retry) && (due == "" || position < from) {
			due, from = stream, position
		}
	}
	return due
}

// list notes that a stream is on the list, and not to be tried again.
func (p *part) list(stream string, position int64) {
	if p.parked == nil {
		p.parked = make(map[string]parking)
	}
	p.parked[stream] = parking{position: position}
}
