package projectortest

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Histories draws histories, as a subtest, and fails unless each comes to the same in every way of running, whatever that is. Of one that
// does not the smallest is shown that is found within 20 s.
func (k *Kit) Histories(number int, histories *rapid.Generator[[]Facts]) {
	k.t.Helper()
	k.t.Run("histories", func(t *testing.T) {
		rapid.Check(t, k.property(t.Context(), number, histories))
		t.Logf("of these, %d were folded", number)
	})
}

// property checks as many histories as it is to, and, when one has failed, those that rapid then tries: they are smaller ones.
func (k *Kit) property(ctx context.Context, number int, histories *rapid.Generator[[]Facts]) func(*rapid.T) {
	known := make(map[string]string) // what was wrong with a history; "" is nothing
	var until time.Time              // zero: none has failed
	return func(t *rapid.T) {
		facts := histories.Draw(t, "history")
		name := fmt.Sprintf("%#v", facts)
		problem, isKnown := known[name]
		switch {
		case isKnown:
		case until.IsZero() && len(known) == number, !until.IsZero() && time.Now().After(until):
			return // rapid draws as many as of what takes no time
		default:
			problems, err := k.check(ctx, 0, facts, func(_ context.Context, o *outcome) []string { return o.problems() })
			if err != nil {
				t.Fatalf("projectortest: %v", err)
			}
			problem = strings.Join(problems, "\n")
			known[name] = problem
		}
		if problem == "" {
			return
		}
		if until.IsZero() {
			until = time.Now().Add(k.shrinking)
		}
		t.Fatalf("%s", problem)
	}
}

// Command is a command of the domain.
type Command[S, E any] interface {
	Decide(state S) ([]E, error)
}

// mostCommands bounds the commands of a history.
const mostCommands = 25

// Decided generates histories that can happen: commands, each drawn for one of the streams and an hour after the one before, are decided
// on the states of their streams. What is refused is left out.
func Decided[S, E any](
	evolve func(S, E) S, command func(t *rapid.T, stream string) Command[S, E], streams ...string,
) *rapid.Generator[[]Facts] {
	return rapid.Custom(func(t *rapid.T) (all []Facts) {
		states := make(map[string]S)
		for hour := range rapid.IntRange(1, mostCommands).Draw(t, "commands") {
			stream := rapid.SampledFrom(streams).Draw(t, "stream")
			events, err := command(t, stream).Decide(states[stream])
			if err != nil {
				continue
			}
			for _, e := range events {
				states[stream] = evolve(states[stream], e)
				all = append(all, On(stream, e).At(Now.Add(time.Duration(hour)*time.Hour)))
			}
		}
		return all
	})
}
