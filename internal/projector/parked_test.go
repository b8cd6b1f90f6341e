package projector_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// wantBefore says what the model has to show of a stream that is parked.
func (f *fixture) wantBefore(stream string, at tally) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sums[stream] = at
}

// awaitParked waits until the stores go on without what is parked at the position, and returns the list.
func (f *fixture) awaitParked(m *projector.Models, position int64) []projector.ParkedEvent {
	f.t.Helper()
	var o projector.Outcome
	eventually(f.t, 2*patience, "what was asked for has been done", func() bool {
		var err error
		o, err = m.Outcome(f.t.Context(), "tally", position)
		must(f.t, err)
		return !o.Pending
	})
	if o.Stopped != "" {
		f.t.Fatalf("position %d still stops its partition: %s", position, o.Stopped)
	}
	return o.Parked
}

// awaitDocument waits until a stream's document is as it has to be; Redis may be building it still.
func (f *fixture) awaitDocument(m *projector.Models, stream string, want tally) {
	f.t.Helper()
	eventually(f.t, patience, "the document is as it has to be", func() bool {
		d := f.document(m, 0, stream)
		return d != nil && *d == want
	})
}

// expectWhole waits until readers see that nothing is parked any more, and compares. A retry comes behind the position that readers ask
// for: replicas show it when they hear of it.
func (f *fixture) expectWhole(m *projector.Models) {
	f.t.Helper()
	f.mu.Lock()
	head, want := f.head, maps.Clone(f.sums)
	f.mu.Unlock()
	var rows map[string]tally
	eventually(f.t, 2*patience, "every replica shows what was parked", func() bool {
		for range len(f.replicas) + 1 {
			var err error
			if rows, err = f.rows(m, head); err != nil && !errors.Is(err, projector.ErrStale) {
				f.t.Fatal(err)
			} else if err != nil || !maps.Equal(rows, want) {
				return false
			}
		}
		return true
	})
	for stream := range want {
		f.awaitDocument(m, stream, want[stream])
	}
	f.expect(m)
}

// awaitStanding waits until a number of stores stand still at the position.
func (f *fixture) awaitStanding(position int64, stores int) {
	f.t.Helper()
	eventually(f.t, 2*patience, "the stores stand still", func() bool {
		var n int
		must(f.t, f.pool.QueryRow(f.t.Context(), `SELECT count(*) FROM projection_failures WHERE position = $1`, position).Scan(&n))
		return n == stores
	})
}

