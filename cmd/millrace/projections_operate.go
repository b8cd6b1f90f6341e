package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/millrace/millrace/internal/projector"
)

// projectionCommands is what an operator does with read models.
type projectionCommands struct {
	List   projectionsCommand `cmd:"" default:"withargs" help:"List the read models, how far they have come, and who keeps them."`
	Parked parkedCommand      `cmd:"" help:"List the events that were set aside because a read model cannot apply them."`
	Park   parkCommand        `cmd:"" help:"Set an event aside that a read model stands still at: it goes on, and the event's stream waits."`
	Retry  retryCommand       `cmd:"" help:"Try an event again now, with what waits behind it, after a fix."`
}

// Help is shown with the commands.
func (projectionCommands) Help() string {
	return "Without a command it lists the read models; millrace projections list --help has the flags for that."
}

// parkedCommand lists what is parked.
type parkedCommand struct {
	serverFlags
	Name []string `arg:"" optional:"" help:"Read models; all where none is named."`
	JSON bool     `help:"Print JSON."`
}

// Run prints the list.
func (c *parkedCommand) Run(ctx context.Context, out *console) error {
	if _, err := namedProjections(c.Name); err != nil {
		return err
	}
	return withModels(ctx, c.serverFlags, lagFlags{}, out, func(models *projector.Models) error {
		list, err := models.Parked(ctx, c.Name...)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(out.out, orEmpty(list))
		}
		return printParked(out.out, list)
	})
}

// eventFlags name an event in a read model.
type eventFlags struct {
	serverFlags
	Name     string        `arg:"" help:"The read model."`
	Position int64         `required:"" placeholder:"P" help:"The event's position."`
	Wait     time.Duration `default:"10s" help:"How long to wait for a worker to do it; 0 only asks."`
	JSON     bool          `help:"Print what came of it as JSON."`
}

// parkCommand sets an event aside.
type parkCommand struct{ eventFlags }

// Run parks, and prints what came of it.
func (c *parkCommand) Run(ctx context.Context, out *console) error {
	return c.operate(ctx, out, (*projector.Models).Park, func(o projector.Outcome) (string, error) {
		if o.Stopped != "" {
			return "", fmt.Errorf("%s still stands still at position %d: %s", c.Name, c.Position, o.Stopped)
		}
		return fmt.Sprintf("%s goes on without position %d; stream %s waits until it is retried", c.Name, c.Position, o.Stream), nil
	})
}

// retryCommand tries an event again.
type retryCommand struct{ eventFlags }

// Run has the event tried again, and prints what came of it.
func (c *retryCommand) Run(ctx context.Context, out *console) error {
	return c.operate(ctx, out, (*projector.Models).Retry, func(o projector.Outcome) (string, error) {
		switch {
		case o.Stopped != "":
			return "", fmt.Errorf("%s still stands still at position %d: %s", c.Name, c.Position, o.Stopped)
		case len(o.Parked) > 0:
			return "", fmt.Errorf("stream %s of %s is still parked, at position %d (%s): %s",
				o.Stream, c.Name, o.Parked[0].Position, o.Parked[0].Type, o.Parked[0].Error)
		}
		return fmt.Sprintf("%s has applied position %d; stream %s flows", c.Name, c.Position, o.Stream), nil
	})
}

// operated is what came of it, for machines.
type operated struct {
	Projection string                  `json:"projection"`
	Position   int64                   `json:"position"`
	Stream     string                  `json:"stream"`
	Pending    bool                    `json:"pending"`
	Stopped    string                  `json:"stopped,omitempty"`
	Parked     []projector.ParkedEvent `json:"parked"`
}

// operate asks workers for something, waits until they have done it, and prints what came of it.
func (c *eventFlags) operate(
	ctx context.Context, out *console,
	ask func(*projector.Models, context.Context, string, int64) error, tell func(projector.Outcome) (string, error),
) error {
	if _, err := namedProjections([]string{c.Name}); err != nil {
		return err
	}
	if c.Position < 1 {
		return usageError{fmt.Errorf("--position %d: the first event has position 1", c.Position)}
	}
	if c.Wait < 0 {
		return usageError{fmt.Errorf("--wait %s: it cannot be negative", c.Wait)}
	}
	return withModels(ctx, c.serverFlags, lagFlags{}, out, func(models *projector.Models) error {
		if err := ask(models, ctx, c.Name, c.Position); err != nil {
			return err
		}
		o, err := c.await(ctx, models)
		if err != nil {
			return err
		}
		if c.JSON {
			err := printJSON(out.out, operated{
				Projection: c.Name, Position: c.Position, Stream: o.Stream, Pending: o.Pending, Stopped: o.Stopped, Parked: orEmpty(o.Parked),
			})
			if err != nil {
				return err
			}
		}
		if o.Pending {
			if c.Wait > 0 {
				return fmt.Errorf("no worker has done it within %s; it will be done when one comes to it", c.Wait)
			}
			if !c.JSON {
				fmt.Fprintln(out.out, "asked for; millrace projections tells what becomes of it")
			}
			return nil
		}
		text, err := tell(o)
		if err == nil && !c.JSON {
			fmt.Fprintln(out.out, text)
		}
		return err
	})
}

func (c *eventFlags) await(ctx context.Context, models *projector.Models) (projector.Outcome, error) {
	waiting, cancel := context.WithTimeout(ctx, c.Wait)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		o, err := models.Outcome(ctx, c.Name, c.Position)
		if err != nil || !o.Pending || waiting.Err() != nil {
			return o, err
		}
		select {
		case <-waiting.Done():
		case <-tick.C:
		}
	}
}

// withModels runs a tool on the read models. A mistake of the operator's is told as one.
func withModels(ctx context.Context, f serverFlags, lag lagFlags, out *console, do func(*projector.Models) error) error {
	return withShop(ctx, f, lag, out, func(s *shop) error {
		err := do(s.models())
		if mistake, ok := errors.AsType[*projector.OperatorError](err); ok {
			return usageError{mistake}
		}
		return err
	})
}

// parked lists what is parked of the projections.
func (s *shop) parked(ctx context.Context, projections []projector.Projection) ([]projector.ParkedEvent, error) {
	names := make([]string, len(projections))
	for i := range projections {
		names[i] = projections[i].Name
	}
	return s.reading.Parked(ctx, names...)
}

// tellParked says what read models go without.
func tellParked(w io.Writer, list []projector.ParkedEvent, more string) {
	for _, e := range list {
		fmt.Fprintf(w, "%s (%s): stream %s is parked at position %d (%s: %s)%s\n", e.Projection, e.Store, e.Stream, e.Position, e.Type, e.Error, more)
	}
}

// trouble is what an operator has to know of a partition.
func trouble(p projector.PartitionStatus) string {
	switch {
	case p.Error != "":
		return p.Error
	case p.Parked == 1:
		return "1 stream is parked"
	case p.Parked > 1:
		return fmt.Sprintf("%d streams are parked", p.Parked)
	}
	return ""
}

func printParked(w io.Writer, list []projector.ParkedEvent) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "nothing is parked")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tGENERATION\tSTORE\tPOSITION\tTYPE\tSTREAM\tWAITING\tATTEMPTS\tPARKED\tERROR")
	for _, e := range list {
		fmt.Fprintf(t, "%s\t%d\t%s\t%d\t%s\t%s\t%d\t%d\t%s\t%s\n", e.Projection, e.Generation, e.Store, e.Position, e.Type, e.Stream,
			e.Waiting, e.Attempts, e.ParkedAt.UTC().Format(time.RFC3339), e.Error)
	}
	return t.Flush()
}
