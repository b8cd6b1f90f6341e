package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/feed"
	"github.com/millrace/millrace/internal/postgres"
)

// eventsCommand shows the log.
type eventsCommand struct {
	logFlags
	Stream string `placeholder:"NAME" help:"Only this stream, for example order-580729."`
	From   int64  `default:"1" help:"First position to show."`
	Limit  int    `default:"0" help:"Show at most so many; 0 means all."`
	State  bool   `help:"Show the stream's state after each event too."`
	Follow bool   `short:"f" help:"Go on showing what is appended."`
	JSON   bool   `help:"Print a JSON object a line."`
}

// errEnough ends a listing that has shown as much as was asked for.
var errEnough = errors.New("enough events shown")

// Run prints the events.
func (c *eventsCommand) Run(ctx context.Context, out *console) error {
	if c.Limit < 0 || c.From < 1 {
		return usageError{fmt.Errorf("--from must be at least 1 and --limit at least 0, not %d and %d", c.From, c.Limit)}
	}
	states, err := c.states()
	if err != nil {
		return err
	}
	return withLog(ctx, c.logFlags, out, func(log *postgres.Log, _ *pgxpool.Pool) error {
		shown := 0
		show := func(events []es.Event) error {
			for i := range events {
				if c.Stream != "" && events[i].Stream != c.Stream {
					continue
				}
				state, err := states.after(&events[i])
				if err != nil {
					return err
				}
				if events[i].Position < c.From {
					continue
				}
				if err := c.print(out, &events[i], state); err != nil {
					return err
				}
				if shown++; shown == c.Limit {
					return errEnough
				}
			}
			return nil
		}
		last, err := c.history(ctx, log, show)
		if err == nil && shown == 0 && !c.Follow {
			fmt.Fprintln(out.err, c.nothing())
		}
		if err == nil && c.Follow {
			err = follow(ctx, log, last, out, show)
		}
		if c.Follow && errors.Is(err, context.Canceled) {
			return nil // the person who watches has seen enough
		}
		if errors.Is(err, errEnough) {
			return nil
		}
		return err
	})
}

// nothing says of what there is nothing to show.
func (c *eventsCommand) nothing() string {
	switch {
	case c.Stream != "" && c.From > 1:
		return fmt.Sprintf("no events of stream %s from position %d on", c.Stream, c.From)
	case c.Stream != "":
		return "no events of stream " + c.Stream
	case c.From > 1:
		return fmt.Sprintf("no events from position %d on", c.From)
	}
	return "the log has no events yet"
}

// follow shows what is appended behind a position, as it is in PostgreSQL: a look at the log needs nothing else.
func follow(ctx context.Context, log *postgres.Log, after int64, out *console, show func([]es.Event) error) error {
	f := feed.New(feed.Options{Log: log, Info: log.Info(), Epoch: log.Epoch, Codec: commands.Codec(), Logger: out.log})
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return f.Run(ctx) })
	g.Go(func() error { return f.Follow(ctx, after, show) })
	return g.Wait()
}

// streamStates folds the events of one stream; nil folds nothing.
type streamStates struct {
	codec    *es.Codec
	category *es.Category
	state    any
}

func (c *eventsCommand) states() (*streamStates, error) {
	if !c.State {
		return nil, nil
	}
	if c.Stream == "" {
		return nil, usageError{errors.New("--state is for one stream: name it with --stream")}
	}
	categories := commands.Categories()
	at := slices.IndexFunc(categories, func(k *es.Category) bool { return k.Name == es.CategoryOf(c.Stream) })
	if at < 0 {
		names := make([]string, len(categories))
		for i, k := range categories {
			names[i] = k.Name
		}
		return nil, usageError{fmt.Errorf("--stream %s is none of a kind that has states; there are %s", c.Stream, strings.Join(names, ", "))}
	}
	return &streamStates{codec: commands.Codec(), category: categories[at], state: categories[at].Zero()}, nil
}

// after returns the state after the next event as JSON. Personal data stays sealed in it.
func (s *streamStates) after(e *es.Event) (json.RawMessage, error) {
	if s == nil {
		return nil, nil
	}
	err := s.codec.Decode(e) // as a rule it has been
	if err == nil {
		s.state, err = s.category.Fold(s.state, e.Fact, e.OccurredAt)
	}
	var state json.RawMessage
	if err == nil {
		state, err = json.Marshal(s.state)
	}
	if err != nil {
		return nil, fmt.Errorf("the state of %s after version %d: %w", e.Stream, e.Version, err)
	}
	return state, nil
}

// history shows what is in the log now, and returns the position behind which it goes on.
func (c *eventsCommand) history(ctx context.Context, log *postgres.Log, show func([]es.Event) error) (last int64, err error) {
	const page = 1000
	if c.Stream != "" {
		if last, err = log.Head(ctx); err != nil {
			return 0, err
		}
		for version := int64(0); ; {
			events, err := log.ReadStream(ctx, c.Stream, version, page)
			if err != nil {
				return 0, err
			}
			if err := show(events); err != nil {
				return 0, err
			}
			if len(events) < page {
				if n := len(events); n > 0 {
					last = max(last, events[n-1].Position)
				}
				return last, nil
			}
			version += page
		}
	}
	for last = c.From - 1; ; {
		events, err := log.ReadAll(ctx, last, page)
		if err != nil {
			return 0, err
		}
		if err := show(events); err != nil {
			return 0, err
		}
		if len(events) == 0 {
			return last, nil
		}
		last = events[len(events)-1].Position
	}
}

func (c *eventsCommand) print(out *console, e *es.Event, state json.RawMessage) error {
	if !c.JSON {
		_, err := fmt.Fprintf(out.out, "%d\t%s\t%s@%d\t%s\t%s\n", e.Position, e.OccurredAt.Format(time.RFC3339), e.Stream, e.Version, e.Type, e.Data)
		if err == nil && state != nil {
			_, err = fmt.Fprintf(out.out, "\tstate\t%s\n", state)
		}
		return err
	}
	line, err := json.Marshal(struct {
		Position   int64           `json:"position"`
		Stream     string          `json:"stream"`
		Version    int64           `json:"version"`
		Type       string          `json:"type"`
		OccurredAt time.Time       `json:"occurredAt"`
		RecordedAt time.Time       `json:"recordedAt"`
		Data       json.RawMessage `json:"data"`
		Metadata   json.RawMessage `json:"metadata"`
		State      json.RawMessage `json:"state,omitempty"`
	}{e.Position, e.Stream, e.Version, e.Type, e.OccurredAt, e.RecordedAt, e.Data, e.Metadata, state})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out.out, "%s\n", line)
	return err
}
