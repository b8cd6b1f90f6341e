package projector_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

func TestWorkerFoldsBothStores(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(5_000, 40) // before the worker comes
	f.worker("one")
	m := f.models()
	f.expect(m)
	for range 20 { // while it is there
		f.fill(100, 60)
	}
	f.expect(m)
}

// owners returns the number of partitions of each worker whose lease has not run out.
func (f *fixture) owners() map[string]int {
	f.t.Helper()
	rows, err := f.pool.Query(f.t.Context(), `SELECT worker, count(*) FROM leases WHERE worker IS NOT NULL AND expires_at > now() GROUP BY worker`)
	must(f.t, err)
	owners := make(map[string]int)
	var worker string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&worker, &n}, func() error {
		owners[worker] = n
		return nil
	})
	must(f.t, err)
	return owners
}

func (f *fixture) sharedAs(want ...int) func() bool {
	return func() bool {
		var have []int
		for _, n := range f.owners() {
			have = append(have, n)
		}
		slices.Sort(have)
		slices.Sort(want)
		return slices.Equal(have, want)
	}
}

// The bounds are those that operators are promised; the servers of a test are slower than theirs at times.
const patience = 30 * time.Second

func TestWorkersShareThePartitions(t *testing.T) {
	t.Parallel()
	f := setup(t)
	m := f.models()
	f.worker("a")
	eventually(t, patience, "the first worker has everything", f.sharedAs(16))
	began := time.Now()
	stopB := f.worker("b")
	eventually(t, patience, "two share", f.sharedAs(8, 8))
	t.Logf("joined after %v", time.Since(began))
	f.fill(1_000, 50)
	f.worker("c")
	eventually(t, patience, "three share", f.sharedAs(6, 5, 5))
	f.fill(1_000, 50)
	stopB()
	if f.owners()["b"] != 0 {
		t.Error("a worker that has left still has partitions")
	}
	began = time.Now()
	eventually(t, patience, "two share what the third has left", f.sharedAs(8, 8))
	t.Logf("handed over after %v", time.Since(began))
	f.fill(1_000, 50)
	f.expect(m)
}

func TestMoreWorkersThanPartitions(t *testing.T) {
	t.Parallel()
	f := setup(t)
	m := f.models()
	want := make([]int, 16)
	for i := range 18 {
		f.worker(fmt.Sprintf("w%02d", i))
	}
	for i := range want {
		want[i] = 1
	}
	eventually(t, 2*patience, "every partition has a worker of its own", f.sharedAs(want...))
	f.fill(500, 50)
	f.expect(m)
}

func TestTwoWorkersOnEveryPartition(t *testing.T) {
	t.Parallel()
	f := setup(t)
	m := f.models()
	// Two workers of one name believe, both of them, that they hold every lease.
	f.worker("twin")
	f.worker("twin")
	for range 60 {
		f.fill(50, 30)
	}
	f.expect(m)
	differences, err := projector.Verify(t.Context(), f.replayOptions())
	must(t, err)
	if len(differences) > 0 {
		t.Errorf("differences: %+v", differences)
	}
}

func TestVersionsSideBySide(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(3_000, 30)
	f.worker("old")
	old := f.models()
	f.expect(old)
	next := tallyProjection(f.info, 2)
	apply, begun, goOn := next.Postgres.Apply, make(chan struct{}), make(chan struct{})
	var once sync.Once
	next.Postgres.Apply = func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
		if slices.ContainsFunc(events, func(e es.Event) bool { return e.Stream == "tally-0" }) { // its partition is late
			once.Do(func() { close(begun) })
			select {
			case <-goOn:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return apply(ctx, tx, events)
	}
	fresh := f.models(next)
	if err := fresh.Ready(t.Context()); !errors.Is(err, projector.ErrStale) {
		t.Errorf("before anything was built: %v", err)
	}
	f.worker("new", next)
	await(t, "the new version is being built", begun)
	f.fill(500, 30)
	f.expect(old)
	if err := fresh.Ready(t.Context()); !errors.Is(err, projector.ErrStale) {
		t.Errorf("in the middle of the build: %v", err)
	}
	if _, err := f.row(fresh, 0, "tally-1"); !errors.Is(err, projector.ErrStale) {
		t.Errorf("a reader of the new version gets %v", err)
	}
	close(goOn)
	eventually(t, patience, "the new version is built", func() bool { return fresh.Ready(t.Context()) == nil })
	f.fill(1_000, 30)
	f.expect(fresh)
	f.expect(old)
}

func TestGenerationOfAnotherEpochIsSetAside(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(300, 10)
	stop := f.worker("before")
	f.expect(f.models())
	stop()
	_, err := f.pool.Exec(t.Context(), `UPDATE log SET epoch = epoch + 1`) // as a restore does
	must(t, err)
	g := setupAgain(f)
	m := g.models()
	g.worker("after")
	g.expect(m)
	status, err := m.Status(t.Context())
	must(t, err)
	if status[0].Generation != 2 {
		t.Errorf("generation %d is live, want 2", status[0].Generation)
	}
	// Processes that have slept over it leave what is live now alone.
	const want = "the log is another one, or in another epoch, than when this process started"
	asleep, err := projector.NewWorker(f.workerOptions("asleep"))
	must(t, err)
	if err := asleep.Run(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a worker of the epoch before: %v", err)
	}
	if _, err := projector.Replay(t.Context(), f.replayOptions()); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a replay of the epoch before: %v", err)
	}
	g.fill(100, 10)
	g.expect(m)
	if status, err = m.Status(t.Context()); err != nil || status[0].Generation != 2 {
		t.Errorf("then generation %d is live, want 2; %v", status[0].Generation, err)
	}
}

func TestMistakesInProjectionsAreNamed(t *testing.T) {
	t.Parallel()
	apply := &projector.Postgres{Apply: func(context.Context, *projector.Tx, []esEvent) error { return nil }}
	good := projector.Projection{Name: "good", Version: 1, Events: []string{"x"}, Postgres: apply}
	for name, c := range map[string]struct {
		change func(*projector.Projection)
		want   string
	}{
		"name":    {func(p *projector.Projection) { p.Name = "Bad-Name" }, `projector: projection name "Bad-Name": lower-case letters and underscores only`},
		"version": {func(p *projector.Projection) { p.Version = 0 }, "projector: projection good: version 0 is below 1"},
		"events":  {func(p *projector.Projection) { p.Events = nil }, "projector: projection good wants no events"},
		"stores":  {func(p *projector.Projection) { p.Postgres = nil }, "projector: projection good has no store"},
		"apply":   {func(p *projector.Projection) { p.Postgres = &projector.Postgres{} }, "projector: projection good has tables and no Apply"},
	} {
		t.Run(name, func(t *testing.T) {
			p := good
			c.change(&p)
			_, err := projector.NewWorker(projector.WorkerOptions{Projections: []projector.Projection{p}})
			if err == nil || err.Error() != c.want {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
	_, err := projector.NewModels(projector.ModelsOptions{Projections: []projector.Projection{good, good}})
	if want := "projector: two projections are named good"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
