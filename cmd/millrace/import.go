package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/millrace/millrace/commands/onlineretail"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// importCommand imports real data.
type importCommand struct {
	Orders importOrdersCommand `cmd:"" help:"Import invoices in the format of the Online Retail data set, CSV or gzipped CSV."`
}

// importOrdersCommand imports invoices.
type importOrdersCommand struct {
	serverFlags
	writeFlags
	File     string `arg:"" placeholder:"FILE" help:"The file; - for the day that is shipped with the program."`
	Rejected string `placeholder:"FILE" help:"Where to write rejected rows with line number and reason (default: the file's name with .rejected.csv, here)."`
	JSON     bool   `help:"Print the summary as JSON."`
}

// Run imports, and returns when readers see all of it.
func (c *importOrdersCommand) Run(ctx context.Context, out *console) error {
	if err := c.writeFlags.check(); err != nil {
		return err
	}
	if err := c.resolveSecret(); err != nil {
		return err
	}
	return withShop(ctx, c.serverFlags, lagFlags{}, out, func(s *shop) error {
		source := onlineretail.Sample()
		if c.File != "-" {
			source = onlineretail.File(c.File)
		}
		if c.Rejected == "" {
			c.Rejected = onlineretail.RejectedPath(source.Name)
		}
		side, err := s.writeSide(c.writeFlags, nil)
		if err != nil {
			return err
		}
		models := s.models()
		result, err := s.importOrders(ctx, source, c.Rejected, side, models, out)
		if file := (*onlineretail.FileError)(nil); errors.As(err, &file) {
			return usageError{err}
		}
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(out.out, result.Summary)
		}
		sum := result.Summary
		fmt.Fprintf(out.out, "%d rows, %s in all:\n", sum.Rows, sum.Amount)
		fmt.Fprintf(out.out, "  sales        %7d rows  %14s  in %d orders\n", sum.Sales.Rows, sum.Sales.Amount, sum.Sales.Orders)
		fmt.Fprintf(out.out, "  returns      %7d rows  %14s\n", sum.Returns.Rows, sum.Returns.Amount)
		fmt.Fprintf(out.out, "  corrections  %7d rows  %14s\n", sum.Corrections.Rows, sum.Corrections.Amount)
		fmt.Fprintf(out.out, "  rejected     %7d rows  %14s\n", sum.Rejected.Rows, sum.Rejected.Amount)
		for _, reason := range slices.Sorted(maps.Keys(sum.Rejected.Reasons)) {
			fmt.Fprintf(out.out, "    %7d  %s\n", sum.Rejected.Reasons[reason], reason)
		}
		if sum.DoneBefore > 0 {
			fmt.Fprintf(out.out, "%d of these rows had been imported before; nothing was done twice.\n", sum.DoneBefore)
		}
		if sum.Rejected.Rows > 0 {
			fmt.Fprintf(out.out, "Rejected rows are in %s.\n", c.Rejected)
		}
		return nil
	})
}

// importOrders imports a file and waits until readers see all of it.
func (s *shop) importOrders(ctx context.Context, source onlineretail.Source, rejected string, side *writeSide, models *projector.Models, out *console) (onlineretail.Result, error) {
	location, err := time.LoadLocation(s.log.Info().TimeZone)
	if err != nil {
		return onlineretail.Result{}, fmt.Errorf("the shop's time zone: %w", err)
	}
	bar := newBar(out.err, "importing")
	defer bar.done()
	result, err := onlineretail.Import(es.WithMetadata(ctx, es.Metadata{Actor: "import"}), onlineretail.Options{
		Source: source, Commands: side.app, Executor: side.writer, Reader: s.log, Location: location, RejectedPath: rejected,
		Progress: func(p onlineretail.Progress) { bar.phase(string(p.Phase), p.Done, p.Total) },
	})
	if err != nil {
		return result, err
	}
	return result, awaitVisible(ctx, models, result.Position, func(reached int64) { bar.phase("catching up", reached, result.Position) })
}

// awaitVisible returns when every read model shows the log up to the position.
func awaitVisible(ctx context.Context, models *projector.Models, position int64, progress func(reached int64)) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		list, err := models.Status(ctx)
		if err == nil {
			reached := position
			for _, p := range list {
				if p.State == projector.Failed {
					return fmt.Errorf("read model %s stands still at an event that it cannot apply: see millrace projections", p.Name)
				}
				reached = min(reached, p.Position)
			}
			progress(reached)
			if reached >= position {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}
