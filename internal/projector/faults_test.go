package projector_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/breaker"
	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/feed"
	"github.com/millrace/millrace/internal/postgres"
	"github.com/millrace/millrace/internal/projector"
)

func TestWorkerKilledInTheMiddleOfABatch(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(4_000, 40)
	m := f.models()
	cmd, hangs := f.startChild(childHangAt + "=2000")
	await(t, "the worker is in the middle of a batch", hangs)
	must(t, cmd.Process.Kill())
	began := time.Now()
	f.worker("heir")
	f.fill(1_000, 40)
	f.expect(m)
	t.Logf("taken over and caught up after %v", time.Since(began))
	f.verified()
}

func (f *fixture) verified() {
	f.t.Helper()
	differences, err := projector.Verify(f.t.Context(), f.replayOptions())
	must(f.t, err)
	if len(differences) > 0 {
		f.t.Errorf("the model differs from its log: %+v", differences)
	}
}

func TestStalledWorkerWakes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(1_000, 40)
	m := f.models()
	cmd, _ := f.startChild()
	eventually(t, patience, "the worker has everything", func() bool { return f.owners()["child"] == 16 })
	f.expect(m)
	must(t, cmd.Process.Signal(syscall.SIGSTOP))
	f.worker("other")
	eventually(t, patience, "the other has everything", func() bool { return f.owners()["other"] == 16 })
	f.fill(3_000, 40)
	f.expect(m)
	must(t, cmd.Process.Signal(syscall.SIGCONT)) // it believes that it still has all of them
	for range 50 {
		f.fill(20, 40)
	}
	eventually(t, patience, "both share", func() bool { o := f.owners(); return o["child"] == 8 && o["other"] == 8 })
	f.fill(500, 40)
	f.expect(m)
	f.verified()
}

func TestReplayKilled(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(25_000, 40)
	f.worker("live")
	m := f.models()
	f.expect(m)
	cmd, hangs := f.startChild(childReplay+"=1", childHangAt+"=15000")
	await(t, "the replay is in the middle", hangs)
	must(t, cmd.Process.Kill())
	f.fill(500, 40)
	f.expect(m)
	eventually(t, patience, "the next replay", func() bool {
		result, err := projector.Replay(t.Context(), f.replayOptions())
		if errors.Is(err, projector.ErrReplaying) { // the server has not noticed the death yet
			return false
		}
		must(t, err)
		return result.Generations["tally"] == 3
	})
	f.fill(500, 40)
	f.expect(m)
	f.verified()
}

func TestRedisFlushed(t *testing.T) {
	t.Parallel()
	stack := stacktest.Private(t)
	f := setupOn(t, stack.PostgresURL(), stack.ReplicaURLs(), stack.RedisURL())
	f.worker("one")
	m := f.models()
	f.fill(30_000, 40)
	f.expect(m)
	before := *f.document(m, 0, "tally-3")
	must(t, f.redis.FlushAll(t.Context()).Err())
	seen := 0
	eventually(t, 2*patience, "the documents are back", func() bool {
		d := f.document(m, 0, "tally-3")
		if d == nil {
			seen++
			return false
		}
		if *d != before {
			t.Fatalf("a document of the past was read: %+v, was %+v", *d, before)
		}
		return true
	})
	if seen == 0 {
		t.Error("documents were read although Redis had lost them")
	}
	f.expect(m)
	// Redis away: readers are sent to Postgres at once, and writing goes on when it is back.
	must(t, stack.Redis().Stop(t.Context()))
	last := f.fill(1_000, 40)
	if f.document(m, last, "tally-3") != nil {
		t.Error("a document was read although Redis is away")
	}
	if _, err := f.row(m, last, "tally-3"); err != nil {
		t.Error(err)
	}
	must(t, stack.Redis().Start(t.Context()))
	f.expect(m)
	f.verified()
}

