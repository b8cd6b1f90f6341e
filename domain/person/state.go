package person

import "fmt"

// State is what is known of a person. The zero State is one who has never been forgotten.
type State struct {
	// Forgotten is the key that was forgotten last.
	Forgotten string `json:"forgotten,omitzero"`
}

// Evolve returns the state after e.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case Forgotten:
		s.Forgotten = e.Key
	default:
		panic(fmt.Sprintf("person: %T is no event of a person", e))
	}
	return s
}
