package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/postgres"
	"github.com/millrace/millrace/processes/payments"
)

// paymentCommands is what an operator does with payments.
type paymentCommands struct {
	Parked paymentsParkedCommand `cmd:"" help:"List the payment tasks that were given up on."`
	Retry  paymentsRetryCommand  `cmd:"" help:"Have payment tasks that were given up on tried again, after a fix."`
}

// paymentsParkedCommand lists what is parked.
type paymentsParkedCommand struct {
	logFlags
	JSON bool `help:"Print JSON."`
}

// Run prints the list.
func (c *paymentsParkedCommand) Run(ctx context.Context, out *console) error {
	return withLog(ctx, c.logFlags, out, func(_ *postgres.Log, pool *pgxpool.Pool) error {
		list, err := payments.ListParked(ctx, pool)
		if err != nil {
			return err
		}
		if c.JSON {
			return printJSON(out.out, orEmpty(list))
		}
		return printParkedPayments(out.out, list)
	})
}

// paymentsRetryCommand has tasks tried again.
type paymentsRetryCommand struct {
	logFlags
	Task []string `arg:"" optional:"" help:"Tasks as millrace payments parked names them, each in quotes: 'capture 580729'."`
	All  bool     `help:"All that is parked."`
	JSON bool     `help:"Print what came of it as JSON."`
}

// retriedPayments is what came of it, for machines.
type retriedPayments struct {
	Retried   []string `json:"retried"`
	NotParked []string `json:"notParked"`
}

// Run has the tasks tried again, and prints which.
func (c *paymentsRetryCommand) Run(ctx context.Context, out *console) error {
	if c.All == (len(c.Task) > 0) {
		return usageError{errors.New("name tasks, or say --all")}
	}
	return withLog(ctx, c.logFlags, out, func(_ *postgres.Log, pool *pgxpool.Pool) error {
		tasks := c.Task
		if c.All {
			list, err := payments.ListParked(ctx, pool)
			if err != nil {
				return err
			}
			for _, p := range list {
				tasks = append(tasks, p.Task)
			}
		}
		retried, err := payments.RetryParked(ctx, pool, tasks)
		if err != nil {
			return err
		}
		slices.Sort(retried)
		var not []string
		if !c.All { // else another operator was quicker
			not = slices.DeleteFunc(slices.Clone(tasks), func(task string) bool { return slices.Contains(retried, task) })
		}
		if c.JSON {
			if err := printJSON(out.out, retriedPayments{Retried: orEmpty(retried), NotParked: orEmpty(not)}); err != nil {
				return err
			}
		} else {
			printRetriedPayments(out.out, retried, c.All)
		}
		if len(not) > 0 {
			return usageError{fmt.Errorf("not parked: %s; millrace payments parked lists what is", strings.Join(not, ", "))}
		}
		return nil
	})
}

func printRetriedPayments(w io.Writer, retried []string, all bool) {
	for _, task := range retried {
		fmt.Fprintln(w, task, "will be tried again")
	}
	if all && len(retried) == 0 {
		fmt.Fprintln(w, "nothing is parked")
	}
}

func printParkedPayments(w io.Writer, list []payments.Parked) error {
	if len(list) == 0 {
		_, err := fmt.Fprintln(w, "nothing is parked")
		return err
	}
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "TASK\tORDER\tATTEMPTS\tERROR")
	for _, p := range list {
		fmt.Fprintf(t, "%s\t%s\t%d\t%s\n", p.Task, p.Order, p.Attempts, p.Error)
	}
	return t.Flush()
}