func TestParkAndRetry(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.poison(true)
	f.worker("one")
	m := f.models()
	f.fill(1_000, 40)
	f.append("tally-bad", added{N: 1})
	before := f.sums["tally-bad"]
	bad := f.append("tally-bad", added{N: 2, Poison: true})
	f.append("tally-bad", added{N: 3})
	f.fill(1_000, 40)
	f.awaitStanding(bad, 2)
	must(t, m.Park(t.Context(), "tally", bad))
	list := f.awaitParked(m, bad)
	if len(list) != 2 || list[0].Store != "postgres" || list[1].Store != "redis" || list[0].Position != bad || list[0].Stream != "tally-bad" ||
		list[0].Type != "tally.added" || list[0].Error != "it is poison" || list[0].Waiting != 1 || list[0].Generation != 1 {
		t.Errorf("the list is %+v", list)
	}
	later := f.append("tally-bad", added{N: 4})
	last := f.fill(100, 40)
	whole := f.sums["tally-bad"]
	f.wantBefore("tally-bad", before)
	rows, err := f.rows(m, last) // a list is served
	must(t, err)
	if rows["tally-bad"] != before {
		t.Errorf("the parked stream's row is %+v, want %+v", rows["tally-bad"], before)
	}
	f.awaitDocument(m, "tally-bad", before)
	// One stream alone is refused where it would have to show more, at once, and only there.
	began := time.Now()
	_, err = f.row(m, last, "tally-bad")
	parked, ok := errors.AsType[*projector.ParkedError](err)
	if !ok || parked.Position != bad || !errors.Is(err, projector.ErrStale) {
		t.Errorf("reading what is parked: %v", err)
	}
	if f.document(m, last, "tally-bad") != nil {
		t.Error("a document is read that does not show what it was asked for")
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("the refusal took %v", took)
	}
	for _, position := range []int64{bad - 1, 0} {
		if row, err := f.row(m, position, "tally-bad"); err != nil || row != before {
			t.Errorf("at position %d: %+v, %v", position, row, err)
		}
		if d := f.document(m, position, "tally-bad"); d == nil || *d != before {
			t.Errorf("the document at position %d: %+v", position, d)
		}
	}
	status, err := m.Status(t.Context())
	must(t, err)
	if part := status[0].Partitions[es.PartitionOf("tally-bad", 16)]; part.Parked != 1 || part.Error != "" {
		t.Errorf("the status of the partition is %+v", part)
	}
	f.verified() // it is parked, not different
	_, err = f.pool.Exec(t.Context(), `SELECT move_checkpoints('tally', 1, 'postgres', ARRAY[c.partition], ARRAY[c.position], ARRAY[c.position])
		FROM checkpoints c WHERE held IS NOT NULL AND store = 'postgres'`)
	if err == nil || !strings.Contains(err.Error(), "MR001") {
		t.Errorf("a worker that knows nothing of parked streams moves the checkpoint: %v", err)
	}

	// A retry before the fix leaves it parked, with the new attempt on the list.
	must(t, m.Retry(t.Context(), "tally", bad))
	list = f.awaitParked(m, bad)
	if len(list) != 2 || list[0].Attempts < 2 || list[1].Attempts < 2 {
		t.Errorf("after another attempt the list is %+v", list)
	}
	f.fill(100, 40)
	f.poison(false)
	must(t, m.Retry(t.Context(), "tally", bad))
	if list = f.awaitParked(m, bad); len(list) != 0 {
		t.Errorf("after the fix the list is %+v", list)
	}
	f.wantBefore("tally-bad", whole)
	eventually(t, patience, "a read at a position is answered again", func() bool { // replicas come behind
		row, err := f.row(m, later, "tally-bad")
		return err == nil && row == whole
	})
	f.append("tally-bad", added{N: 5}) // it flows again
	f.expectWhole(m)
	f.verified()
}

func TestARetryStopsAtTheNextPoison(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.poison(true)
	f.worker("one")
	m := f.models()
	f.append("tally-bad", added{N: 1})
	first := f.append("tally-bad", added{N: 2, Poison: true})
	f.appendAll(func(add func(string, es.Fact)) {
		for range 2_300 { // several batches
			add("tally-bad", added{N: 3})
			add("tally-good", added{N: 3})
		}
	})
	before := f.sums["tally-bad"]
	second := f.append("tally-bad", added{N: 4, Poison: true})
	f.append("tally-bad", added{N: 5})
	f.awaitStanding(first, 2)
	must(t, m.Park(t.Context(), "tally", first))
	f.awaitParked(m, first)
	err := m.Park(t.Context(), "tally", second)
	if want := fmt.Sprintf("position %d waits in tally behind position %d of its stream, which is parked: retry that one", second, first); err == nil || err.Error() != want {
		t.Errorf("parking an event that waits: %v", err)
	}
	f.poisonOnly(second)
	must(t, m.Retry(t.Context(), "tally", first))
	list := f.awaitParked(m, second)
	if len(list) != 2 || list[0].Position != second || list[1].Position != second || list[0].Waiting != 1 {
		t.Fatalf("the list is %+v", list)
	}
	whole := f.sums["tally-bad"]
	f.wantBefore("tally-bad", before)
	eventually(t, patience, "the row shows what was applied", func() bool { // replicas come behind
		row, err := f.row(m, 0, "tally-bad")
		must(t, err)
		return row == before
	})
	f.awaitDocument(m, "tally-bad", before)
	f.verified()
	f.poison(false)
	must(t, m.Retry(t.Context(), "tally", second))
	f.awaitParked(m, second)
	f.wantBefore("tally-bad", whole)
	f.expectWhole(m)
}

