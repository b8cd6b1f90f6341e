package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/migrations"
)

func TestMain(m *testing.M) {
	if isChild() {
		os.Exit(runChild())
	}
	stacktest.Main(m)
}

// The tests' own domain: a store of units, from which nobody may take more than there are.
type (
	put   struct{ N int }
	taken struct{ N int }
)

func (put) EventType() string   { return "units.put" }
func (taken) EventType() string { return "units.taken" }

var (
	units = es.NewKind("units", func(s int, e es.Fact) int {
		switch e := e.(type) {
		case put:
			return s + e.N
		case taken:
			return s - e.N
		}
		return s
	}).Snapshotted(1)
	errNotEnough = errors.New("not enough")
	testCodec    = es.NewCodec(put{}, taken{})
)

func putUnits(id string, n int) es.Command {
	s := units.Stream(id)
	return es.Command{Name: "put", Streams: []string{s.Name()}, Decide: func(d *es.Decision) error {
		if _, err := es.State(d, s); err != nil {
			return err
		}
		es.Append(d, s, put{n})
		return nil
	}}
}

// takeUnits names its stream only when it is decided, as commands do that find out late what they need.
func takeUnits(n int, ids ...string) es.Command {
	return es.Command{Name: "take", Decide: func(d *es.Decision) error {
		for _, id := range ids {
			have, err := es.State(d, units.Stream(id))
			if err != nil {
				return err
			}
			if have < n {
				return errNotEnough
			}
			es.Append(d, units.Stream(id), taken{n})
		}
		return nil
	}}
}

type bundle struct {
	env  *stacktest.Env
	pool *pgxpool.Pool
	log  *Log
}

func setup(t *testing.T, opts ...stacktest.Option) *bundle {
	t.Helper()
	env := stacktest.New(t, append(opts, stacktest.WithoutNATS())...)
	pool := connect(t, env.DatabaseURL)
	log, err := OpenLog(t.Context(), pool, testCodec)
	if err != nil {
		t.Fatal(err)
	}
	return &bundle{env: env, pool: pool, log: log}
}

func connect(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	return connectUpTo(t, url, 0)
}

// connectUpTo bounds the connections; 0 is the pool's own bound. One connection has its statements prepared when answers begin to be lost.
func connectUpTo(t *testing.T, url string, connections int32) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(config.ConnConfig.RuntimeParams, SessionSettings)
	if connections > 0 {
		config.MaxConns = connections
	}
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// writer starts a writer of its own on the bundle's log, as another process would have.
func (b *bundle) writer(t *testing.T, pool *pgxpool.Pool, change ...func(*WriterOptions)) *Writer {
	t.Helper()
	o := WriterOptions{Categories: []*es.Category{units.Category}}
	for _, c := range change {
		c(&o)
	}
	w := NewWriter(b.log.On(pool), o)
	run(t, w)
	return w
}

// run lets the writer work until the test ends.
func run(t *testing.T, w *Writer) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the writer ended with %v", err)
		}
	})
}

func execute(t *testing.T, w *Writer, c es.Command) es.Outcome {
	t.Helper()
	outcome, err := w.Execute(t.Context(), c)
	if err != nil {
		t.Fatalf("%s: %v", c.Name, err)
	}
	return outcome
}

// readWhole reads the whole log and proves that positions, versions, ordinals, partitions and times are in order.
func (b *bundle) readWhole(t *testing.T) []es.Event {
	t.Helper()
	events, err := b.log.ReadAll(t.Context(), 0, 1_000_000)
	if err != nil {
		t.Fatal(err)
	}
	versions, ordinals := map[string]int64{}, map[int]int64{}
	for i, e := range events {
		versions[e.Stream]++
		ordinals[e.Partition]++
		switch {
		case e.Position != int64(i)+1:
			t.Fatalf("event %d has position %d", i+1, e.Position)
		case e.Version != versions[e.Stream]:
			t.Fatalf("position %d: %s has version %d, want %d", e.Position, e.Stream, e.Version, versions[e.Stream])
		case e.Partition != es.PartitionOf(e.Stream, b.log.Info().Partitions):
			t.Fatalf("position %d: %s is in partition %d", e.Position, e.Stream, e.Partition)
		case e.Ordinal != ordinals[e.Partition]:
			t.Fatalf("position %d: ordinal %d of partition %d, want %d", e.Position, e.Ordinal, e.Partition, ordinals[e.Partition])
		case i > 0 && e.RecordedAt.Before(events[i-1].RecordedAt):
			t.Fatalf("position %d was recorded before its predecessor", e.Position)
		}
	}
	return events
}

