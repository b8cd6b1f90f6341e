package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/millrace/millrace/internal/projector"
)

// projectionsCommand lists the read models.
type projectionsCommand struct {
	serverFlags
	JSON bool `help:"Print JSON."`
}

// Run prints the list.
func (c *projectionsCommand) Run(ctx context.Context, out *console) error {
	return withShop(ctx, c.serverFlags, out, func(s *shop) error {
		models, err := s.models()
		if err != nil {
			return err
		}
		list, err := models.Status(ctx)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(out.out, list)
		}
		return printProjections(out.out, list)
	})
}

func printProjections(w io.Writer, list []projector.Status) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tGENERATION\tSTATUS\tPOSITION\tLAG\tPARTITIONS\tWORKERS")
	for _, p := range list {
		workers := map[string]int{}
		for _, partition := range p.Partitions {
			if partition.Worker != "" {
				workers[partition.Worker]++
			}
		}
		fmt.Fprintf(t, "%s\t%d\t%s\t%d\t%d\t%d\t%d\n", p.Name, p.Generation, p.State, p.Position, p.Lag, len(p.Partitions), len(workers))
	}
	fmt.Fprintln(t, "\t\t\t\t\t\t")
	fmt.Fprintln(t, "NAME\tPARTITION\tPOSITION\tWORKER\tERROR\t\t")
	for _, p := range list {
		for _, partition := range p.Partitions {
			worker := partition.Worker
			if worker == "" {
				worker = "-"
			}
			fmt.Fprintf(t, "%s\t%d\t%d\t%s\t%s\t\t\n", p.Name, partition.Number, partition.Position, worker, trouble(partition))
		}
	}
	return t.Flush()
}

func printJSON(w io.Writer, value any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(value)
}

// withShop runs a tool on a shop and closes it.
func withShop(ctx context.Context, f serverFlags, out *console, do func(*shop) error) (err error) {
	s, err := openShop(ctx, f, out.log)
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