// A partition that stands still is tried again at once when somebody asks for it, whatever the pauses have grown to.
func TestRetryDoesNotWait(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.poison(true)
	f.worker("one")
	m := f.models()
	bad := f.append("tally-bad", added{N: 1, Poison: true})
	f.awaitStanding(bad, 2)
	_, err := f.pool.Exec(t.Context(), `UPDATE projection_failures SET attempts = 1000`) // the next pause is the longest
	must(t, err)
	must(t, m.Retry(t.Context(), "tally", bad))
	eventually(t, patience, "it has been tried", func() bool {
		var n int
		must(t, f.pool.QueryRow(t.Context(), `SELECT count(*) FROM projection_failures WHERE attempts > 1000`).Scan(&n))
		return n == 2
	})
	f.poison(false)
	began := time.Now()
	must(t, m.Retry(t.Context(), "tally", bad))
	f.expect(m)
	if took := time.Since(began); took > 10*time.Second { // three quarters of the pause are 22 s
		t.Errorf("it took %v", took)
	}
}

func TestMistakesOfOperators(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.poison(true)
	f.worker("one")
	m := f.models()
	f.fill(10, 5)
	f.expect(m)
	check := func(err error, want string) {
		t.Helper()
		if _, ok := errors.AsType[*projector.OperatorError](err); !ok || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	check(m.Park(t.Context(), "nothing", 1), `there is no projection "nothing"; there are tally`)
	check(m.Retry(t.Context(), "nothing", 1), `there is no projection "nothing"; there are tally`)
	check(m.Park(t.Context(), "tally", 3), "tally does not stand still at position 3; no partition of it stands still")
	check(m.Retry(t.Context(), "tally", 99), "the log has no event at position 99; of tally, no partition of it stands still")
	bad := f.append("tally-bad", added{N: 1, Poison: true})
	f.append("tally-bad", added{N: 1})
	f.awaitStanding(bad, 2)
	check(m.Park(t.Context(), "tally", 3), "tally does not stand still at position 3; it stands still at 11 (tally.added of tally-bad)")
	must(t, m.Park(t.Context(), "tally", bad))
	f.awaitParked(m, bad)
	check(m.Park(t.Context(), "tally", bad), "position 11 is parked in tally already")
	check(m.Retry(t.Context(), "tally", bad+1), "position 12 waits in tally behind position 11 of its stream, which is parked: retry that one")
	if _, err := m.Parked(t.Context(), "nothing"); err == nil {
		t.Error("an unknown projection has a list")
	}
}

// What is parked stays parked, or is applied in order, whatever Redis and the control tables forget.
func TestParkedOutlivesLostData(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.poison(true)
	f.worker("one")
	m := f.models()
	f.append("tally-bad", added{N: 1})
	before := f.sums["tally-bad"]
	bad := f.append("tally-bad", added{N: 2, Poison: true})
	f.append("tally-bad", added{N: 3})
	whole := f.sums["tally-bad"]
	f.awaitStanding(bad, 2)
	must(t, m.Park(t.Context(), "tally", bad))
	f.awaitParked(m, bad)
	f.fill(500, 20)
	key := f.redisKey("tally-bad", 1)
	parkedHash, err := f.redis.HGetAll(t.Context(), key).Result()
	must(t, err)

	// Redis loses the partition: it is folded again from the beginning, and parks the stream again.
	must(t, f.redis.Del(t.Context(), key).Err())
	f.awaitDocument(m, "tally-bad", before)
	f.verified()

	// The list is lost: what the stores go without is tried again, and comes back onto the list.
	_, err = f.pool.Exec(t.Context(), `TRUNCATE parked_events`)
	must(t, err)
	eventually(t, patience, "the list is back", func() bool {
		list, err := m.Parked(t.Context(), "tally")
		must(t, err)
		return len(list) == 2 && list[0].Position == bad && list[1].Position == bad
	})
	for _, replica := range f.replicas { // one that still has the empty list takes the row to be whole
		eventually(t, patience, "the list is back on the replica", func() bool {
			var n int
			must(t, replica.QueryRow(t.Context(), `SELECT count(*) FROM parked_events`).Scan(&n))
			return n == 2
		})
	}

	// After the retry Redis is set back to before it: what it goes without is applied once more, and once.
	f.poison(false)
	must(t, m.Retry(t.Context(), "tally", bad))
	f.awaitParked(m, bad)
	f.expectWhole(m)
	must(t, f.redis.Del(t.Context(), key).Err())
	must(t, f.redis.HSet(t.Context(), key, parkedHash).Err())
	f.awaitDocument(m, "tally-bad", whole)
	f.append("tally-bad", added{N: 4})
	f.expectWhole(m)
	f.verified()
}

// A rebuild tries what is parked, and may go without it too if it must; it may not go without anything else.
func TestReplayWithParkedEvents(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.poison(true)
	f.worker("one")
	m := f.models()
	f.expect(m) // it is there: a rebuild keeps what readers have seen, not what is still being built
	f.append("tally-bad", added{N: 1})
	before := f.sums["tally-bad"]
	bad := f.append("tally-bad", added{N: 2, Poison: true})
	f.append("tally-bad", added{N: 3})
	f.fill(25_000, 40)
	f.awaitStanding(bad, 2)
	_, err := projector.Replay(t.Context(), f.replayOptions())
	if want := fmt.Sprintf("event %d (tally.added, stream tally-bad) cannot be applied: it is poison", bad); err == nil || !strings.Contains(err.Error(), want) {
		t.Fatalf("a rebuild over an event that is not parked: %v", err)
	}
	must(t, m.Park(t.Context(), "tally", bad))
	f.awaitParked(m, bad)
	f.append("tally-bad", added{N: 4, Poison: true})
	whole := f.sums["tally-bad"]
	f.wantBefore("tally-bad", before)
	result, err := projector.Replay(t.Context(), f.replayOptions())
	must(t, err)
	generation := result.Generations["tally"]
	if len(result.Parked) != 2 || result.Parked[0].Position != bad || result.Parked[0].Generation != generation || result.Parked[0].Error != "it is poison" {
		t.Errorf("the rebuild parked %+v", result.Parked)
	}
	list, err := m.Parked(t.Context())
	must(t, err)
	if len(list) != 4 || list[2].Generation != generation || list[3].Generation != generation || list[2].Position != bad {
		t.Errorf("the list of generation %d, and of the one before, is %+v", generation, list)
	}
	last := f.fill(100, 40)
	eventually(t, patience, "the new generation goes on", func() bool {
		rows, err := f.rows(m, last)
		return err == nil && rows["tally-bad"] == before
	})
	f.verified()
	f.poison(false)
	result, err = projector.Replay(t.Context(), f.replayOptions())
	must(t, err)
	if len(result.Parked) != 0 {
		t.Errorf("after the fix the rebuild parked %+v", result.Parked)
	}
	f.wantBefore("tally-bad", whole)
	f.expectWhole(m)
	eventually(t, patience, "what the rebuild could apply is applied in the generation before too", func() bool {
		list, err := m.Parked(t.Context())
		must(t, err)
		return len(list) == 0
	})
}

// A new version that workers build inherits what is parked, if it cannot apply it either.
func TestNewVersionInheritsParkedEvents(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.poison(true)
	f.worker("old")
	old := f.models()
	f.fill(3_000, 40)
	f.append("tally-bad", added{N: 1})
	before := f.sums["tally-bad"]
	bad := f.append("tally-bad", added{N: 2, Poison: true})
	f.awaitStanding(bad, 2)
	must(t, old.Park(t.Context(), "tally", bad))
	f.awaitParked(old, bad)
	next := tallyProjection(f.info, 2)
	f.worker("new", next)
	m := f.models(next)
	eventually(t, 2*patience, "the new version is built", func() bool { return m.Ready(t.Context()) == nil })
	list, err := m.Parked(t.Context())
	must(t, err)
	if len(list) != 4 || list[2].Generation != 2 || list[3].Generation != 2 {
		t.Errorf("the list is %+v", list)
	}
	status, err := m.Status(t.Context())
	must(t, err)
	if status[0].State != projector.Live {
		t.Errorf("the new version is %+v", status[0])
	}
	f.wantBefore("tally-bad", before)
	last := f.fill(100, 40)
	eventually(t, patience, "it goes on", func() bool {
		rows, err := f.rows(m, last)
		return err == nil && rows["tally-bad"] == before
	})
	// What stops it once it is live is for an operator to decide.
	other := f.append("tally-worse", added{N: 1, Poison: true})
	f.awaitStanding(other, 4)
}

// A row over a limit, and a bug that panics, stop their partition as a refusal does, and are seen.
func TestWhatStopsAPartition(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		apply func(ctx context.Context, tx *projector.Tx, e *es.Event) error
		want  string
	}{
		"a row over a limit": {func(_ context.Context, tx *projector.Tx, e *es.Event) error {
			tx.Queue(`INSERT INTO tally.streams VALUES ($1 || repeat('x', 1000000), 0, 0, 0)`, e.Stream) // no index takes that
			return nil
		}, "54000"},
		"a value that is refused": {func(_ context.Context, tx *projector.Tx, e *es.Event) error {
			tx.Queue(`INSERT INTO tally.streams VALUES ($1, null, 0, 0)`, e.Stream)
			return nil
		}, "23502"},
		"a panic": {func(context.Context, *projector.Tx, *es.Event) error { panic("a bug") }, "panic: a bug"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			p := tallyProjection(f.info, 1)
			p.Redis = nil
			fold := p.Postgres.Apply
			p.Postgres.Apply = func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
				for i := range events {
					if isPoisonous(f.info.ID, &events[i]) {
						if err := c.apply(ctx, tx, &events[i]); err != nil {
							return err
						}
					}
				}
				return fold(ctx, tx, slices.DeleteFunc(slices.Clone(events), func(e es.Event) bool { return e.Fact.(added).Poison }))
			}
			registry := prometheus.NewRegistry()
			options := f.workerOptions("one", p)
			options.Metrics = projector.NewMetrics(registry)
			w, err := projector.NewWorker(options)
			must(t, err)
			background(t, w.Run)
			m := f.models(p)
			f.poison(true)
			f.fill(100, 20)
			bad := f.append("tally-bad", added{N: 1, Poison: true})
			last := f.append(f.elsewhere("tally-bad"), added{N: 7})
			f.awaitStanding(bad, 1)
			row, err := f.row(m, last, f.elsewhere("tally-bad"))
			if err != nil || row.Last != last {
				t.Errorf("another partition: %+v, %v", row, err)
			}
			all, err := m.Status(t.Context())
			must(t, err)
			if got := all[0].Partitions[es.PartitionOf("tally-bad", 16)].Error; !strings.Contains(got, c.want) || !strings.Contains(got, "tally.added of tally-bad") {
				t.Errorf("the status tells %q, want %q", got, c.want)
			}
			gauge := func(name string) func() bool {
				return func() bool { return gaugeOf(t, registry, name) == 1 }
			}
			eventually(t, patience, "the metric tells that it stands still", gauge("millrace_projection_stopped_partitions"))
			must(t, m.Park(t.Context(), "tally", bad))
			f.awaitParked(m, bad)
			eventually(t, patience, "the metric tells that it is parked", gauge("millrace_projection_parked_streams"))
			if _, err := f.rows(m, last); err != nil {
				t.Error(err)
			}
			rebuild := f.replayOptions()
			rebuild.Projections = []projector.Projection{p}
			result, err := projector.Replay(t.Context(), rebuild)
			if err != nil || len(result.Parked) != 1 || !strings.Contains(result.Parked[0].Error, c.want) {
				t.Errorf("a rebuild: %+v, %v", result.Parked, err)
			}
			f.poison(false)
			must(t, m.Retry(t.Context(), "tally", bad))
			if list := f.awaitParked(m, bad); len(list) > 0 {
				t.Errorf("after the fix the list is %+v", list)
			}
		})
	}
}