func (b *bundle) units(t *testing.T, id string) int {
	t.Helper()
	n, _, err := es.Load(t.Context(), b.log, units.Stream(id))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// holds compares what streams hold.
func (b *bundle) holds(t *testing.T, want map[string]int) {
	t.Helper()
	for id, n := range want {
		if got := b.units(t, id); got != n {
			t.Errorf("%s holds %d units, want %d", id, got, n)
		}
	}
}

// readings returns how often the writer's loader has read.
func readings(w *Writer) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.loads
}

func TestManyCallersWriteOneGaplessLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.writer(t, b.pool)
	const callers, commands = 32, 20
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for i := range commands {
				if _, err := w.Execute(t.Context(), putUnits(fmt.Sprint((caller*i)%40), 1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := len(b.readWhole(t)); n != callers*commands {
		t.Fatalf("the log has %d events, want %d", n, callers*commands)
	}
}

func TestNoMoreIsTakenThanThereIs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	writers := []*Writer{b.writer(t, b.pool), b.writer(t, connect(t, b.env.DatabaseURL)), b.writer(t, connect(t, b.env.DatabaseURL))}
	execute(t, writers[0], putUnits("hot", 100))
	var sold, refused atomic.Int64
	var wg sync.WaitGroup
	for i := range 240 {
		wg.Go(func() {
			switch _, err := writers[i%len(writers)].Execute(t.Context(), takeUnits(1, "hot")); {
			case err == nil:
				sold.Add(1)
			case errors.Is(err, errNotEnough):
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	b.readWhole(t)
	if sold.Load() != 100 || refused.Load() != 140 || b.units(t, "hot") != 0 {
		t.Fatalf("sold %d, refused %d, left %d; want 100, 140, 0", sold.Load(), refused.Load(), b.units(t, "hot"))
	}
}

func TestACommandOverSeveralStreamsIsAllOrNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.writer(t, b.pool)
	execute(t, w, putUnits("full", 5))
	if _, err := w.Execute(t.Context(), takeUnits(3, "full", "empty")); !errors.Is(err, errNotEnough) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if n := b.units(t, "full"); n != 5 {
		t.Fatalf("a refused command left %d of 5 units", n)
	}
}

func TestExecuteAllKeepsOrderAndAnswersEach(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.writer(t, b.pool, func(o *WriterOptions) { o.MaxBatchEvents = 3 })
	var commands []es.Command
	for range 10 {
		commands = append(commands, putUnits("a", 1), takeUnits(2, "a"), putUnits("b", 1))
	}
	outcomes, errs := w.ExecuteAll(t.Context(), commands)
	position := int64(0)
	for i := range commands {
		wantRefusal := i%6 == 1 // one unit is there at every other turn
		if errors.Is(errs[i], errNotEnough) != wantRefusal {
			t.Fatalf("command %d: got %v", i, errs[i])
		}
		if errs[i] == nil && outcomes[i].Position <= position {
			t.Fatalf("command %d has position %d behind %d", i, outcomes[i].Position, position)
		}
		if errs[i] == nil {
			position = outcomes[i].Position
		}
	}
	b.readWhole(t)
}

// A process that remembers "sold out" must not refuse for ever after another has received stock.
func TestARefusalIsGivenOnCurrentStatesOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second := b.writer(t, b.pool), b.writer(t, connect(t, b.env.DatabaseURL))
	if _, err := first.Execute(t.Context(), takeUnits(1, "x")); !errors.Is(err, errNotEnough) {
		t.Fatalf("got %v, want a refusal", err)
	}
	execute(t, second, putUnits("x", 1))
	execute(t, first, takeUnits(1, "x"))
	if _, err := second.Execute(t.Context(), takeUnits(1, "x")); !errors.Is(err, errNotEnough) {
		t.Fatalf("got %v, want a refusal", err)
	}
}

// A dry run reads what it lacks, tells what memory says of it, which may be old, and leaves nothing.
func TestADryRunLeavesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, second := b.writer(t, b.pool), b.writer(t, connect(t, b.env.DatabaseURL))
	execute(t, first, putUnits("x", 1))
	for _, w := range []*Writer{first, second} {
		for range 2 {
			if err := w.DryRun(t.Context(), takeUnits(1, "x")); err != nil {
				t.Fatalf("got %v, want no refusal", err)
			}
		}
	}
	if got := first.Head(); got != 1 {
		t.Fatalf("the log ends at %d, want 1", got)
	}
	execute(t, first, takeUnits(1, "x"))
	if err := first.DryRun(t.Context(), takeUnits(1, "x")); !errors.Is(err, errNotEnough) {
		t.Fatalf("got %v, want a refusal", err)
	}
	if err := second.DryRun(t.Context(), takeUnits(1, "x")); err != nil {
		t.Fatalf("got %v: it has not heard of the other", err)
	}
	if _, err := second.Execute(t.Context(), takeUnits(1, "x")); !errors.Is(err, errNotEnough) {
		t.Fatalf("got %v, want a refusal", err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := second.DryRun(ended, takeUnits(1, "never read")); !errors.Is(err, es.ErrUnavailable) || !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v, want that nobody waits", err)
	}
	b.readWhole(t)
}

func TestOneCommandThatCannotBeStoredFailsAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.writer(t, b.pool)
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			id := fmt.Sprint(i)
			if i == 7 {
				id = "nul\x00byte" // PostgreSQL's text cannot hold it
			}
			_, err := w.Execute(t.Context(), withKey(es.Command{Name: "put", Decide: func(d *es.Decision) error {
				es.Minted(d, units.Stream(id))
				es.Append(d, units.Stream(id), put{1})
				return nil
			}}, fmt.Sprint("key ", i), "request"))
			if (err != nil) != (i == 7) {
				t.Errorf("command %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if n := len(b.readWhole(t)); n != 19 {
		t.Fatalf("the log has %d events, want 19", n)
	}
	if outcome := execute(t, w, withKey(takeUnits(1, "3", "13"), "key 7", "request")); outcome.Replayed || outcome.Position != 21 {
		t.Fatalf("with the key of the one that could not be stored a command ended with %+v", outcome)
	}
}

func TestStreamsAreFoundAcrossRanges(t *testing.T) {
	t.Parallel()
	b := setup(t, stacktest.WithSettings(migrations.Settings{Currency: "GBP", TimeZone: "Europe/London", RangeSize: 50}))
	w := b.writer(t, b.pool, func(o *WriterOptions) { o.CachedStreams = 2 }) // so that nearly every state is read
	total := map[string]int{}
	for range 300 {
		id := fmt.Sprint(rand.IntN(9))
		execute(t, w, putUnits(id, 1))
		total[id]++
	}
	if _, err := b.pool.Exec(t.Context(), `SELECT close_event_ranges()`); err != nil {
		t.Fatal(err)
	}
	var closed int
	if err := b.pool.QueryRow(t.Context(), `SELECT count(*) FROM event_ranges WHERE closed`).Scan(&closed); err != nil || closed < 5 {
		t.Fatalf("%d ranges are closed (%v), want at least 5", closed, err)
	}
	b.holds(t, total)
	b.readWhole(t)
}

// What a stream costs to find must not grow with the log, also before anything is known of the distribution of what is in it.
func TestStreamsAreFoundByTheirIndexAlone(t *testing.T) {
	t.Parallel()
	const events, streams = 3000, 200
	b := setup(t)
	if _, err := b.pool.Exec(t.Context(), `ALTER TABLE events_0000000000000000001 SET (autovacuum_enabled = off)`); err != nil {
		t.Fatal(err)
	}
	w := b.writer(t, b.pool)
	commands := make([]es.Command, events)
	for i := range commands {
		commands[i] = putUnits(fmt.Sprint(i), 1)
	}
	_, errs := w.ExecuteAll(t.Context(), commands)
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	var names []string
	for i := range streams {
		names = append(names, units.Stream(fmt.Sprint(i)).Name())
	}
	behind := make([]int64, streams)
	for query, args := range map[string][]any{
		streamQuery: {names, behind, nil},
		loadQuery:   {names, behind, behind, pageEvents},
	} {
		var plan []string
		batch := &pgx.Batch{}
		batch.Queue(withoutBitmaps)
		batch.Queue(`EXPLAIN `+query, args...).Query(func(rows pgx.Rows) (err error) {
			plan, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		})
		if err := b.pool.SendBatch(t.Context(), batch).Close(); err != nil {
			t.Fatal(err)
		}
		if text := strings.Join(plan, "\n"); !strings.Contains(text, "events_0000000000000000001_stream_version_idx") ||
			strings.Contains(text, "events_0000000000000000001_pkey") {
			t.Errorf("the plan is\n%s", text)
		}
	}
}

func TestTheLogRefusesToBeChanged(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.writer(t, b.pool)
	execute(t, w, putUnits("a", 1))
	for _, sql := range []string{
		`UPDATE events SET data = '{}'`, `DELETE FROM events`, `TRUNCATE events`,
		`UPDATE events_0000000000000000001 SET data = '{}'`, `DELETE FROM events_0000000000000000001`,
	} {
		if _, err := b.pool.Exec(t.Context(), sql); err == nil {
			t.Errorf("%s was allowed", sql)
		}
	}
	b.readWhole(t)
}

func TestExecuteEndsWithItsContext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.writer(t, b.pool)
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if _, err := w.Execute(ctx, putUnits("a", 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %v, want the context's error", err)
	}
}
