// Package given tests a decider: given events, when a command, then events or a broken rule.
//
// Every case proves more than it says: that neither Decide nor Evolve changes the state that it is shown, which may be
// cached and shared, and that the state survives its way through JSON.
package given

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/domain/rule"
)

// Command decides what follows from a state.
type Command[S, E any] interface {
	Decide(S) ([]E, error)
}

// tester is what a test and a property of rapid have in common.
type tester interface {
	Helper()
	Fatalf(format string, args ...any)
}

// Case is one row of a module's table.
type Case[S, E any] struct {
	Name  string
	Given []E
	When  Command[S, E]
	// Then is what the command answers with; nil for no events.
	Then []E
	// Broken lists the rules that the command breaks instead, each as "CODE" or "CODE at.its.field".
	Broken []string
}

// Run checks every case.
func Run[S, E any](t *testing.T, evolve func(S, E) S, cases []Case[S, E]) {
	t.Helper()
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			var s S
			for _, e := range c.Given {
				s = evolve(s, e)
			}
			before := stored(t, s)
			events, err := c.When.Decide(s)
			if got := broken(err); !slices.Equal(got, c.Broken) {
				t.Fatalf("broken rules are %q, want %q (%v)", got, c.Broken, err)
			}
			if len(events) != len(c.Then) || len(events) > 0 && !reflect.DeepEqual(events, c.Then) {
				t.Fatalf("events are\n%#v, want\n%#v", events, c.Then)
			}
			Fold(t, evolve, s, events...)
			if after := stored(t, s); after != before {
				t.Fatalf("the state that was decided on changed from\n%s to\n%s", before, after)
			}
		})
	}
}

// Fold evolves s by events and fails the test if one changes the state that it is applied to, or if the last state is
// another one after its way through JSON.
func Fold[S, E any](t tester, evolve func(S, E) S, s S, events ...E) S {
	t.Helper()
	before := stored(t, s)
	for _, e := range events {
		next := evolve(s, e)
		if after := stored(t, s); after != before {
			t.Fatalf("evolving by %#v changed the earlier state from\n%s to\n%s", e, before, after)
		}
		s, before = next, stored(t, next)
	}
	var back S
	if err := json.Unmarshal([]byte(before), &back); err != nil {
		t.Fatalf("reading the stored state: %v", err)
	}
	if !reflect.DeepEqual(s, back) {
		t.Fatalf("the state\n%#v comes back from JSON as\n%#v", s, back)
	}
	return s
}

// EveryEventCounts checks that each event of the histories, folded in their order, changes the state, and that they hold
// every type of the closed set: an event that Evolve forgot would change nothing.
func EveryEventCounts[S any, E interface{ EventType() string }](t *testing.T, evolve func(S, E) S, closed []E, histories ...[]E) {
	t.Helper()
	missing := make(map[string]bool)
	for _, e := range closed {
		missing[e.EventType()] = true
	}
	for _, history := range histories {
		var s S
		for _, e := range history {
			next := Fold(t, evolve, s, e)
			if reflect.DeepEqual(s, next) {
				t.Errorf("%s changes nothing in %#v", e.EventType(), s)
			}
			s = next
			delete(missing, e.EventType())
		}
	}
	for name := range missing {
		t.Errorf("no history holds %s", name)
	}
}

func stored(t tester, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatalf("storing %#v: %v", v, err)
	}
	return string(b)
}

func broken(err error) []string {
	var all []string
	for _, e := range rule.All(err) {
		all = append(all, strings.TrimSpace(string(e.Code)+" "+strings.Join(e.Field, ".")))
	}
	if err != nil && all == nil {
		return []string{"no rule: " + err.Error()}
	}
	return all
}
