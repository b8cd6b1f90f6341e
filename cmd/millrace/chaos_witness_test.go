package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/millrace/millrace/cmd/millrace/audittest"
)

// witness remembers what clients were told, to hold it against the log.
type witness struct {
	mu       sync.Mutex
	told     []told
	errors   map[string]int
	seen     []string // what was wrong at once
	looks    int
	lastCent int
}

// told is a command and what came of it; no position: nobody knows.
type told struct {
	command
	position int64
	refusal  string
	number   string // of the order
	cart     string // its id
}

// note takes down the reply to a command. A checkout is noted once it is answered: it is asked again until then.
func (w *witness) note(c command, r *reply) {
	n := told{command: c}
	if id, ok := c.with["cartId"].(string); ok {
		n.cart = id
	}
	if r != nil {
		n.position, n.refusal = positionOf(r), r.refusal()
		if r.Order != nil && c.mutation == "checkout" {
			n.number = r.Order.Number
			n.data = map[string]any{"order": n.number}
		}
		if r.Cart != nil && n.cart == "" {
			n.cart = r.Cart.ID
		}
	} else if c.mutation == "checkout" {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, n)
}

// failed counts an error; "" is a connection that failed.
func (w *witness) failed(code, message string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.errors == nil {
		w.errors = make(map[string]int)
	}
	w.errors[code]++
	switch code {
	case "", "UNAVAILABLE", "STALE", "OVERLOADED":
	default:
		w.seen = append(w.seen, "an answer was "+code+": "+message)
	}
}

// lie takes down something that no client may ever see.
func (w *witness) lie(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, fmt.Sprintf(format, args...))
}

func (w *witness) looked() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
}

// price returns one in pence that it has not returned before.
func (w *witness) price() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lastCent++
	return 100 + w.lastCent
}

// answered counts the commands that had an effect of which the client was told.
func (w *witness) answered() (n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, t := range w.told {
		if t.position > 0 {
			n++
		}
	}
	return n
}

func (w *witness) String() string {
	answered := w.answered()
	w.mu.Lock()
	defer w.mu.Unlock()
	refused := 0
	for _, t := range w.told {
		if t.refusal != "" {
			refused++
		}
	}
	return fmt.Sprintf("%d commands: %d done, %d refused, %d without an answer; %d carts compared; errors: %v",
		len(w.told), answered, refused, len(w.told)-answered-refused, w.looks, w.errors)
}

// mayBeRefused are the refusals that clients cannot do anything against.
var mayBeRefused = map[string][]string{
	"checkout": {"OUT_OF_STOCK", "CART_EMPTY"}, "stockAdjust": {"OUT_OF_STOCK"}, "orderCancel": {"NOT_ALLOWED"}, "orderFulfill": {"NOT_ALLOWED"},
}

// lies are what clients were told and the log does not say, or says twice.
func (w *witness) lies(events []audittest.Event) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := &hearing{
		witness: w, events: events, marked: make(map[string][]int64), carts: make(map[string]string), keys: make(map[string]string),
		claimed: make(map[int64]string),
	}
	for i := range events {
		for member, value := range events[i].Fields {
			h.marked[markOf(events[i].Type, member, value)] = append(h.marked[markOf(events[i].Type, member, value)], events[i].Position)
		}
	}
	h.lies = slices.Clone(w.seen)
	for _, t := range w.told {
		h.hear(t)
	}
	h.count()
	return h.lies
}

func markOf(event, member string, value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return event + " " + member + " " + string(text)
}

// hearing compares what a witness was told with the log.
type hearing struct {
	*witness
	events  []audittest.Event
	marked  map[string][]int64 // positions by event type, member and value
	carts   map[string]string  // stream by id
	keys    map[string]string  // orders by idempotency key
	claimed map[int64]string   // positions and the commands that ended there
	lies    []string
}

func (h *hearing) wrong(t told, format string, args ...any) {
	h.lies = append(h.lies, fmt.Sprintf("%s %v: %s", t.mutation, t.with, fmt.Sprintf(format, args...)))
}

