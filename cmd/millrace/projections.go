package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/postgres"
	"github.com/millrace/millrace/internal/projector"
)

// projectionsCommand lists the read models.
type projectionsCommand struct {
	serverFlags
	lagFlags
	JSON       bool           `help:"Print JSON; with --watch an object a line."`
	Partitions bool           `help:"List all partitions, not only those in which something is missing or amiss. JSON has all of them."`
	Watch      bool           `short:"w" help:"Go on until interrupted: in place on a terminal, one list below the other elsewhere."`
	Every      *time.Duration `placeholder:"TIME" help:"How often to look with --watch (default: 1s)."`
}

// Run prints the list, once or again and again.
func (c *projectionsCommand) Run(ctx context.Context, out *console) error {
	if err := c.lagFlags.check(); err != nil {
		return err
	}
	every := time.Second
	if c.Every != nil {
		every = *c.Every
		switch {
		case !c.Watch:
			return usageError{errors.New("--every is for --watch")}
		case every <= 0:
			return usageError{fmt.Errorf("--every must be above zero, not %s", every)}
		}
	}
	if c.Watch {
		return c.watch(ctx, out, every)
	}
	return withModels(ctx, c.serverFlags, c.lagFlags, out, func(models *projector.Models) error {
		list, err := models.Status(ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(out.out, list)
		}
		return printProjections(out.out, list, c.Partitions)
	})
}

// printProjections prints a line a read model and, below, a line a partition: each, or only those that somebody may have to look at.
func printProjections(w io.Writer, list []projector.Status, all bool) error {
	if err := printModels(w, list); err != nil {
		return err
	}
	partitions := partitionsOf(list)
	if !all {
		partitions = slices.DeleteFunc(partitions, func(p partition) bool { return !p.amiss() })
	}
	if len(partitions) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return printPartitions(w, partitions)
}

// printModels prints a line a read model.
func printModels(w io.Writer, list []projector.Status) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tGENERATION\tSTATUS\tPOSITION\tLAG\tSECONDS\tPARTITIONS\tWORKERS\tWANTED\tREBUILD")
	for _, p := range list {
		workers := map[string]int{}
		for _, partition := range p.Partitions {
			if partition.Worker != "" {
				workers[partition.Worker]++
			}
		}
		lag, seconds := lagOf(p.Lag, p.LagSeconds, p.LagUnknown)
		fmt.Fprintf(t, "%s\t%d\t%s\t%d\t%s\t%s\t%d\t%d\t%d\t%s\n", p.Name, p.Generation, p.State, p.Position, lag, seconds,
			len(p.Partitions), len(workers), p.WorkersWanted, rebuild(p.Rebuild))
	}
	return t.Flush()
}

// rebuild tells how far a generation has come that is being built.
func rebuild(r *projector.Rebuild) string {
	if r == nil {
		return "-"
	}
	return fmt.Sprintf("generation %d: %.0f%%, %s", r.Generation, r.Percent(), pace(r.Progress))
}

// partition is one of a read model.
type partition struct {
	model string
	projector.PartitionStatus
}

// amiss reports whether something is missing in the partition, or it is not known whether, or nobody keeps it, or not all of it.
func (p partition) amiss() bool {
	return p.Lag > 0 || p.LagUnknown || p.Worker == "" || trouble(p.PartitionStatus) != ""
}

func partitionsOf(list []projector.Status) []partition {
	var all []partition
	for _, p := range list {
		for _, s := range p.Partitions {
			all = append(all, partition{p.Name, s})
		}
	}
	return all
}

// printPartitions prints a line a partition.
func printPartitions(w io.Writer, list []partition) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tPARTITION\tPOSITION\tLAG\tSECONDS\tWORKER\tERROR")
	for _, p := range list {
		worker := p.Worker
		if worker == "" {
			worker = "-"
		}
		lag, seconds := lagOf(p.Lag, p.LagSeconds, p.LagUnknown)
		fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t%s\t%s\n", p.model, p.Number, p.Position, lag, seconds, worker, trouble(p.PartitionStatus))
	}
	return t.Flush()
}

// lagOf returns a lag as the lists show it: a question mark where a store did not tell how far it is.
func lagOf(events int64, seconds float64, unknown bool) (shownEvents, shownSeconds string) {
	if unknown {
		return "?", "?"
	}
	return strconv.FormatInt(events, 10), lagSeconds(seconds)
}

// lagSeconds is precise where that says something.
func lagSeconds(s float64) string {
	switch {
	case s == 0:
		return "0"
	case s < 10:
		return strconv.FormatFloat(s, 'f', 3, 64)
	}
	return strconv.FormatFloat(s, 'f', 1, 64)
}

func printJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

// toolPatience is how long a tool waits for the servers of a shop: somebody waits for the tool.
const toolPatience = 10 * time.Second

// toolConnections are those to PostgreSQL of a tool that reads the log.
const toolConnections = 4

// withLog runs a tool that needs nothing but the log and what is beside it in the primary.
func withLog(ctx context.Context, f logFlags, out *console, do func(*postgres.Log, *pgxpool.Pool) error) error {
	if _, err := f.resolve(); err != nil {
		return err
	}
	pool, err := openPool(f.DatabaseURL, toolConnections, "MILLRACE_DATABASE_URL", nil)
	if err != nil {
		return err
	}
	defer pool.Close()
	opening, opened := context.WithTimeout(ctx, toolPatience)
	defer opened()
	log, err := awaitLog(opening, pool, f.shopFlags, out.log)
	if err != nil {
		return err
	}
	return do(log, pool)
}

// withShop runs a tool on a shop and closes it.
func withShop(ctx context.Context, f serverFlags, lag lagFlags, out *console, do func(*shop) error) (err error) {
	opening, opened := context.WithTimeout(ctx, toolPatience)
	defer opened()
	s, err := openShop(opening, f, lag, out.log)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := s.close(); err == nil {
			err = closeErr
		}
	}()
	return do(s)
}
