package projector

import (
	"errors"
	"fmt"

	"github.com/millrace/millrace/internal/es"
)

// filter picks what a projection folds: events of the types that it names, those that are upcast to such a type, and, to
// stop at them, versions of such types that this binary does not know, which a newer one has written.
type filter struct {
	wanted   map[string]bool     // by the types that this binary knows
	families map[string]struct{} // of those wanted: see es.Family
	codec    *es.Codec
}

func newFilter(p *Projection, codec *es.Codec) *filter {
	f := &filter{wanted: make(map[string]bool), families: make(map[string]struct{}), codec: codec}
	for _, t := range p.Events {
		f.wanted[t], f.families[es.Family(t)] = true, struct{}{}
	}
	if codec != nil {
		for stored, current := range codec.Current() {
			f.wanted[stored] = f.wanted[stored] || f.wanted[current]
		}
	}
	return f
}

func (f *filter) wants(eventType string) bool {
	wanted, known := f.wanted[eventType]
	if known {
		return wanted
	}
	_, wanted = f.families[es.Family(eventType)]
	return wanted
}

// undecodableError names an event that the projection wants and this binary cannot decode.
type undecodableError struct {
	position int64
	err      error
}

func (e *undecodableError) Error() string { return e.err.Error() }
func (e *undecodableError) Unwrap() error { return e.err }

// pick appends the wanted events to into. Its error is a fault.
func (f *filter) pick(into, events []es.Event) ([]es.Event, error) {
	last, wanted := "", false
	for i := range events {
		e := &events[i]
		if e.Type != last { // the events of a command are often alike
			last, wanted = e.Type, f.wants(e.Type)
		}
		if !wanted {
			continue
		}
		if e.Fact == nil {
			return into, &faultError{err: &undecodableError{position: e.Position, err: f.explain(*e)}}
		}
		into = append(into, *e)
	}
	return into, nil
}

// explain returns why an event was handed over undecoded.
func (f *filter) explain(e es.Event) error {
	if f.codec != nil {
		if err := f.codec.Decode(&e); err != nil {
			return err
		}
	}
	return fmt.Errorf("event %d of type %s was not decoded: %w", e.Position, e.Type, errors.ErrUnsupported)
}
