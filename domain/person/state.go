package person

import "fmt"

// State is what is known of a person. The zero State is one of whom nothing is.
type State struct {
	// Forgotten is how often the person has been forgotten: whoever comes back may be forgotten again.
	Forgotten int `json:"forgotten,omitzero"`
}

// Evolve returns the state after e.
func Evolve(s State, e Event) State {
	switch e.(type) {
	case Forgotten:
		s.Forgotten++
	default:
		panic(fmt.Sprintf("person: %T is no event of a person", e))
	}
	return s
}
