package projectortest

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/es"
)

// patience is how long a case may take, however busy the machine is.
const patience = 2 * time.Minute

// Case is what is given, and what is then.
type Case struct {
	kit   *Kit
	name  string
	facts []Facts
}

// Case begins a case. It runs as a subtest of that name.
func (k *Kit) Case(name string) *Case { return &Case{kit: k, name: name} }

// Given adds facts at the end of the log.
func (c *Case) Given(facts ...Facts) *Case {
	for _, f := range apart(facts) {
		if fact, ok := f.facts[0].(es.Fact); ok {
			c.kit.given[es.Family(fact.EventType())] = true
		}
		c.facts = append(c.facts, f)
	}
	return c
}

// Then runs the case, and fails it unless all ways of running have come to the same, and to what is expected.
func (c *Case) Then(expected ...Expectation) {
	c.kit.t.Helper()
	c.run(c.then(expected))
}

func (c *Case) then(expected []Expectation) func(context.Context, *outcome) []string {
	return func(ctx context.Context, o *outcome) []string {
		problems := o.problems()
		for _, e := range expected {
			problems = append(problems, e.check(ctx, o)...)
		}
		return problems
	}
}

// ThenStops runs the case, and fails it unless in every way of running a partition stops at an event that the projection cannot
// apply, with an error that contains the text.
func (c *Case) ThenStops(text string) {
	c.kit.t.Helper()
	c.run(func(_ context.Context, o *outcome) (problems []string) {
		for _, w := range o.ways {
			if !strings.Contains(w.stopped, text) || w.stopped == "" {
				problems = append(problems, fmt.Sprintf("%s: it stops with %q; want %q in that", w.name, w.stopped, text))
			}
		}
		return problems
	})
}

func (c *Case) run(check func(context.Context, *outcome) []string) {
	c.kit.t.Helper()
	c.kit.t.Run(c.name, func(t *testing.T) {
		t.Helper() // a problem is told of the line that calls Then
		problems, err := c.kit.check(t.Context(), c.seed(), c.facts, check)
		if err != nil {
			t.Fatalf("projectortest: %v", err)
		}
		for _, p := range problems {
			t.Error(p)
		}
	})
}

// seed makes what is drawn the same whenever the case runs.
func (c *Case) seed() uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(c.name)) // never fails
	return h.Sum64()
}

// check folds facts in every way, and returns what is wrong with the outcome.
func (k *Kit) check(
	ctx context.Context, seed uint64, facts []Facts, check func(context.Context, *outcome) []string,
) (problems []string, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	t, err := k.begin(ctx, seed)
	if err != nil {
		return nil, err
	}
	o, err := t.play(ctx, facts)
	if err != nil {
		return nil, err
	}
	return check(ctx, o), nil
}
