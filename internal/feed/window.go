package feed

import (
	"fmt"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/postgres"
)

// window holds the events first..head, the last ones of the log, without a gap. It is empty when first is
// head + 1.
type window struct {
	ring     []es.Event // the event at position p lies at p modulo the length
	first    int64
	head     int64
	bytes    int
	maxBytes int
	ends     []postgres.PartitionEnd
	before   []int64            // by partition: where it ended when the window was empty
	last     map[string][]int64 // by type and partition: the position of the last event that was added
}

func newWindow(events, bytes, partitions int) window {
	return window{
		ring:     make([]es.Event, events),
		first:    1,
		maxBytes: bytes,
		ends:     make([]postgres.PartitionEnd, partitions),
		before:   make([]int64, partitions),
		last:     make(map[string][]int64),
	}
}

// start empties the window and puts its end at head.
func (w *window) start(head int64, ends []postgres.PartitionEnd) {
	w.first, w.head = head+1, head
	copy(w.ends, ends)
	for n := range w.ends {
		w.before[n] = w.ends[n].Position
	}
	clear(w.last)
}

func (w *window) at(position int64) *es.Event { return &w.ring[position%int64(len(w.ring))] }

// OrdinalError says that an event is not the next one of its partition.
type OrdinalError struct {
	Position  int64
	Partition int
	Want, Got int64
}

func (e *OrdinalError) Error() string {
	return fmt.Sprintf("feed: the event at position %d is number %d of partition %d instead of %d",
		e.Position, e.Got, e.Partition, e.Want)
}

// check reports whether the event can be the one behind head, apart from its position.
func (w *window) check(e *es.Event) error {
	if e.Partition < 0 || e.Partition >= len(w.ends) {
		return fmt.Errorf("feed: the event at position %d is of partition %d, but the log has %d partitions",
			e.Position, e.Partition, len(w.ends))
	}
	if want := w.ends[e.Partition].Ordinal + 1; e.Ordinal != want {
		return &OrdinalError{Position: e.Position, Partition: e.Partition, Want: want, Got: e.Ordinal}
	}
	return nil
}

// add appends the event behind head and drops the oldest ones that have no room beside it.
func (w *window) add(e es.Event) {
	w.head++
	w.ends[e.Partition] = postgres.PartitionEnd{Position: e.Position, Ordinal: e.Ordinal}
	last := w.last[e.Type]
	if last == nil {
		last = make([]int64, len(w.ends))
		w.last[e.Type] = last
	}
	last[e.Partition] = e.Position
	w.bytes += size(&e)
	for w.first < w.head && (w.head-w.first >= int64(len(w.ring)) || w.bytes > w.maxBytes) {
		oldest := w.at(w.first)
		w.bytes -= size(oldest)
		*oldest = es.Event{}
		w.first++
	}
	*w.at(w.head) = e
}

// behind returns a copy of up to limit events behind a position, which lies within the window.
func (w *window) behind(after int64, limit int) []es.Event {
	n := min(int64(limit), w.head-after)
	events := make([]es.Event, 0, n)
	for position := after + 1; position <= after+n; position++ {
		events = append(events, *w.at(position))
	}
	return events
}

// size is roughly what an event takes in memory, in bytes: the decoded fact about as much as its data.
func size(e *es.Event) int { return 2*len(e.Data) + len(e.Metadata) + len(e.Stream) + 256 }
