package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
)

// waitingInLine is how many sessions wait for an advisory lock of the database.
func (b *bundle) waitingInLine(t *testing.T) (n int) {
	t.Helper()
	if err := b.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
		WHERE l.locktype = 'advisory' AND NOT l.granted AND d.datname = current_database()`).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// counted adds up how often the command is decided.
func counted(c es.Command, decisions *atomic.Int64) es.Command {
	decide := c.Decide
	c.Decide = func(d *es.Decision) error {
		decisions.Add(1)
		return decide(d)
	}
	return c
}

// mostDecisions bounds how often a command may be decided on a machine so busy that a process may seem to be stopped now and then; otherwise it is 2.
const mostDecisions = 6

// keepBusy has callers execute commands on the writer until the context ends. It counts them, and keeps the most decisions that one took.
func keepBusy(ctx context.Context, t *testing.T, wg *sync.WaitGroup, w *Writer, callers int, command func() es.Command, done, most *atomic.Int64) {
	for range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				var decisions atomic.Int64
				if _, err := w.Execute(t.Context(), counted(command(), &decisions)); err != nil && !errors.Is(err, errNotEnough) {
					t.Error(err)
					return
				}
				done.Add(1)
				for n := decisions.Load(); ; {
					old := most.Load()
					if n <= old || most.CompareAndSwap(old, n) {
						break
					}
				}
			}
		})
	}
}

// Two processes on one stream: each gets its share, and no command is decided over and over, be it done or refused, with a key or without.
func TestProcessesShareAStreamFairly(t *testing.T) {
	t.Parallel()
	hot := func() es.Command { return putUnits("hot", 1) }
	var keys atomic.Int64
	for name, command := range map[string]func() es.Command{
		"done":  hot,
		"keyed": func() es.Command { return withKey(putUnits("hot", 1), fmt.Sprint("key", keys.Add(1)), "request") },
		"refused": func() es.Command {
			return withKey(takeUnits(1_000_000, "hot"), fmt.Sprint("key", keys.Add(1)), "request")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			writers := []*Writer{b.writer(t, connect(t, b.env.DatabaseURL)), b.writer(t, connect(t, b.env.DatabaseURL))}
			var done, most [2]atomic.Int64
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			keepBusy(ctx, t, &wg, writers[0], 16, hot, &done[0], &most[0])
			keepBusy(ctx, t, &wg, writers[1], 16, command, &done[1], &most[1])
			await(t, "some thousand commands", func() bool { return done[0].Load()+done[1].Load() > 3000 })
			cancel()
			wg.Wait()
			t.Logf("%d and %d commands were done, decided %d and %d times at most", done[0].Load(), done[1].Load(), most[0].Load(), most[1].Load())
			sum := done[0].Load() + done[1].Load()
			for i := range done {
				// The callers are equal if their commands are. With a key each is recorded as well, and its process has less; a refusal that is decided on a
				// state that has not changed costs its process nothing, and it may have more.
				if share := float64(done[i].Load()) / float64(sum); share < map[string]float64{"done": 0.35, "keyed": 0.2, "refused": 0.1}[name] {
					t.Errorf("process %d got %.0f %% of the commands", i, 100*share)
				}
				if n := most[i].Load(); n > mostDecisions {
					t.Errorf("a command of process %d was decided %d times", i, n)
				}
			}
			b.readWhole(t)
		})
	}
}

// A rival has moved one stream. What does not rest on that is appended as it was decided.
func TestOnlyWhatIsTouchedIsDecidedAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w, rival := b.writer(t, b.pool), b.writer(t, connect(t, b.env.DatabaseURL))
	for _, id := range []string{"moved", "after", "only read", "apart"} {
		execute(t, w, putUnits(id, 10))
	}
	reading := func(id, into string) es.Command {
		return es.Command{Name: "read", Decide: func(d *es.Decision) error {
			n, err := es.State(d, units.Stream(id))
			if err != nil {
				return err
			}
			if _, err := es.State(d, units.Stream(into)); err != nil {
				return err
			}
			es.Append(d, units.Stream(into), put{n})
			return nil
		}}
	}
	cases := []struct {
		what    string
		command es.Command
		want    int64
		refused bool
	}{
		{"the stream that was moved", takeUnits(5, "moved", "after"), 2, true},
		{"a stream that only an earlier command touches", takeUnits(10, "after"), 2, false},
		{"a command that read the stream", reading("moved", "only read"), 2, false},
		{"another stream", takeUnits(10, "apart"), 1, false},
		{"a refusal on another stream", takeUnits(1, "apart"), 1, true},
		{"a keyed command on another stream", withKey(putUnits("apart", 3), "key", "request"), 1, false},
	}
	for range 2 * crowdedFor { // it takes no turns any more
		execute(t, w, putUnits("unconcerned", 1))
	}
	execute(t, rival, takeUnits(10, "moved"))
	w.mu.Lock()
	w.states.unused.Add(hashOf("key"), unusedKey{position: w.head}) // as after a reading, for all commands to be in one batch
	w.mu.Unlock()
	counts := make([]atomic.Int64, len(cases))
	var commands []es.Command
	for i, c := range cases {
		commands = append(commands, counted(c.command, &counts[i]))
	}
	calls := submit(t, w, commands...)
	for i, c := range cases {
		<-calls[i].done
		if refused := errors.Is(calls[i].errs[0], errNotEnough); refused != c.refused || !refused && calls[i].errs[0] != nil {
			t.Errorf("%s: %v", c.what, calls[i].errs[0])
		}
		if n := counts[i].Load(); n != c.want {
			t.Errorf("%s was decided %d times, want %d", c.what, n, c.want)
		}
	}
	b.readWhole(t)
	for id, want := range map[string]int{"moved": 0, "after": 0, "only read": 10, "apart": 3} {
		if n := b.units(t, id); n != want {
			t.Errorf("%d units of %q, want %d", n, id, want)
		}
	}
}

// A command that needs a long stream, which has to be read first, and one that never rests gets its turn, while this process and another go on
// with the one that never rests.
func TestAColdStreamDoesNotWaitForAHotOneToRest(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(t, units.Stream("cold"), 200)
	rival := b.writer(t, connect(t, b.env.DatabaseURL))
	w := NewWriter(b.log.On(connect(t, b.env.DatabaseURL)), WriterOptions{Categories: []*es.Category{units.Category}})
	w.pageEvents = 20 // so that the cold stream takes some readings
	run(t, w)
	execute(t, w, putUnits("hot", 1)) // in memory before it grows faster than by a page a reading
	var done, most atomic.Int64
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	hot := func() es.Command { return putUnits("hot", 1) }
	keepBusy(ctx, t, &wg, rival, 8, hot, &done, &most)
	keepBusy(ctx, t, &wg, w, 8, hot, &done, &most)
	await(t, "the stream to be hot", func() bool { return done.Load() > 200 })
	var decisions atomic.Int64
	began, before := time.Now(), done.Load()
	execute(t, w, counted(takeUnits(1, "hot", "cold"), &decisions))
	t.Logf("it took %s and %d decisions, beside %d commands on the hot stream alone", time.Since(began), decisions.Load(), done.Load()-before)
	// It finds out twice what it has to read.
	if n := decisions.Load(); n > 2+mostDecisions {
		t.Errorf("it was decided %d times", n)
	}
	cancel()
	wg.Wait()
	b.readWhole(t)
	if n := b.units(t, "cold"); n != 199 {
		t.Errorf("%d cold units, want 199", n)
	}
}

// An exchange ends when its time is over, whether the server does not answer or takes nothing more, and its connection with it.
func TestAnExchangeThatIsGivenUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	proxy, through := stacktest.ProxyURL(t, b.env.DatabaseURL)
	for name, fault := range map[string]func(){"no answer": proxy.Stall, "nothing is taken": proxy.Clog} {
		pool := connect(t, through)
		conn, err := pool.Acquire(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := exchange(t.Context(), conn.Conn(), nil); err != nil {
			t.Fatal(err)
		}
		rows := b.rowsAt(0, uuid.Nil, "a")
		rows.rows.data[0] = `"` + strings.Repeat(" ", 64<<20) + `"` // more than there is room for on the way
		fault()
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		_, err = exchange(ctx, conn.Conn(), rows.copying())
		cancel()
		if _, refused := errors.AsType[*pgconn.PgError](err); err == nil || refused || !conn.Conn().IsClosed() {
			t.Errorf("%s: %v; the connection is closed: %t", name, err, conn.Conn().IsClosed())
		}
		conn.Release()
		proxy.Heal()
	}
}

// What has been given up before it was sent is not sent.
func TestAnExchangeWhoseTimeIsOver(t *testing.T) {
	t.Parallel()
	b := setup(t)
	conn, err := b.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	if _, err := exchange(t.Context(), conn.Conn(), nil); err != nil {
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := exchange(ended, conn.Conn(), b.rowsAt(0, uuid.Nil, "a").copying()); !errors.Is(err, context.Canceled) || !conn.Conn().IsClosed() {
		t.Errorf("%v; the connection is closed: %t", err, conn.Conn().IsClosed())
	}
	if events := b.readWhole(t); len(events) > 0 {
		t.Errorf("%d events were appended", len(events))
	}
}

// An attempt that waits in line for too long does not go on waiting in the server.
func TestNobodyWaitsWhoHasBeenGivenUp(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.writer(t, connect(t, b.env.DatabaseURL))
	holder, err := b.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := holder.Exec(t.Context(), `SELECT pg_advisory_xact_lock(`+appendLock+`)`); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error, 1)
	go func() { given <- w.appendInLine(ctx, b.rowsAt(0, uuid.Nil, "a"), time.Minute) }()
	await(t, "the attempt to wait", func() bool { return b.waitingInLine(t) == 1 })
	cancel()
	if err := <-given; err == nil {
		t.Error("it was appended")
	}
	await(t, "nobody to wait", func() bool { return b.waitingInLine(t) == 0 })
	if err := holder.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	if events := b.readWhole(t); len(events) > 0 {
		t.Errorf("%d events were appended", len(events))
	}
}
