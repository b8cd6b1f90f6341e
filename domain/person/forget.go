package person

// Forget has a person forgotten.
type Forget struct {
	// Known says that the person has a key, so that there may be something to forget.
	Known bool
}

// Decide answers with Forgotten for a person who is known, with no event for one who was forgotten and has not come back, and with ErrNotFound for
// one of whom nothing was ever known.
func (c Forget) Decide(s State) ([]Event, error) {
	switch {
	case c.Known:
		return []Event{Forgotten{}}, nil
	case s.Forgotten == 0:
		return nil, ErrNotFound
	}
	return nil, nil
}