func TestReplicaAndPrimaryAway(t *testing.T) {
	t.Parallel()
	stack := stacktest.Private(t)
	f := setupOn(t, stack.PostgresURL(), stack.ReplicaURLs(), stack.RedisURL())
	stop := f.worker("one")
	m := f.models()
	f.fill(1_000, 40)
	f.expect(m)
	// A replica whose replaying process stands still answers as before, but with the past.
	var startup int
	must(t, f.replicas[0].QueryRow(t.Context(), `SELECT pid FROM pg_stat_activity WHERE backend_type = 'startup'`).Scan(&startup))
	must(t, syscall.Kill(startup, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(startup, syscall.SIGCONT) }) // it has ended where the test has gone on
	last := f.fill(40, 40)
	eventually(t, patience, "a replica that has stopped replaying is not believed", func() bool {
		row, err := f.row(m, 0, "tally-3")
		must(t, err)
		return row == f.sums["tally-3"]
	})
	must(t, stack.Replica(0).Kill())
	if _, err := f.row(m, last, "tally-3"); err != nil {
		t.Errorf("without the replica: %v", err)
	}
	must(t, stack.Replica(0).Start(t.Context()))
	eventually(t, 2*patience, "the replica answers", func() bool { return f.replicas[0].Ping(t.Context()) == nil })
	must(t, stack.Primary().Kill())
	eventually(t, 2*patience, "the replica is asked again, though the primary is away", func() bool {
		row, err := f.row(m, last, "tally-3")
		if err != nil && !errors.Is(err, es.ErrUnavailable) || err == nil && row != f.sums["tally-3"] {
			t.Fatalf("without the primary: %+v, %v", row, err)
		}
		return err == nil
	})
	if f.document(m, last, "tally-3") == nil {
		t.Error("without the primary Redis does not answer")
	}
	must(t, stack.Replica(0).Kill())
	if _, err := f.row(m, last, "tally-3"); !errors.Is(err, es.ErrUnavailable) {
		t.Errorf("without any: %v", err)
	}
	must(t, stack.Primary().Start(t.Context()))
	must(t, stack.Replica(0).Start(t.Context()))
	eventually(t, 2*patience, "the primary answers", func() bool { return f.pool.Ping(t.Context()) == nil })
	eventually(t, patience, "readers are let through again", func() bool { return len(m.LeftAlone()) == 0 })
	f.fill(1_000, 40)
	f.expect(m)
	stop()
}

func TestTablesDeleted(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.worker("one")
	m := f.models()
	f.fill(5_000, 40)
	f.expect(m)
	for _, statement := range []string{
		`DROP TABLE tally_1.streams`, `DROP SCHEMA tally_2 CASCADE`,
		`TRUNCATE checkpoints`, `TRUNCATE leases, workers`, `TRUNCATE projections, checkpoints, leases, workers, projection_failures`,
		`TRUNCATE projections`, `DELETE FROM checkpoints WHERE store = 'postgres'`, `DELETE FROM checkpoints WHERE store = 'redis'`,
	} {
		f.destroy(statement)
		f.fill(500, 40)
		f.expect(m)
		f.awaitWhole()
	}
	result, err := projector.Replay(t.Context(), f.replayOptions())
	must(t, err)
	var left []string
	must(t, f.pool.QueryRow(t.Context(), `SELECT array_agg(nspname ORDER BY oid) FROM pg_namespace WHERE nspname LIKE 'tally\_%'`).Scan(&left))
	n := result.Generations["tally"]
	if want := []string{fmt.Sprint("tally_", n-1), fmt.Sprint("tally_", n)}; !slices.Equal(left, want) {
		t.Errorf("the schemas %v are left, want %v", left, want)
	}
}

// destroy runs a statement that locks whole tables, in its own order, under the worker's transactions: PostgreSQL may undo it to end a deadlock, and
// whoever gave it gives it again.
func (f *fixture) destroy(statement string) {
	f.t.Helper()
	eventually(f.t, patience, statement, func() bool {
		_, err := f.pool.Exec(f.t.Context(), statement)
		var pgErr *pgconn.PgError
		if errors.As(err, &pgErr) && pgErr.Code == deadlockDetected {
			return false
		}
		must(f.t, err)
		return true
	})
}

