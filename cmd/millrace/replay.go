package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/internal/projector"
)

// replayCommand rebuilds read models.
type replayCommand struct {
	serverFlags
	Name     []string  `arg:"" optional:"" help:"Read models."`
	All      bool      `help:"All of them."`
	Verify   bool      `xor:"what" help:"Rebuild beside the live one and compare, instead of switching."`
	Rollback bool      `xor:"what" help:"Instead of rebuilding, let readers see the generation before again. Once more goes forward again."`
	Until    moment    `xor:"what" placeholder:"POSITION|TIME" help:"Build the models as they were at a position, or at a time (RFC 3339), beside and under another name."`
	Past     bool      `xor:"what" help:"List the models of the past."`
	DropPast whichPast `xor:"what" placeholder:"POSITION|all" help:"Drop the models of the past: those of a position, or all."`
	JSON     bool      `help:"Print the result as JSON."`
}

// replayed is what a replay or a rollback did, for machines.
type replayed struct {
	Events      int64          `json:"events"`
	Seconds     float64        `json:"seconds"`
	PerSecond   float64        `json:"eventsPerSecond"`
	Generations map[string]int `json:"generations"`
	// Parked are the events that the new generations go without, as those before did.
	Parked []projector.ParkedEvent `json:"parked,omitempty"`
}

func newReplayed(r projector.Result) replayed {
	seconds := r.Elapsed.Seconds()
	return replayed{
		Events: r.Events, Seconds: seconds, PerSecond: float64(r.Events) / max(seconds, 0.001), Generations: r.Generations, Parked: r.Parked,
	}
}

// Run does what the flags ask for, and prints what came of it.
func (c *replayCommand) Run(ctx context.Context, out *console) error {
	if c.All && len(c.Name) > 0 {
		return usageError{errors.New("name read models or give --all, not both")}
	}
	listing := c.Past || c.DropPast.given // of all models where none is named
	if !c.All && len(c.Name) == 0 && !listing {
		return usageError{errors.New("name the read models, or give --all")}
	}
	projections, err := namedProjections(c.Name)
	if err != nil {
		return err
	}
	do, doing := c.rebuild, "rebuilding"
	switch {
	case c.Verify:
		do, doing = c.compare, "comparing"
	case c.Rollback:
		do, doing = c.rollBack, "rolling back"
	case c.Until.given():
		do, doing = c.buildPast, "building"
	case c.Past:
		do = c.listPast
	case c.DropPast.given:
		do = c.dropPast
	}
	return withShop(ctx, c.serverFlags, lagFlags{}, out, func(s *shop) error {
		p := newRebuildProgress(out, doing)
		return do(ctx, &replay{shop: s, out: out, progress: p, ReplayOptions: projector.ReplayOptions{
			Pool: s.workPool, Redis: s.workRedis, Log: s.log, Codec: commands.Codec(), Info: s.log.Info(), Projections: projections,
			Logger: s.logger, Progress: p.show,
		}})
	})
}

// replay is a replay command under way.
type replay struct {
	*shop
	projector.ReplayOptions
	out      *console
	progress *rebuildProgress
}

// rebuild rebuilds and switches.
func (c *replayCommand) rebuild(ctx context.Context, r *replay) error {
	result, err := projector.Replay(ctx, r.ReplayOptions)
	r.progress.bar.done()
	if err != nil {
		return err
	}
	done := newReplayed(result)
	if c.JSON {
		return printJSON(r.out.out, done)
	}
	fmt.Fprintf(r.out.out, "Replayed %d events in %.1f s (%.0f a second).\n", done.Events, done.Seconds, done.PerSecond)
	for _, p := range r.Projections {
		fmt.Fprintf(r.out.out, "%s: readers see generation %d\n", p.Name, done.Generations[p.Name])
	}
	tellParked(r.out.out, done.Parked, "; it still cannot be applied")
	fmt.Fprintln(r.out.out, "Generations that readers saw before are kept until the next replay; --rollback goes back to them.")
	return nil
}

// rollBack lets readers see the generations before again.
func (c *replayCommand) rollBack(ctx context.Context, r *replay) error {
	result, err := projector.Rollback(ctx, r.ReplayOptions)
	r.progress.bar.done()
	if errors.Is(err, projector.ErrNoPrevious) {
		return fmt.Errorf("%w, and nothing was changed; a replay keeps the one that it replaces", err)
	}
	if err != nil {
		return err
	}
	done := newReplayed(result)
	if c.JSON {
		return printJSON(r.out.out, done)
	}
	for _, p := range r.Projections {
		fmt.Fprintf(r.out.out, "%s: readers see generation %d again\n", p.Name, done.Generations[p.Name])
	}
	fmt.Fprintln(r.out.out, "Generations that readers saw until now are kept until the next replay; --rollback once more goes forward to them.")
	return nil
}

// comparison is what comparing came to.
type comparison struct {
	Projections []string               `json:"projections"`
	Differences []projector.Difference `json:"differences"` // empty: they are what the log says
	// Parked are the events that read models go without; they are not compared.
	Parked []projector.ParkedEvent `json:"parked"`
}

// compare rebuilds and compares.
func (c *replayCommand) compare(ctx context.Context, r *replay) error {
	differences, err := projector.Verify(ctx, r.ReplayOptions)
	r.progress.bar.done()
	if err != nil {
		return err
	}
	parked, err := r.parked(ctx, r.Projections)
	if err != nil {
		return err
	}
	tellParked(r.out.err, parked, "; its events from there are not compared")
	if c.JSON {
		compared := comparison{Differences: orEmpty(differences), Parked: orEmpty(parked)}
		for _, p := range r.Projections {
			compared.Projections = append(compared.Projections, p.Name)
		}
		if err := printJSON(r.out.out, compared); err != nil {
			return err
		}
	}
	for _, d := range differences {
		if !c.JSON {
			fmt.Fprintf(r.out.out, "%s.%s %s:\n  live    %s\n  rebuilt %s\n", d.Projection, d.Table, d.Key, d.Live, d.Rebuilt)
		}
	}
	if len(differences) > 0 {
		return fmt.Errorf("%d rows differ from what the log says", len(differences))
	}
	if !c.JSON {
		for _, p := range r.Projections {
			fmt.Fprintf(r.out.out, "%s: equal to what the log says\n", p.Name)
		}
	}
	return nil
}
