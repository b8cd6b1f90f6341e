package invoice

// Event is a fact about an imported invoice. The set is closed: only this package's types implement it.
type Event interface {
	// EventType returns the name that the event is stored under.
	EventType() string
	isInvoiceEvent()
}

// LinesImported says that the effect of some lines is in the log.
type LinesImported struct {
	// Lines are places on the invoice, from 1, ascending.
	Lines []int `json:"lines"`
}

// EventType returns "invoice.lines_imported".
func (LinesImported) EventType() string { return "invoice.lines_imported" }

func (LinesImported) isInvoiceEvent() {}

// Events returns one zero value of each event of an imported invoice.
func Events() []Event { return []Event{LinesImported{}} }
