package bench

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/postgres"
)

// noted is the one event of the append benches; stored it has about 300 bytes.
type noted struct {
	Text string `json:"text"`
}

// EventType implements es.Fact.
func (noted) EventType() string { return "note.noted" }

// notes are streams that count their events.
var notes = es.NewKind("note", func(n int, _ noted) int { return n + 1 })

var note = noted{Text: strings.Repeat("A millrace feeds the wheel. ", 10)}

// Targets of the append benches, as ratios of events/s and, for the latency, below which it has to stay.
const (
	coldTarget    = 4
	coldP50Target = 1
	hotTarget     = 40
	keyedTarget   = 5
)

// appendCold measures commands that each begin a stream. What they decide on is read for them: the writer does not know
// that their streams are new.
func appendCold(ctx context.Context, l *lab) ([]Figure, error) {
	s, err := l.appendOn(ctx)
	if err != nil {
		return nil, err
	}
	ours := side{"millrace", callers, func(ctx context.Context, _ int) error {
		return s.command(ctx, notes.Stream(rand.Text()))
	}}
	plain := side{"one transaction a command", callers, func(ctx context.Context, _ int) error {
		return s.appendPlainly(ctx, "note-"+rand.Text())
	}}
	return compareAppends(ctx, l, "append-cold", ours, plain, func(rate, p50 Figure) []Figure {
		return []Figure{rate.aiming(coldTarget), p50.aiming(coldP50Target)}
	})
}

// appendKeyed measures the same with an idempotency key for each command, which is recorded. Neither side looks a key up first: it is
// new, and would be refused by its primary key if it were not. Both find out that the stream is new: the writer in its append, a plain
// transaction by reading it, as it has to before it decides.
func appendKeyed(ctx context.Context, l *lab) ([]Figure, error) {
	s, err := l.appendOn(ctx)
	if err != nil {
		return nil, err
	}
	ours := side{"millrace, with keys", callers, func(ctx context.Context, _ int) error {
		return execute(ctx, s.writer, notes.Stream(rand.Text()), newKey())
	}}
	plain := side{"one transaction a command, with keys", callers, func(ctx context.Context, _ int) error {
		return s.appendKeyed(ctx, "note-"+rand.Text(), newKey())
	}}
	return compareAppends(ctx, l, "append-keyed", ours, plain, func(rate, p50 Figure) []Figure {
		return []Figure{rate.aiming(keyedTarget), p50}
	})
}

// newKey returns a key as commands have them: hashes of the client's key and of what was asked for.
func newKey() *es.Idempotency {
	key, request := sha256.Sum256([]byte(rand.Text())), sha256.Sum256([]byte(note.Text))
	return &es.Idempotency{Key: key, Request: request, Streams: []string{"note"}}
}

// appendHot measures commands that all concern one stream.
func appendHot(ctx context.Context, l *lab) ([]Figure, error) {
	s, err := l.appendOn(ctx)
	if err != nil {
		return nil, err
	}
	stream := notes.Stream(rand.Text())
	locked := "note-" + rand.Text()
	if err := s.makeStreamRow(ctx, locked); err != nil {
		return nil, err
	}
	ours := side{"millrace", callers, func(ctx context.Context, _ int) error { return s.command(ctx, stream) }}
	plain := side{"one transaction a command, locking the stream", callers, func(ctx context.Context, _ int) error {
		return s.appendLocking(ctx, locked)
	}}
	return compareAppends(ctx, l, "append-hot", ours, plain, func(rate, p50 Figure) []Figure {
		return []Figure{rate.aiming(hotTarget), p50}
	})
}

func compareAppends(ctx context.Context, l *lab, name string, ours, plain side, aim func(rate, p50 Figure) []Figure) ([]Figure, error) {
	value, baseline, err := alternate(ctx, l.Duration, ours, plain, l.say)
	if err != nil {
		return nil, err
	}
	// An operation appends one event.
	rate := newFigure(name, value.rate(), "events/s", Higher).against(baseline.rate())
	p50 := newFigure(name+"-p50", value.p50(), "ms", Lower).against(baseline.p50())
	return aim(rate, p50), nil
}

// command appends one event to a stream through the server's writer.
func (s *appendServer) command(ctx context.Context, stream es.Stream[int]) error {
	return execute(ctx, s.writer, stream, nil)
}

// execute appends one event to a stream through a writer, deciding on its state; key may be nil. With a key the stream is presumed to be
// new, as is that of a cart whose id follows from the key: the append finds out.
func execute(ctx context.Context, writer *postgres.Writer, stream es.Stream[int], key *es.Idempotency) error {
	state, streams := es.State[int], []string{stream.Name()}
	if key != nil {
		state, streams = es.Presumed[int], nil
	}
	outcome, err := writer.Execute(ctx, es.Command{
		Name: "note", Streams: streams, Idempotency: key,
		Decide: func(d *es.Decision) error {
			if _, err := state(d, stream); err != nil {
				return err
			}
			es.Append(d, stream, note)
			return nil
		},
	})
	if err == nil && outcome.Events != 1 {
		err = fmt.Errorf("a command of one event appended %d", outcome.Events)
	}
	return err
}
