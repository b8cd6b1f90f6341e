package person

// Event is a fact about a person. The set is closed: only this package's types implement it.
type Event interface {
	// EventType returns the name that the event is stored under.
	EventType() string
	isPersonEvent()
}

// Forgotten says that what was sealed under a key of the person's is not to be read any more.
type Forgotten struct {
	// Key names the key. Whoever comes back gets another one.
	Key string `json:"key"`
}

// EventType returns "person.forgotten".
func (Forgotten) EventType() string { return "person.forgotten" }

func (Forgotten) isPersonEvent() {}

// Events returns one zero value of each event of a person.
func Events() []Event { return []Event{Forgotten{}} }
