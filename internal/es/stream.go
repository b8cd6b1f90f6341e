package es

import (
	"fmt"
	"time"
)

// Category is a kind of stream without its types: how the facts of its streams fold into a state.
type Category struct {
	Name string
	zero any
	fold func(state, fact any, at time.Time) (any, error)
}

// Zero returns the state of an empty stream.
func (c *Category) Zero() any { return c.zero }

// Fold returns the state after the fact, which occurred at the given time.
func (c *Category) Fold(state, fact any, at time.Time) (any, error) { return c.fold(state, fact, at) }

// Kind is a category whose streams have states of type S.
type Kind[S any] struct{ *Category }

// NewKind returns the kind of the streams named "<name>-<id>", whose facts E fold into states S. Evolve must
// not change what its arguments point to: states are cached and shared.
func NewKind[S, E any](name string, evolve func(S, E) S) Kind[S] {
	return NewTimedKind(name, func(s S, e E, _ time.Time) S { return evolve(s, e) })
}

// NewTimedKind is NewKind for states that remember when something happened.
func NewTimedKind[S, E any](name string, evolve func(S, E, time.Time) S) Kind[S] {
	var zero S
	return Kind[S]{&Category{Name: name, zero: zero, fold: func(state, fact any, at time.Time) (any, error) {
		e, ok := fact.(E)
		if !ok {
			return nil, fmt.Errorf("es: a %s stream cannot hold a %T", name, fact)
		}
		return evolve(state.(S), e, at), nil
	}}}
}

// Stream names one stream of a kind.
type Stream[S any] struct {
	name string
	kind Kind[S]
}

// Stream returns the kind's stream with the id.
func (k Kind[S]) Stream(id string) Stream[S] { return Stream[S]{name: k.Name + "-" + id, kind: k} }

// Name returns "<category>-<id>".
func (s Stream[S]) Name() string { return s.name }

// FoldStream returns the state after the events, which are those of one stream in order, decoded.
func FoldStream[S any](k Kind[S], state S, events []Event) (S, error) {
	current := any(state)
	for i := range events {
		var err error
		if current, err = k.Fold(current, events[i].Fact, events[i].OccurredAt); err != nil {
			return state, fmt.Errorf("%w (position %d)", err, events[i].Position)
		}
	}
	return current.(S), nil
}
