package projector

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"
	"strings"

	"github.com/millrace/millrace/internal/es"
)

// mark says what of a partition is in a store: every event at or below position, but for those of the held streams.
// Marks of equal text mean equal rows, whoever wrote them.
type mark struct {
	position int64
	held     held
}

// held names the streams that a store goes without, each with the position of its first event that is not in the store:
// that one and all behind it are left out. It is not changed once it is made.
type held map[string]int64

func (h held) with(stream string, position int64) held {
	next := make(held, len(h)+1)
	maps.Copy(next, h)
	next[stream] = position
	return next
}

func (h held) without(stream string) held {
	if len(h) == 1 {
		return nil
	}
	next := maps.Clone(h)
	delete(next, stream)
	return next
}

// text is the stored form: the same for the same streams, "" for none.
func (h held) text() string {
	if len(h) == 0 {
		return ""
	}
	data, _ := json.Marshal(map[string]int64(h)) // sorted; strings and numbers cannot fail
	return string(data)
}

func parseHeld(text string) (held, error) {
	if text == "" {
		return nil, nil
	}
	var h held
	if err := json.Unmarshal([]byte(text), &h); err != nil {
		return nil, fmt.Errorf("the parked streams %q: %w", text, err)
	}
	return h, nil
}

// text is how Redis keeps a mark, in the field of the checkpoint: "17", or "17 {"order-1":5}". A worker of a release that
// knows no held streams finds no number there, and leaves the partition alone.
func (m mark) text() string {
	position := strconv.FormatInt(m.position, 10)
	if len(m.held) == 0 {
		return position
	}
	return position + " " + m.held.text()
}

// parseMark is the inverse of text; "" is the mark of a partition of which nothing is there.
func parseMark(text string) (m mark, err error) {
	if text == "" {
		return m, nil
	}
	position, streams, _ := strings.Cut(text, " ")
	if m.position, err = strconv.ParseInt(position, 10, 64); err != nil {
		return m, fmt.Errorf("checkpoint %q: %w", text, err)
	}
	m.held, err = parseHeld(streams)
	return m, err
}

// move is the compare-and-set of one partition's mark. One that goes nowhere only compares.
type move struct {
	partition int
	from, to  int64
	// fromHeld and toHeld are the streams held before and afterwards, nil for none.
	fromHeld, toHeld held
}

func (m *move) before() mark { return mark{m.from, m.fromHeld} }
func (m *move) after() mark  { return mark{m.to, m.toHeld} }

// admits reports whether the move's events include this one, the next of the partition. An event of a stream that is
// parked is not: from then on the stream is held.
func (m *move) admits(e *es.Event, parked map[string]parking) bool {
	if len(m.toHeld) > 0 {
		if _, ok := m.toHeld[e.Stream]; ok {
			return false
		}
	}
	if len(parked) > 0 {
		if p, ok := parked[e.Stream]; ok && e.Position >= p.position {
			m.toHeld = m.toHeld.with(e.Stream, e.Position)
			return false
		}
	}
	return true
}