const deadlockDetected = "40P01"

// awaitWhole waits until the generation that readers see has the checkpoints of all its partitions in both stores.
func (f *fixture) awaitWhole() {
	f.t.Helper()
	eventually(f.t, 2*patience, "the live generation is whole", func() bool {
		var n int
		must(f.t, f.pool.QueryRow(f.t.Context(), `SELECT count(*) FROM checkpoints c JOIN projections p
			ON p.name = c.projection AND p.generation = c.generation AND p.status = 'live'`).Scan(&n))
		return n == 2*f.info.Partitions
	})
}

func TestRedisLosesAPartition(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.worker("one")
	m := f.models()
	// More than one batch before the last events, so that what was written before is read again while the partition is.
	busy := "tally-y"
	for es.PartitionOf(busy, f.info.Partitions) != es.PartitionOf("tally-late", f.info.Partitions) {
		busy += "y"
	}
	f.appendAll(func(add func(string, es.Fact)) {
		for i := range 10_500 {
			add(busy, added{N: i})
		}
	})
	f.append("tally-late", added{N: 1}, added{N: 2})
	f.expect(m)
	key := f.redisKey("tally-late", 1)
	for name, lose := range map[string]func(context.Context) *redis.IntCmd{
		"everything":          func(ctx context.Context) *redis.IntCmd { return f.redis.Del(ctx, key) },
		"the checkpoint only": func(ctx context.Context) *redis.IntCmd { return f.redis.HDel(ctx, key, "checkpoint") },
	} {
		if n, err := lose(t.Context()).Result(); err != nil || n != 1 {
			t.Errorf("%s: %d keys were deleted, %v", name, n, err)
		}
		f.expect(m)
		f.append("tally-late", added{N: 3})
		f.expect(m)
	}
}

func TestRedisThatHangsIsLeftAlone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.worker("one")
	last := f.append("tally-1", added{N: 1})
	proxy, url := stacktest.ProxyURL(t, f.redisURL)
	options, err := redis.ParseURL(url)
	must(t, err)
	options.ContextTimeoutEnabled = true
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	direct := f.redis
	f.redis = client
	m := f.models()
	f.redis = direct
	f.expect(m)
	proxy.Stall()
	read := func() *tally { return f.document(m, last, "tally-1") }
	for range breaker.Failures {
		if read() != nil {
			t.Error("there is an answer of a server that hangs")
		}
	}
	if left := m.LeftAlone(); !slices.Equal(left, []string{"redis documents"}) {
		t.Errorf("left alone are %q", left)
	}
	began := time.Now()
	for range 1_000 { // each of them would wait for a quarter of a second
		read()
	}
	if took := time.Since(began); took > patience {
		t.Errorf("the reads after that took %v", took)
	}
	proxy.Heal()
	eventually(t, patience, "Redis is asked again", func() bool { return read() != nil })
	if left := m.LeftAlone(); len(left) > 0 {
		t.Errorf("left alone are %q", left)
	}
}

