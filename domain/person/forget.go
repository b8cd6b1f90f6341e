package person

// Forget has a person forgotten.
type Forget struct {
	// Key is the one that the person has; "" for nobody's.
	Key string
}

// Decide answers with Forgotten for a key that has not been forgotten, with no event for one that has, or for somebody who was forgotten and has not come back,
// and with ErrNotFound for somebody of whom nothing was ever known.
func (c Forget) Decide(s State) ([]Event, error) {
	switch c.Key {
	case "":
		if s.Forgotten == "" {
			return nil, ErrNotFound
		}
		return nil, nil
	case s.Forgotten:
		return nil, nil
	}
	return []Event{Forgotten(c)}, nil
}