func gaugeOf(t *testing.T, registry *prometheus.Registry, name string) (sum float64) {
	t.Helper()
	families, err := registry.Gather()
	must(t, err)
	for _, f := range families {
		if f.GetName() == name {
			for _, m := range f.GetMetric() {
				sum += m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// TestParkingUnderKills parks and retries at random while two workers that believe to own everything are killed with
// kill -9 and Redis loses partitions. What is left in the end is a fold of the log.
func TestParkingUnderKills(t *testing.T) {
	t.Parallel()
	stack := stacktest.New(t, stacktest.WithoutNATS())
	f := setupOn(t, stack.DatabaseURL, stack.ReplicaURLs, stack.RedisURL)
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	f.poison(true)
	m := f.models()
	streams := make([]string, 12)
	for i := range streams {
		streams[i] = fmt.Sprint("tally-", i)
	}
	grow := func(most int) {
		f.appendAll(func(add func(string, es.Fact)) {
			for range 1 + random.IntN(most) {
				add(streams[random.IntN(len(streams))], added{N: random.IntN(100), Poison: random.IntN(80) == 0})
			}
		})
	}
	grow(60)
	start := func() func() {
		environment := []string{childID + "=twin"}
		if random.IntN(3) > 0 {
			environment = append(environment, childPoison+"=1") // the others have the fix
		}
		cmd, _ := f.startChild(environment...)
		return func() { must(t, cmd.Process.Kill()) }
	}
	kill := []func(){start(), start()}
	parked, retried := 0, 0
	ignore := func(n *int, err error) {
		if _, ok := errors.AsType[*projector.OperatorError](err); ok {
			return // it has gone on meanwhile
		}
		must(t, err)
		*n++
	}
	positions := func(table string) (found []int64) {
		rows, err := f.pool.Query(t.Context(), `SELECT DISTINCT position FROM `+table+` ORDER BY position`)
		must(t, err)
		for rows.Next() {
			var p int64
			must(t, rows.Scan(&p))
			found = append(found, p)
		}
		must(t, rows.Err())
		return found
	}
	for round := 0; round < 30 || (parked == 0 || retried == 0) && round < 300; round++ { // on a slow machine workers have hardly begun after 30
		grow(60)
		for _, p := range positions("projection_failures") {
			if random.IntN(3) > 0 {
				ignore(&parked, m.Park(t.Context(), "tally", p))
			}
		}
		for _, p := range positions("parked_events") {
			if random.IntN(3) == 0 {
				ignore(&retried, m.Retry(t.Context(), "tally", p))
			}
		}
		switch random.IntN(3) {
		case 0:
			n := random.IntN(2)
			kill[n]()
			kill[n] = start()
		case 1:
			must(t, f.redis.Del(t.Context(), f.redisKey(streams[random.IntN(len(streams))], 1)).Err())
		}
		// Rounds are as long as it takes to get something done, and end in the middle of it.
		target := positions("projection_failures")
		deadline := time.Now().Add(time.Duration(100+random.IntN(300)) * time.Millisecond)
		eventually(t, patience, fmt.Sprint("round ", round), func() bool {
			grow(5)
			return time.Now().After(deadline) || !slices.Equal(target, positions("projection_failures"))
		})
	}
	kill[0]()
	kill[1]()
	t.Logf("parked %d times, retried %d times; %d streams are parked at the end", parked, retried, len(positions("parked_events")))
	if parked == 0 || retried == 0 {
		t.Error("nothing was parked, or nothing retried")
	}
	// What is parked now is as it was before, and nothing else is missing.
	f.poison(false)
	f.worker("heir")
	eventually(t, 3*patience, "everything has been tried again", func() bool {
		for _, table := range []string{"projection_failures", "parked_events"} {
			for _, p := range positions(table) {
				var ignored int
				ignore(&ignored, m.Retry(t.Context(), "tally", p))
			}
		}
		return len(positions("projection_failures")) == 0 && len(positions("parked_events")) == 0
	})
	f.expectWhole(m)
	f.verified()
}
