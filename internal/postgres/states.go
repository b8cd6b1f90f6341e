package postgres

import (
	"encoding/json"
	"math"
	"slices"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/millrace/millrace/internal/es"
)

// states caches the states of streams as they are at the writer's head, and what is known of idempotency
// keys. It is not safe for concurrent use.
type states struct {
	streams *simplelru.LRU[string, kept]
	bytes   int // estimated, of all streams
	// The bounds of streams: beyond either, those that have not been used for longest go.
	maxStreams, maxBytes int
	// used holds idempotency keys that have been used; unused those that had not been when they were
	// last looked up, which a rival may change with any commit: a second use fails at the table's primary
	// key, and a refusal is not given on an older look than the rival's last event.
	used   *simplelru.LRU[es.Hash, keyRecord]
	unused *simplelru.LRU[es.Hash, unusedKey]
	// tail holds the last events behind which states that were read from a somewhat older snapshot are
	// brought up to date; tail[0] is at position tailStart.
	tail      []es.Event
	tailStart int64
	lastRival int64  // position of the last event that another process appended
	resets    uint64 // how often everything was forgotten: what was read before is of no use afterwards
}

// kept is a stream's state in memory.
type kept struct {
	es.Versioned
	snapshot int64 // the version of the last snapshot that this process has read or asked for, 0 for none
	size     size
}

// size estimates the bytes that a state takes in memory.
type size struct {
	measured int // what the state had as JSON when that was last found out
	since    int // what its events have had since: a state grows by no more than what it is told
}

// entryBytes is what the cache itself needs for a stream, beside twice its name: list, map, and the boxes of the values.
const entryBytes = 256

func (s size) bytes(stream string) int { return entryBytes + 2*len(stream) + s.measured + s.since }

// after returns the size after events of so many bytes. The state is measured again only when it may have doubled, which costs a
// short stream nothing and a long one hardly anything.
func (s size) after(eventBytes int, state any) size {
	const small = 1024
	s.since += eventBytes
	if s.since > max(small, s.measured) {
		if encoded, err := json.Marshal(state); err == nil {
			return size{measured: len(encoded)}
		}
	}
	return s
}

// tailSize is how many events a reading may lag behind the writer before it has to read on.
const tailSize = 16_384

func newStates(streams, bytes int) *states {
	keys := max(streams, 10_000)
	return &states{
		streams: newLRU[string, kept](math.MaxInt), // evict bounds it
		used:    newLRU[es.Hash, keyRecord](keys), unused: newLRU[es.Hash, unusedKey](keys), maxStreams: streams, maxBytes: bytes,
	}
}

func newLRU[K comparable, V any](size int) *simplelru.LRU[K, V] {
	lru, err := simplelru.NewLRU[K, V](size, nil)
	if err != nil {
		panic(err) // the size is not positive
	}
	return lru
}

// put makes k the state of the stream.
func (s *states) put(stream string, k kept) {
	if old, ok := s.streams.Peek(stream); ok {
		s.bytes -= old.size.bytes(stream)
	}
	s.bytes += k.size.bytes(stream)
	s.streams.Add(stream, k)
}

func (s *states) remove(stream string) {
	if old, ok := s.streams.Peek(stream); ok {
		s.bytes -= old.size.bytes(stream)
		s.streams.Remove(stream)
	}
}

// full reports whether something has to go.
func (s *states) full() bool { return s.bytes > s.maxBytes || s.streams.Len() > s.maxStreams }

// evict makes room, a little more than is needed so that it is not called for each stream, and returns how many streams went. Those
// that are needed stay, even if there is no room: who waits for several streams has to find them together.
func (s *states) evict(needed map[string]struct{}) (evicted int) {
	const spare = 16 // a sixteenth
	for range s.streams.Len() {
		if s.bytes <= s.maxBytes-s.maxBytes/spare && s.streams.Len() <= s.maxStreams-s.maxStreams/spare {
			break
		}
		oldest, _, _ := s.streams.GetOldest()
		if _, ok := needed[oldest]; ok {
			s.streams.Get(oldest) // now it is the newest
			continue
		}
		s.remove(oldest)
		evicted++
	}
	return evicted
}

// reset forgets everything; the next event seen will be at head + 1.
func (s *states) reset(head int64) {
	s.streams.Purge()
	s.used.Purge()
	s.unused.Purge()
	s.bytes = 0
	s.tail, s.tailStart, s.lastRival = nil, head+1, head
	s.resets++
}

// remember adds an event to the tail. One that has not been decoded keeps its data, for those who will have to.
func (s *states) remember(e es.Event) {
	e.Metadata = nil
	if e.Fact != nil {
		e.Data = nil
	}
	s.tail = append(s.tail, e)
	if old := len(s.tail) - tailSize; old >= tailSize {
		s.tail = slices.Delete(s.tail, 0, old) // in place
		s.tailStart += int64(old)
	}
}

// since returns the events behind a position, until the next one is remembered; known is false when they are too many to have been kept.
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
