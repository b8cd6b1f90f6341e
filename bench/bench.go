package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Bench is one thing that can be measured.
type Bench struct {
	// Name is what the bench is called on the command line.
	Name string
	// About says in a line what is measured against what.
	About string
	run   func(context.Context, *lab) ([]Figure, error)
	// length is how long it measures unless somebody says otherwise; 0 for defaultDuration.
	length time.Duration
}

// Benches returns all benches, in the order in which they run: those that share servers stand together.
func Benches() []Bench {
	return []Bench{
		{Name: "append-cold", About: "64 callers, a new stream a command; against one transaction a command", run: appendCold},
		{Name: "append-keyed", About: "the same with an idempotency key a command, recorded with its event", run: appendKeyed},
		{Name: "append-hot", About: "64 callers, one stream; against one transaction a command that locks the stream's row", run: appendHot},
		{Name: "append-rivals", About: "two processes that append to one stream; against one, with the same callers a process", run: appendRivals},
		{Name: "workers", About: "one, two and four workers on the same backlog, where work is waiting 10 ms an event for the store", run: workers},
		{Name: "idle-memory", About: "memory of an idle millrace up without its servers", run: idleMemory},
		{Name: "browse", About: "a list of 20 products over HTTP, from the cache and without it; against a plain handler writing the same bytes", run: browse},
		{Name: "visible", About: "from commit to visible in Redis and on the replica, at 2,000 events/s", run: visible},
		{Name: "live", About: "events/s that the one worker of a shop keeps up with, while orders come in as fast as they can", run: live},
		{Name: "flash-sale", About: "a flash sale over HTTP: carts, checkouts and payments, of one SKU and of many, by one api process and two", run: flashSale},
		{
			Name: "overload", About: "five times what an api process can do: what it takes on, how long that takes, and how soon the rest is refused; against the peak and " +
				"a tenth of it", run: overload, length: overloadDuration,
		},
		{Name: "import", About: "import of a year of invoices with everything running: time, catching up, memory", run: importOrders},
		{Name: "replay", About: "rebuild of all read models from a log of a million events; against a SELECT that decodes nothing", run: replay},
		{Name: "replay-busy", About: "commands at 2,000 events/s while all read models are rebuilt; against the same without", run: replayBusy},
	}
}

// Options say what to measure and with what.
type Options struct {
	// Names are the benches to run; none: all of them.
	Names []string
	// Binary is the millrace binary, run as "up" and other subcommands.
	Binary string
	// File is the CSV for the import, plain or gzipped; empty: the day that is shipped with the binary.
	File string
	// PostgresURL names a PostgreSQL server to append to instead of a private one. Its user has to be allowed to create
	// databases, which are dropped afterwards.
	PostgresURL string
	// Dir is where private servers keep their data while they run; it should be on a disk, not in memory. Empty: TMPDIR or
	// /var/tmp.
	Dir string
	// Duration is how long a bench measures that does not end by itself; 0 means 15 s, for overload 60 s.
	Duration time.Duration
	// Progress is told what happens; nil: nobody is.
	Progress io.Writer
	// Logger takes what the servers and parts have to say; nil means slog.Default().
	Logger *slog.Logger
}

// UnknownBenchError says that there is no bench of that name.
type UnknownBenchError struct{ Name string }

func (e *UnknownBenchError) Error() string {
	var known []string
	for _, b := range Benches() {
		known = append(known, b.Name)
	}
	return fmt.Sprintf("there is no bench %q; there are %s", e.Name, strings.Join(known, ", "))
}

// defaultDuration is how long a bench measures that does not end by itself.
const defaultDuration = 15 * time.Second

// minDuration leaves rounds in which something can be seen.
const minDuration = time.Second

// Check returns what is wrong with the options: an [UnknownBenchError], a duration that is too short, a file that is not
// there.
func (o Options) Check() error {
	for _, name := range o.Names {
		if !slices.ContainsFunc(Benches(), func(b Bench) bool { return b.Name == name }) {
			return &UnknownBenchError{Name: name}
		}
	}
	if o.Duration != 0 && o.Duration < minDuration {
		return fmt.Errorf("a bench has to measure for %s at least, not %s", minDuration, o.Duration)
	}
	if o.File != "" {
		if _, err := os.Stat(o.File); err != nil {
			return fmt.Errorf("the file to import: %w", err)
		}
	}
	return nil
}

func (o Options) withDefaults() Options {
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return o
}

// Run measures. The report holds the figures of the benches that ended before an error did.
func Run(ctx context.Context, o Options) (report Report, err error) {
	report.Figures = []Figure{}
	if err := o.Check(); err != nil {
		return report, err
	}
	l, err := openLab(o.withDefaults())
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, l.close(context.WithoutCancel(ctx))) }()
	for _, b := range Benches() {
		if len(o.Names) > 0 && !slices.Contains(o.Names, b.Name) {
			continue
		}
		l.say("%s: %s%s", b.Name, b.About, busyness())
		l.Duration = cmp.Or(o.Duration, b.length, defaultDuration)
		began := time.Now()
		figures, err := b.run(ctx, l)
		report.Figures = append(report.Figures, figures...)
		if err != nil {
			return report, fmt.Errorf("bench %s: %w", b.Name, err)
		}
		l.say("%s took %s", b.Name, time.Since(began).Round(time.Second))
	}
	return report, nil
}

// busyness says how busy the machine is already, where the system tells. Other work takes its share from few processes
// before it takes it from many, and so from the writer before the baselines.
func busyness() string {
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return ""
	}
	lastMinute, _, _ := strings.Cut(string(load), " ")
	return fmt.Sprintf(" (load of the last minute %s, %d CPUs)", lastMinute, runtime.NumCPU())
}
