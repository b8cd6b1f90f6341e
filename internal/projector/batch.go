package projector

import (
	"errors"
	"fmt"

	"github.com/millrace/millrace/internal/es"
)

// filter picks what a projection folds.
type filter struct {
	wanted map[string]struct{}
	codec  *es.Codec
}

func newFilter(p *Projection, codec *es.Codec) *filter {
	f := &filter{wanted: make(map[string]struct{}, len(p.Events)), codec: codec}
	for _, t := range p.Events {
		f.wanted[t] = struct{}{}
	}
	return f
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
	for i := range events {
		e := &events[i]
		if _, ok := f.wanted[e.Type]; !ok {
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