func TestPoisonStopsItsPartitionOnly(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.worker("one")
	m := f.models()
	f.fill(1_000, 40)
	f.expect(m)
	f.poison(true)
	f.fill(100, 40)
	bad := f.append("tally-bad", added{N: 1, Poison: true})
	f.append("tally-bad", added{N: 2})
	last := f.fill(1_000, 40)
	other := f.append(f.elsewhere("tally-bad"), added{N: 7})

	eventually(t, patience, "the other partitions go on", func() bool {
		row, err := f.row(m, other, f.elsewhere("tally-bad"))
		return err == nil && row.Last == other
	})
	var status projector.Status
	eventually(t, patience, "it is seen", func() bool {
		all, err := m.Status(t.Context())
		must(t, err)
		status = all[0]
		return status.State == projector.Failed
	})
	partition := status.Partitions[es.PartitionOf("tally-bad", 16)]
	for _, want := range []string{"tally.added of tally-bad", "position 1101,", "it is poison"} {
		if !strings.Contains(partition.Error, want) {
			t.Errorf("the status %q does not tell %q", partition.Error, want)
		}
	}
	if partition.Position != bad-1 && partition.Position >= bad || status.Position >= bad || status.Lag == 0 {
		t.Errorf("status %+v", status)
	}
	if row, err := f.row(m, 0, "tally-bad"); err != nil || row.Count != 0 {
		t.Errorf("the poison had an effect: %+v, %v", row, err)
	}
	began := time.Now()
	if _, err := f.rows(m, last); !errors.Is(err, projector.ErrStale) {
		t.Errorf("a list that needs the partition: %v, want ErrStale", err)
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("a list waited %v for a partition that has stopped", took)
	}
	f.poison(false)
	f.expect(m)
	eventually(t, patience, "the failure is struck off", func() bool {
		all, err := m.Status(t.Context())
		must(t, err)
		return all[0].State == projector.Live && all[0].Lag == 0
	})
	f.verified()
}

// elsewhere returns a stream of another partition.
func (f *fixture) elsewhere(stream string) string {
	other := "tally-x"
	for es.PartitionOf(other, f.info.Partitions) == es.PartitionOf(stream, f.info.Partitions) {
		other += "x"
	}
	return other
}

type future struct{}

func (future) EventType() string { return "tally.added.v9" }

type unheard struct{}

func (unheard) EventType() string { return "tally.unheard" }

// A newer release writes a version that this one does not know, of an event that the projection names: its partition
// waits for the upgrade. An event that it does not name passes.
func TestEventOfALaterVersion(t *testing.T) {
	t.Parallel()
	f := setup(t)
	stop := f.worker("one")
	m := f.models()
	f.fill(100, 40)
	f.append("tally-new", future{})
	f.append(f.elsewhere("tally-new"), unheard{})
	last := f.append(f.elsewhere("tally-new"), added{N: 1})
	eventually(t, patience, "the other partitions go on", func() bool {
		row, err := f.row(m, last, f.elsewhere("tally-new"))
		return err == nil && row.Last == last
	})
	eventually(t, patience, "it is seen", func() bool {
		all, err := m.Status(t.Context())
		must(t, err)
		return strings.Contains(all[0].Partitions[es.PartitionOf("tally-new", 16)].Error,
			`event type "tally.added.v9" is not known to this version of the program`)
	})

	stop()
	upgraded := es.NewCodec(added{}, noted{})
	es.Upcast(upgraded, func(future) added { return added{N: 5} })
	log, err := postgres.OpenLog(t.Context(), f.pool, upgraded)
	must(t, err)
	follow := feed.New(feed.Options{Log: log, Info: f.info, Codec: upgraded, Logger: testLogger(t)})
	background(t, follow.Run)
	o := f.workerOptions("upgraded")
	o.Codec, o.Log, o.Feed = upgraded, log, follow
	w, err := projector.NewWorker(o)
	must(t, err)
	background(t, w.Run)
	last = f.append("tally-new", added{N: 1})
	eventually(t, patience, "the upgrade goes on where the other stopped", func() bool {
		row, err := f.row(m, last, "tally-new")
		return err == nil && row == tally{Count: 2, Sum: 6, Last: last}
	})
}

func TestPanicStopsItsPartitionOnly(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := tallyProjection(f.info, 1)
	apply := p.Postgres.Apply
	p.Postgres.Apply = func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
		for i := range events {
			if events[i].Stream == "tally-bad" {
				panic("a bug")
			}
		}
		return apply(ctx, tx, events)
	}
	f.worker("one", p)
	m := f.models(p)
	f.append("tally-bad", added{N: 1})
	last := f.append(f.elsewhere("tally-bad"), added{N: 1})
	eventually(t, patience, "the other partitions go on", func() bool {
		row, err := f.row(m, last, f.elsewhere("tally-bad"))
		return err == nil && row.Last == last
	})
}
