package projector_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/feed"
	"github.com/millrace/millrace/internal/projector"
)

// TestStalledInTheMiddleOfABatch stops a worker that has moved checkpoints in a transaction that it has not ended: the
// transaction would keep whoever takes its partitions waiting for as long as it sleeps.
func TestStalledInTheMiddleOfABatch(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(4_000, 40)
	m := f.models()
	cmd, hangs := f.startChild(childHangAt + "=2000")
	await(t, "the worker is in the middle of a batch", hangs)
	must(t, cmd.Process.Signal(syscall.SIGSTOP))
	began := time.Now()
	f.worker("heir")
	f.fill(1_000, 40)
	f.expect(m)
	t.Logf("taken over and caught up after %v", time.Since(began))
	must(t, cmd.Process.Signal(syscall.SIGCONT))
	f.fill(1_000, 40)
	f.expect(m)
	f.verified()
}

// TestStalledInTheMiddleOfASwitch stops a worker that is about to show readers the generation that it has built, and holds what all
// workers need to begin.
func TestStalledInTheMiddleOfASwitch(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(1_000, 40) // what is built for a log with events is switched to
	stalls := stallingTracer{reached: make(chan struct{}), goesOn: make(chan struct{})}
	options := f.workerOptions("sleeper")
	options.Pool = f.poolWith(func(c *pgxpool.Config) { c.ConnConfig.Tracer = &stalls })
	t.Cleanup(options.Pool.Close)
	sleeper, err := projector.NewWorker(options)
	must(t, err)
	background(t, sleeper.Run)
	t.Cleanup(stalls.wake)
	await(t, "a worker is in the middle of a switch", stalls.reached)
	f.worker("heir")
	m := f.models()
	f.expect(m)
	stalls.wake()
	f.fill(1_000, 40)
	f.expect(m)
	f.verified()
}

// stallingTracer holds the first promotion of a generation up, in its transaction.
type stallingTracer struct {
	once, woken     sync.Once
	reached, goesOn chan struct{}
}

func (s *stallingTracer) TraceQueryStart(ctx context.Context, _ *pgx.Conn, q pgx.TraceQueryStartData) context.Context {
	if strings.HasPrefix(q.SQL, "UPDATE projections SET status = 'live'") {
		s.once.Do(func() {
			close(s.reached)
			<-s.goesOn
		})
	}
	return ctx
}

func (s *stallingTracer) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (s *stallingTracer) wake() { s.woken.Do(func() { close(s.goesOn) }) }

// TestSlowWorkersKeepTheirPartitions delays what the database answers to one of two workers, by a good part of a
// lease's life, while both have much to do: nobody loses a partition.
func TestSlowWorkersKeepTheirPartitions(t *testing.T) {
	t.Parallel()
	f := setup(t)
	m := f.models()
	proxy, through := stacktest.ProxyURL(t, f.url)
	options := f.workerOptions("slow")
	options.Pool = connect(t, through)
	slow, err := projector.NewWorker(options)
	must(t, err)
	background(t, slow.Run)
	f.worker("other")
	eventually(t, patience, "two share", f.sharedAs(8, 8))
	before := f.holders()
	proxy.Delay(700)
	filled := background(t, func(ctx context.Context) error {
		for ctx.Err() == nil {
			f.fill(2_000, 200)
		}
		return nil
	})
	f.keep(before, 2*leaseLife)
	filled()
	proxy.Heal()
	f.expect(m)
}

// leaseLife is how long a lease lives.
const leaseLife = 2 * time.Second

// holders returns who holds each partition, whether or not the lease has run out.
func (f *fixture) holders() map[int]string {
	f.t.Helper()
	rows, err := f.pool.Query(f.t.Context(), `SELECT partition, coalesce(worker, '') FROM leases`)
	must(f.t, err)
	holders := make(map[int]string)
	var n int
	var worker string
	_, err = pgx.ForEachRow(rows, []any{&n, &worker}, func() error {
		holders[n] = worker
		return nil
	})
	must(f.t, err)
	return holders
}

