package onlineretail

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/commands/commandtest"
	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/postgres"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// process is what one process that imports has for itself: nothing of it outlives stop.
type process struct {
	log    *postgres.Log
	writer *postgres.Writer
	stop   func()
}

// start starts a process on the environment's log. Its writer ends by itself after a number of commits, if that is not 0,
// as if the process had been killed.
func start(tb testing.TB, env *stacktest.Env, commits int) *process {
	tb.Helper()
	pool, err := pgxpool.New(tb.Context(), env.DatabaseURL)
	if err != nil {
		tb.Fatal(err)
	}
	log, err := postgres.OpenLog(tb.Context(), pool, commands.Codec())
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(tb.Context()))
	committed := 0
	w := postgres.NewWriter(log, postgres.WriterOptions{Categories: commands.Categories(), OnAppend: func([]es.Event) {
		if committed++; committed == commits {
			cancel()
		}
	}})
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	return &process{log: log, writer: w, stop: func() {
		cancel()
		if err := <-done; err != nil {
			tb.Errorf("the writer ended with %v", err)
		}
		pool.Close()
	}}
}

func (p *process) options(tb testing.TB, src Source) Options {
	return Options{Source: src, Commands: commandtest.New(tb).App, Executor: p.writer, Reader: p.log, Location: london(tb)}
}

func (p *process) events(tb testing.TB) []es.Event {
	tb.Helper()
	events, err := p.log.ReadAll(tb.Context(), 0, 1_000_000)
	if err != nil {
		tb.Fatal(err)
	}
	return events
}

// The sample day ends in the same log whether its import runs through or is killed in the middle again and again.
func TestSampleDaySurvivesBeingKilled(t *testing.T) {
	t.Parallel()
	whole := start(t, stacktest.New(t, stacktest.WithoutNATS()), 0)
	defer whole.stop()
	want, err := Import(t.Context(), whole.options(t, Sample()))
	if err != nil {
		t.Fatal(err)
	}
	if head, err := whole.log.Head(t.Context()); err != nil || head != want.Position {
		t.Errorf("the import ended at %d, the log at %d, %v", want.Position, head, err)
	}

	env := stacktest.New(t, stacktest.WithoutNATS())
	var got Result
	runs := 0
	for done := false; !done; runs++ {
		p := start(t, env, 3)
		o := p.options(t, Sample())
		o.Patience = time.Nanosecond
		o.ChunkEvents = 600 + 100*runs
		switch got, err = Import(t.Context(), o); {
		case err == nil:
			done = true
			wantSame(t, told(p.events(t)), told(whole.events(t)))
		case !errors.Is(err, es.ErrUnavailable):
			t.Fatal(err)
		}
		p.stop()
	}
	if runs < 4 {
		t.Errorf("the import was killed %d times only", runs-1)
	}
	got.Summary.DoneBefore = 0
	if got.Summary.String() != want.Summary.String() || got.Position != want.Position {
		t.Errorf("got  %s at %d\nwant %s at %d", got.Summary, got.Position, want.Summary, want.Position)
	}
}

// BenchmarkImport imports the whole data set, or the sample day where that is not to be found, and then imports it again.
func BenchmarkImport(b *testing.B) {
	src := Sample()
	if path, ok := fullFile(); ok {
		src = File(path)
	}
	for b.Loop() {
		p := start(b, stacktest.New(b, stacktest.WithoutNATS()), 0)
		o := p.options(b, src)
		begin := time.Now()
		var peak uint64
		o.Progress = func(Progress) {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.Sys-m.HeapReleased)
		}
		r, err := Import(b.Context(), o)
		if err != nil {
			b.Fatal(err)
		}
		took := time.Since(begin)
		b.ReportMetric(float64(r.Summary.Rows)/took.Seconds(), "rows/s")
		b.ReportMetric(float64(r.Position)/took.Seconds(), "events/s")
		b.ReportMetric(float64(r.Position), "events")
		b.ReportMetric(float64(peak)/(1<<20), "peak-MiB")
		begin = time.Now()
		again, err := Import(b.Context(), o)
		if err != nil || again.Position != r.Position {
			b.Fatalf("importing again ended at %d, not %d: %v", again.Position, r.Position, err)
		}
		b.ReportMetric(time.Since(begin).Seconds(), "again-s")
		p.stop()
	}
}