func (h *hearing) hear(t told) {
	var marks []int64
	if t.mark != "" {
		marks = h.marked[markOf(t.event, t.mark, t.data[t.mark])]
	}
	done := t.refusal == "" && t.position > 0
	switch {
	case t.refusal != "" && !slices.Contains(mayBeRefused[t.mutation], t.refusal):
		h.wrong(t, "it was refused with %s", t.refusal)
	case t.refusal != "" && len(marks) > 0, len(marks) > 1:
		h.wrong(t, "%q: the log has it at %v", t.refusal, marks)
	case done && t.settled && len(marks) == 0:
		h.hearSettled(t)
	case done && t.mark != "" && (len(marks) != 1 || marks[0] != t.position):
		h.wrong(t, "it was done at position %d, and the log has it at %v", t.position, marks)
	case done:
		h.hearDone(t)
	}
}

// hearDone looks at the event that a command ended with.
func (h *hearing) hearDone(t told) {
	if t.position > int64(len(h.events)) {
		h.wrong(t, "it was done at position %d, behind the end of the log", t.position)
		return
	}
	e := &h.events[t.position-1]
	same := e.Type == t.event
	for member, value := range t.data {
		same = same && markOf("", member, e.Fields[member]) == markOf("", member, value)
	}
	if !same {
		h.wrong(t, "at its position %d stands %s %s of %s", t.position, e.Type, e.Data, e.Stream)
		return
	}
	// The answer to a checkout may have been given twice.
	claim := t.mutation + " " + t.number + " " + fmt.Sprint(t.with)
	if other, taken := h.claimed[t.position]; taken && (other != claim || t.mutation != "checkout") {
		h.wrong(t, "its position %d was told for %s too", t.position, other)
	}
	h.claimed[t.position] = claim
	if t.cart == "" {
		return
	}
	if stream, known := h.carts[t.cart]; known && stream != e.Stream {
		h.wrong(t, "at its position %d stands an event of another cart", t.position)
	}
	h.carts[t.cart] = e.Stream
	if t.mutation == "checkout" {
		key := fmt.Sprint(t.with["idempotencyKey"])
		if other, known := h.keys[key]; known && other != t.number {
			h.wrong(t, "its key was answered with order %s, and with order %s", other, t.number)
		}
		h.keys[key] = t.number
		if placed := h.marked[markOf("order.placed", "number", t.number)]; len(placed) != 1 {
			h.wrong(t, "order %s was placed at %v", t.number, placed)
		}
	}
}

// hearSettled looks for the event of somebody else who did it before.
func (h *hearing) hearSettled(t told) {
	if t.mutation != "orderCancel" {
		h.wrong(t, "it was done at position %d, and the log does not have it", t.position)
		return
	}
	for i := range h.events {
		if e := &h.events[i]; e.Stream == "order-"+fmt.Sprint(t.with["reason"]) && e.Type == t.event && e.Position <= t.position {
			return
		}
	}
	h.wrong(t, "it was cancelled by position %d, and the log does not say so", t.position)
}

// count holds numbers against each other: an event is there for each command that was answered, and none for which nobody asked.
func (h *hearing) count() {
	found, answered, sent := make(map[string]int), make(map[string]int), make(map[string]int)
	for i := range h.events {
		if e := &h.events[i]; e.Fields["imported"] != true {
			found[e.Type]++
		}
	}
	for _, t := range h.told {
		event := t.event
		if t.mutation == "cartCreate" {
			event = "cart.created"
		}
		if t.mutation == "checkout" && t.refusal == "" {
			continue // counted by their numbers
		}
		if t.refusal == "" {
			sent[event]++
			if t.position > 0 {
				answered[event]++
			}
		}
	}
	for _, event := range slices.Sorted(maps.Keys(sent)) {
		switch event {
		case "cart.created", "cart.line_changed", "cart.line_removed", "product.published", "product.archived":
			if found[event] < answered[event] || found[event] > sent[event] {
				h.lies = append(h.lies, fmt.Sprintf("%d times %s was asked for and %d times it was answered; the log has it %d times",
					sent[event], event, answered[event], found[event]))
			}
		}
	}
}