// keep watches for some time that nobody loses a partition.
func (f *fixture) keep(before map[int]string, watched time.Duration) {
	f.t.Helper()
	began := time.Now()
	eventually(f.t, 2*watched, "the time is over", func() bool {
		if after := f.holders(); !maps.Equal(before, after) {
			f.t.Fatalf("after %v the partitions are shared as %v, before as %v", time.Since(began), after, before)
		}
		return time.Since(began) > watched
	})
}

// TestDatabaseThatComesBack keeps the database away for longer than a lease lives: those who hold partitions have them still
// when it is back, and do not find them taken by who was there first.
func TestDatabaseThatComesBack(t *testing.T) {
	t.Parallel()
	stack := stacktest.Private(t)
	f := setupOn(t, stack.PostgresURL(), nil, stack.RedisURL())
	for _, id := range []string{"a", "b", "c"} {
		f.worker(id)
	}
	eventually(t, patience, "three share", f.sharedAs(6, 5, 5))
	before := f.holders()
	must(t, stack.Primary().Kill())
	<-time.After(leaseLife + leaseLife/2)
	must(t, stack.Primary().Start(t.Context()))
	f.keep(before, leaseLife+leaseLife/2)
	f.fill(500, 40)
	f.expect(f.models())
}

// TestOldEventsAreReadHoweverLongItTakes has a worker read what happened before it came from a server so slow that it takes longer
// than the worker's pauses between checks.
func TestOldEventsAreReadHoweverLongItTakes(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(3_000, 40)
	proxy, through := stacktest.ProxyURL(t, f.url)
	slow := feed.New(feed.Options{Log: f.log.On(connect(t, through)), Info: f.info, Codec: codec, Logger: testLogger(t)})
	background(t, slow.Run)
	await(t, "the feed knows the log", slow.Ready())
	proxy.Delay(600) // a statement that is prepared first takes two answers
	options := f.workerOptions("one")
	options.Feed = slow
	w, err := projector.NewWorker(options)
	must(t, err)
	background(t, w.Run)
	f.expect(f.models())
	f.verified()
}

// stuckLog does not get beyond its first reading until it is released, and then fails once.
type stuckLog struct {
	projector.Log
	from    int64         // readings behind it are stuck
	stuck   chan struct{} // gets a value from each reading that is stuck
	release chan struct{}
}

func (l *stuckLog) ReadPartitions(ctx context.Context, partitions []int, after int64, limit int) ([]es.Event, int64, error) {
	select {
	case <-l.release:
	default:
		if after > l.from {
			l.stuck <- struct{}{}
			<-l.release
			return nil, 0, errors.New("the connection was lost")
		}
	}
	return l.Log.ReadPartitions(ctx, partitions, after, limit)
}

// A worker that stalled between two batches, while another folded its partitions, remembers rows and documents of before.
func TestWhatAWorkerRemembersIsOld(t *testing.T) {
	t.Parallel()
	f := setup(t)
	m := f.models()
	stop := f.worker("one") // makes the tables, which the others do not
	f.fill(1_000, 40)
	f.expect(m)
	stop()
	f.fill(25_000, 40)
	options := f.workerOptions("stalled")
	log := &stuckLog{Log: options.Log, from: 1_000, stuck: make(chan struct{}, 2), release: make(chan struct{})}
	options.Log, options.Alone, options.Near = log, true, 1
	stalled, err := projector.NewWorker(options)
	must(t, err)
	background(t, stalled.Run)
	<-log.stuck
	<-log.stuck

	options = f.workerOptions("other")
	options.Alone = true
	other, err := projector.NewWorker(options)
	must(t, err)
	stop = background(t, other.Run)
	f.expect(m)
	stop()
	f.fill(15_000, 40)
	close(log.release)
	f.expect(m)
	f.verified()
}
