package invoice

import (
	"fmt"
	"slices"
)

// State is what has been imported of an invoice. The zero State is an invoice of which nothing has.
type State struct {
	// Lines are the places of the lines that are done, ascending.
	Lines []int `json:"lines,omitempty"`
}

// Done reports whether the line at that place, counted from 1, has been imported.
func (s State) Done(place int) bool {
	_, found := slices.BinarySearch(s.Lines, place)
	return found
}

// Evolve returns the state after e. It leaves alone whatever s points to.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case LinesImported:
		s.Lines = slices.Concat(s.Lines, e.Lines)
		slices.Sort(s.Lines)
		s.Lines = slices.Compact(s.Lines)
	default:
		panic(fmt.Sprintf("invoice: %T is no event of an invoice", e))
	}
	return s
}
