package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/internal/es"
)

// eventsCommand shows the log.
type eventsCommand struct {
	serverFlags
	Stream string `placeholder:"NAME" help:"Only this stream, for example order-580729."`
	From   int64  `default:"1" help:"First position to show."`
	Limit  int    `default:"0" help:"Show at most so many; 0 means all."`
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
	return withShop(ctx, c.serverFlags, out, func(s *shop) error {
		shown := 0
		show := func(events []es.Event) error {
			for i := range events {
				if c.Stream != "" && events[i].Stream != c.Stream || events[i].Position < c.From {
					continue
				}
				if err := c.print(out, &events[i]); err != nil {
					return err
				}
				if shown++; shown == c.Limit {
					return errEnough
				}
			}
			return nil
		}
		last, err := c.history(ctx, s, show)
		if err == nil && c.Follow {
			err = s.feed.Follow(ctx, last, show)
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

// history shows what is in the log now, and returns the position behind which it goes on.
func (c *eventsCommand) history(ctx context.Context, s *shop, show func([]es.Event) error) (last int64, err error) {
	const page = 1000
	if c.Stream != "" {
		if last, err = s.log.Head(ctx); err != nil {
			return 0, err
		}
		for version := int64(0); ; {
			events, err := s.log.ReadStream(ctx, c.Stream, version, page)
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
		events, err := s.log.ReadAll(ctx, last, page)
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

func (c *eventsCommand) print(out *console, e *es.Event) error {
	if !c.JSON {
		_, err := fmt.Fprintf(out.out, "%d\t%s\t%s@%d\t%s\t%s\n", e.Position, e.OccurredAt.Format(time.RFC3339), e.Stream, e.Version, e.Type, e.Data)
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
	}{e.Position, e.Stream, e.Version, e.Type, e.OccurredAt, e.RecordedAt, e.Data, e.Metadata})
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out.out, "%s\n", line)
	return err
}
