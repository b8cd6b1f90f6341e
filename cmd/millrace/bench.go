package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime/pprof"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/bench"
)

// benchCommand measures.
type benchCommand struct {
	Name       []string       `arg:"" optional:"" help:"Benches to run (default: all)."`
	JSON       bool           `help:"Print JSON: one document, with an object for each figure."`
	File       string         `env:"MILLRACE_BENCH_FILE" placeholder:"CSV" help:"What to import, CSV or gzipped CSV; - for the day that is shipped (default: the whole data set where it lies beside the checkout, ../shared/data/online-retail.csv.gz)."`
	Duration   *time.Duration `placeholder:"15s" help:"How long a bench measures that does not end by itself (default: 15s, for overload 60s)."`
	Postgres   string         `env:"MILLRACE_BENCH_POSTGRES" placeholder:"URL" help:"Append to this PostgreSQL server instead of a private one; databases are made there and dropped."`
	Dir        string         `type:"existingdir" placeholder:"DIR" help:"Where private servers keep their data while they run: a disk, not memory (default: TMPDIR, else /var/tmp)."`
	CPUProfile string         `name:"cpuprofile" placeholder:"FILE" help:"Write a CPU profile of this process, for go tool pprof."`

	saleFlags
}

// Help lists the benches.
func (benchCommand) Help() string {
	var list strings.Builder
	for _, b := range bench.Benches() {
		fmt.Fprintf(&list, "%s: %s.\n\n", b.Name, b.About)
	}
	return strings.TrimSpace(list.String())
}

// benchPlainCommand is what "bench browse" compares the API with: a handler that writes what it was given.
type benchPlainCommand struct{}

// Run serves until the process is told to stop.
func (benchPlainCommand) Run(ctx context.Context, out *console) error {
	return bench.ServePlain(ctx, os.Stdin, out.out)
}

// wholeFile is where the whole data set lies beside a checkout; it is too large to be shipped.
const wholeFile = "../shared/data/online-retail.csv.gz"

// Run measures and prints the figures. A target that is missed is in what it prints, and no error.
func (c *benchCommand) Run(ctx context.Context, out *console) (err error) {
	binary, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program's own file: %w", err)
	}
	o := bench.Options{
		Names: c.Name, Binary: binary, File: c.file(), PostgresURL: c.Postgres, Dir: c.Dir, Progress: out.err, Logger: out.log,
	}
	if c.Duration != nil {
		if *c.Duration == 0 { // which stands for as long as each measures otherwise
			return usageError{errors.New("--duration must be above zero")}
		}
		o.Duration = *c.Duration
	}
	if err := o.Check(); err != nil {
		return usageError{err}
	}
	if c.CPUProfile != "" {
		stop, profileErr := profile(c.CPUProfile)
		if profileErr != nil {
			return usageError{profileErr}
		}
		defer func() { err = errors.Join(err, stop()) }()
	}
	// The writer that is measured in this process collects its garbage as an api's does.
	collecting, stop := context.WithCancel(ctx)
	var garbage sync.WaitGroup
	garbage.Go(func() { _ = collectGarbage(collecting) }) // it has no errors
	defer garbage.Wait()
	defer stop()
	if c.given() {
		return c.runSale(ctx, out, o)
	}
	report, runErr := bench.Run(ctx, o)
	if runErr != nil && len(report.Figures) == 0 {
		return runErr
	}
	if c.JSON {
		return errors.Join(printJSON(out.out, report), runErr)
	}
	return errors.Join(report.WriteTable(out.out), runErr)
}

// file returns the path of what is imported, empty for the shipped sample.
func (c *benchCommand) file() string {
	switch c.File {
	case "-":
		return ""
	case "":
		if _, err := os.Stat(wholeFile); errors.Is(err, fs.ErrNotExist) {
			return ""
		}
		return wholeFile
	}
	return c.File
}

// profile writes a CPU profile until stop is called.
func profile(file string) (stop func() error, err error) {
	f, err := os.Create(file)
	if err != nil {
		return nil, fmt.Errorf("--cpuprofile: %w", err)
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("--cpuprofile: %w", err), f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}
