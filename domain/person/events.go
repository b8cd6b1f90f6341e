package person

// Event is a fact about a person. The set is closed: only this package's types implement it.
type Event interface {
	// EventType returns the name that the event is stored under.
	EventType() string
	isPersonEvent()
}

// Forgotten says that what was recorded about the person until then is not to be read any more.
type Forgotten struct{}

// EventType returns "person.forgotten".
func (Forgotten) EventType() string { return "person.forgotten" }

func (Forgotten) isPersonEvent() {}

// Events returns one zero value of each event of a person.
func Events() []Event { return []Event{Forgotten{}} }
