package projectortest

import (
	"time"

	"github.com/millrace/millrace/internal/es"
)

// Now is when facts happened of which nothing else is said, and when all of them were recorded.
var Now = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

// Facts are what a stream tells next.
type Facts struct {
	stream     string
	facts      []any
	occurredAt time.Time
}

// On returns facts of a stream, which happened at [Now].
func On(stream string, facts ...any) Facts {
	return Facts{stream: stream, facts: facts, occurredAt: Now}
}

// At returns the same facts as having happened at another time.
func (f Facts) At(t time.Time) Facts {
	f.occurredAt = t
	return f
}

// Logged returns the events of a log as facts, for example what commands have appended in the kit of package commandtest.
func Logged(events []es.Event) []Facts {
	all := make([]Facts, len(events))
	for i := range events {
		all[i] = On(events[i].Stream, events[i].Fact).At(events[i].OccurredAt)
	}
	return all
}

// apart returns the same facts one by one.
func apart(all []Facts) []Facts {
	var each []Facts
	for _, f := range all {
		for _, fact := range f.facts {
			each = append(each, On(f.stream, fact).At(f.occurredAt))
		}
	}
	return each
}
