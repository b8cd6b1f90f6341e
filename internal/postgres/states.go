package postgres

import (
	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/millrace/millrace/internal/es"
)

// states caches the states of streams as they are at the writer's head, and what is known of idempotency
// keys. It is not safe for concurrent use.
type states struct {
	streams *simplelru.LRU[string, es.Versioned]
	// used holds idempotency keys that have been used; unused those that had not been when they were
	// last looked up, which a rival may change with any commit: a second use fails at the table's primary
	// key, and a refusal is not given on an older look than the rival's last event.
	used   *simplelru.LRU[string, keyRecord]
	unused *simplelru.LRU[string, unusedKey]
	// tail holds the last events behind which states that were read from a somewhat older snapshot are
	// brought up to date; tail[0] is at position tailStart.
	tail      []es.Event
	tailStart int64
	lastRival int64 // position of the last event that another process appended
}

// tailSize is how many events a reading may lag behind the writer before it is done again.
const tailSize = 16_384

func newStates(size int) *states {
	streams, err := simplelru.NewLRU[string, es.Versioned](size, nil)
	if err != nil {
		panic(err) // the size is not positive
	}
	used, err := simplelru.NewLRU[string, keyRecord](size, nil)
	if err != nil {
		panic(err)
	}
	unused, err := simplelru.NewLRU[string, unusedKey](size, nil)
	if err != nil {
		panic(err)
	}
	return &states{streams: streams, used: used, unused: unused}
}

// reset forgets everything; the next event seen will be at head + 1.
func (s *states) reset(head int64) {
	s.streams.Purge()
	s.used.Purge()
	s.unused.Purge()
	s.tail, s.tailStart, s.lastRival = nil, head+1, head
}

// remember adds an event to the tail.
func (s *states) remember(e es.Event) {
	e.Data, e.Metadata = nil, nil
	s.tail = append(s.tail, e)
	if len(s.tail) >= 2*tailSize {
		keep := append([]es.Event(nil), s.tail[len(s.tail)-tailSize:]...)
		s.tailStart += int64(len(s.tail) - len(keep))
		s.tail = keep
	}
}

// since returns the events behind a position; known is false when they are too many to have been kept.
func (s *states) since(position int64) (events []es.Event, known bool) {
	from := position + 1 - s.tailStart
	if from < 0 {
		return nil, false
	}
	if from >= int64(len(s.tail)) {
		return nil, true
	}
	return s.tail[from:], true
}
