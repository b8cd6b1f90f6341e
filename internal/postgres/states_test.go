package postgres

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/internal/es"
)

// noted are streams whose states grow with each event.
type noted struct{ Text string }

func (noted) EventType() string { return "notes.noted" }

var notes = es.NewKind("notes", func(s []string, e noted) []string { return append(s[:len(s):len(s)], e.Text) }).Snapshotted(1)

func note(text string, ids ...string) es.Command {
	return es.Command{Name: "note", Decide: func(d *es.Decision) error {
		for _, id := range ids {
			if _, err := es.State(d, notes.Stream(id)); err != nil {
				return err
			}
			es.Append(d, notes.Stream(id), noted{text})
		}
		return nil
	}}
}

// States that are too much for the memory given go, and are read again; the estimate follows them down.
func TestStatesInMemoryAreBoundedByBytes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const bound = 200_000
	option, value := measured()
	log, err := OpenLog(t.Context(), b.pool, es.NewCodec(noted{}))
	if err != nil {
		t.Fatal(err)
	}
	w := (&bundle{env: b.env, pool: b.pool, log: log}).writer(t, b.pool, option, func(o *WriterOptions) {
		o.CachedBytes, o.Categories = bound, []*es.Category{notes.Category}
	})
	text := strings.Repeat("x", 1000)
	for round := range 3 {
		for n := range 300 {
			execute(t, w, note(text, fmt.Sprint(n)))
			if bytes := value(t, "cached_bytes"); bytes > bound {
				t.Fatalf("round %d: the states in memory have %v bytes, want at most %d", round, bytes, bound)
			}
		}
	}
	if streams, evictions := value(t, "cached_streams"), value(t, "evictions_total"); streams == 0 || streams > bound/1000 || evictions < 300 {
		t.Errorf("%v streams are in memory after %v evictions", streams, evictions)
	}
	// A command on more than there is room for finds all of it together.
	var all []string
	for n := range 300 {
		all = append(all, fmt.Sprint(n))
	}
	execute(t, w, note("all", all...))
	execute(t, w, note("afterwards", "0"))
	if bytes := value(t, "cached_bytes"); bytes > bound {
		t.Errorf("afterwards the states in memory have %v bytes, want at most %d", bytes, bound)
	}
	b.readWhole(t)
}

// The estimate is never below what a state that only grows has as JSON, nor far above it.
func TestTheSizeOfAGrowingState(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var state []string
		var estimate size
		for range rapid.IntRange(1, 60).Draw(t, "events") {
			text := strings.Repeat("x", rapid.IntRange(0, 500).Draw(t, "length"))
			state = append(state, text)
			estimate = estimate.after(len(text)+len(`{"Text":""}`), state)
		}
		encoded, err := json.Marshal(state)
		if err != nil {
			t.Fatal(err)
		}
		if got := estimate.bytes("s"); got < len(encoded) || got > 2*len(encoded)+2048 {
			t.Fatalf("the estimate is %d bytes, the state has %d", got, len(encoded))
		}
	})
}

// The tail holds the last events, at least as many as a reading may lag behind, and says so when it has none any more.
func TestTheTail(t *testing.T) {
	t.Parallel()
	const head, rounds = 7, 5
	s := newStates(1, 1)
	s.reset(head)
	for n := range int64(rounds*tailSize) + 3 {
		position := head + n + 1
		s.remember(es.Event{Position: position, Version: -position})
		if n%997 != 0 && n%tailSize > 3 {
			continue
		}
		for _, after := range []int64{head, position - 2*tailSize, position - tailSize, position - tailSize/3, position - 1, position} {
			if after < head {
				continue
			}
			events, known := s.since(after)
			switch {
			case !known && after < position-tailSize:
			case !known || int64(len(events)) != position-after:
				t.Fatalf("after %d of %d: %d events, known: %t", after, position, len(events), known)
			case len(events) > 0 && (events[0].Position != after+1 || events[0].Version != -after-1 || events[len(events)-1].Position != position):
				t.Fatalf("after %d of %d: from %d to %d", after, position, events[0].Position, events[len(events)-1].Position)
			}
		}
	}
	if _, known := s.since(head); known {
		t.Error("everything is still there")
	}
}
