package es

import (
	"encoding/json"
	"fmt"
	"time"
)

// Category is a kind of stream without its types: how the facts of its streams fold into a state.
type Category struct {
	Name    string
	zero    any
	fold    func(state, fact any, at time.Time) (any, error)
	shape   int
	restore func(data []byte) (any, error)
}

// Zero returns the state of an empty stream.
func (c *Category) Zero() any { return c.zero }

// Fold returns the state after the fact, which occurred at the given time.
func (c *Category) Fold(state, fact any, at time.Time) (any, error) { return c.fold(state, fact, at) }

// Shape returns the version of the states' shape in snapshots, 0 where none are taken: see [Kind.Snapshotted].
func (c *Category) Shape() int { return c.shape }

// Restore returns the state that a snapshot of the category's own shape holds. A snapshot is the state as JSON.
func (c *Category) Restore(data []byte) (any, error) { return c.restore(data) }

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

// Snapshotted returns the kind with snapshots of its states, from which long streams are read again. States become JSON
// and have to come back from it as they were. Shape, from 1, is raised by hand whenever the type of the state changes, or what the fold
// makes of events: a snapshot of another shape is ignored. A state that may hold personal data in clear must not have
// snapshots: forgetting somebody would not reach them.
func (k Kind[S]) Snapshotted(shape int) Kind[S] {
	if shape < 1 {
		panic(fmt.Sprintf("es: the shape of the states of %s is %d, not positive", k.Name, shape))
	}
	c := *k.Category
	c.shape = shape
	c.restore = func(data []byte) (any, error) {
		var state S
		if err := json.Unmarshal(data, &state); err != nil {
			return nil, fmt.Errorf("es: restoring a state of %s: %w", c.Name, err)
		}
		return state, nil
	}
	return Kind[S]{&c}
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
