package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/bench"
)

// saleFlags describe one flash sale. Without any of them the bench flash-sale runs those that it has targets for.
type saleFlags struct {
	Units       *int   `group:"sale" placeholder:"100" help:"Units that there are."`
	Buyers      *int   `group:"sale" placeholder:"1000" help:"Buyers, who want one unit each."`
	Concurrency *int   `group:"sale" placeholder:"64" help:"How many of them are under way at a time."`
	API         *int   `name:"api" group:"sale" placeholder:"1" help:"How many api processes serve them."`
	SKUs        *int   `name:"skus" group:"sale" placeholder:"1" help:"Over how many SKUs the units and the buyers are spread."`
	Chart       string `group:"sale" placeholder:"FILE.svg" help:"Draw throughput and latency over time, as .svg or .png."`
}

func (f saleFlags) given() bool {
	return f.Chart != "" || slices.ContainsFunc([]*int{f.Units, f.Buyers, f.Concurrency, f.API, f.SKUs}, func(n *int) bool { return n != nil })
}

const saleBench = "flash-sale"

// options returns the sale that the flags describe, or what is wrong with them.
func (f saleFlags) options(names []string) (bench.SaleOptions, error) {
	if len(names) != 1 || names[0] != saleBench {
		return bench.SaleOptions{}, fmt.Errorf("--units, --buyers, --concurrency, --api, --skus and --chart are for the bench %s alone", saleBench)
	}
	o := bench.SaleOptions{Chart: f.Chart}
	for _, field := range []struct {
		name  string
		given *int
		into  *int
	}{
		{"units", f.Units, &o.Units}, {"buyers", f.Buyers, &o.Buyers}, {"concurrency", f.Concurrency, &o.Concurrency},
		{"api", f.API, &o.APIs}, {"skus", f.SKUs, &o.SKUs},
	} {
		if field.given == nil {
			continue
		}
		if *field.given < 1 {
			return o, fmt.Errorf("--%s must be 1 or more, not %d", field.name, *field.given)
		}
		*field.into = *field.given
	}
	return o, o.Check()
}

// saleTable shows how a sale goes: a line that changes on a terminal, a line a second elsewhere.
type saleTable struct {
	w        io.Writer
	terminal bool
	begun    bool
}

// every is how often the table is to be told.
func (t *saleTable) every() time.Duration {
	if t.terminal {
		return 200 * time.Millisecond
	}
	return time.Second
}

const saleColumns = "%8s %8s %8s %8s %10s %10s %13s %9s\n"

func (t *saleTable) show(p bench.SaleProgress) {
	if !t.begun {
		t.begun = true
		fmt.Fprintf(t.w, saleColumns, "ELAPSED", "SOLD", "REFUSED", "FAILED", "CONFIRMED", "ORDERS/S", "CHECKOUT P50", "P99")
	} else if t.terminal {
		fmt.Fprint(t.w, "\x1b[A\r\x1b[K") // the line above, anew
	}
	fmt.Fprintf(t.w, saleColumns, seconds(p.Elapsed), strconv.Itoa(p.Sold), strconv.Itoa(p.Refused), strconv.Itoa(p.Failed), strconv.Itoa(p.Confirmed),
		strconv.FormatFloat(p.OrdersPerSecond, 'f', 0, 64), shortMilliseconds(p.P50), shortMilliseconds(p.P99))
}

func seconds(d time.Duration) string { return strconv.FormatFloat(d.Seconds(), 'f', 1, 64) + " s" }

func shortMilliseconds(d time.Duration) string {
	if d == 0 {
		return "-"
	}
	return strconv.FormatFloat(float64(d)/float64(time.Millisecond), 'f', 1, 64) + " ms"
}

// runSale runs one sale and prints what it came to.
func (c *benchCommand) runSale(ctx context.Context, out *console, o bench.Options) error {
	sale, err := c.options(c.Name)
	if err != nil {
		return usageError{err}
	}
	table := &saleTable{w: out.err, terminal: isTerminal(out.err)}
	sale.Watch, sale.Every = table.show, table.every()
	if c.Chart != "" { // not to be heard of when the sale is over
		f, err := os.OpenFile(c.Chart, os.O_CREATE|os.O_WRONLY, 0o666)
		if err != nil {
			return usageError{fmt.Errorf("--chart: %w", err)}
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("--chart: %w", err)
		}
	}
	report, runErr := bench.FlashSale(ctx, o, sale)
	if runErr != nil && len(report.Figures) == 0 {
		return runErr
	}
	if c.JSON {
		return errors.Join(printJSON(out.out, report), runErr)
	}
	return errors.Join(printSale(out.out, report), runErr)
}

func printSale(w io.Writer, r bench.Report) error {
	if err := r.WriteTable(w); err != nil || r.Sale == nil {
		return err
	}
	for _, p := range r.Sale.Problems {
		fmt.Fprintf(w, "%d times: %s\n", p.Count, strings.TrimSpace(p.Reason))
	}
	if len(r.Sale.Violations) == 0 {
		fmt.Fprintln(w, "Replaying the log: stock was never below zero, and what is sold is what pending and confirmed orders have.")
	}
	return nil
}
