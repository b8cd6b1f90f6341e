package postgres

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	ossignal "os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/es"
)

// The test binary is also a process that appends, to be stopped in the middle of it.
const (
	childDatabase = "MILLRACE_POSTGRES_CHILD_DATABASE"
	childHeldAt   = "MILLRACE_POSTGRES_CHILD_HELD_AT"
)

// Where the child can be held.
const (
	heldInTurn   = "in its turn, deciding"
	heldHalfSent = "with half of a batch sent"
	heldUnsynced = "with all of a batch sent but the end"
)

func isChild() bool { return os.Getenv(childDatabase) != "" }

func runChild() int {
	if err := child(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

// child puts 100 units in one command, and is held on the way: it says so and waits until it is stopped and goes on.
func child(ctx context.Context) error {
	goesOn := make(chan os.Signal, 1)
	ossignal.Notify(goesOn, syscall.SIGCONT)
	hold := sync.OnceFunc(func() {
		fmt.Println("held")
		<-goesOn
	})
	config, err := pgxpool.ParseConfig(os.Getenv(childDatabase))
	if err != nil {
		return err
	}
	at := os.Getenv(childHeldAt)
	var armed atomic.Bool
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		return &heldConn{Conn: conn, hold: hold, at: at, armed: &armed}, err
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	log, err := OpenLog(ctx, pool, testCodec)
	if err != nil {
		return err
	}
	w := NewWriter(log, WriterOptions{Categories: []*es.Category{units.Category}})
	if at == heldInTurn {
		w.crowded = crowdedFor
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	s := units.Stream("hot")
	if _, err := w.Execute(ctx, putUnits("hot", 1)); err != nil { // it has the stream in memory, and statements prepared
		return err
	}
	_, err = w.Execute(ctx, withKey(es.Command{Name: "put many", Streams: []string{s.Name()}, Decide: func(d *es.Decision) error {
		if _, err := es.State(d, s); err != nil {
			return err
		}
		for range 100 {
			es.Append(d, s, put{1})
		}
		armed.Store(true)
		if at == heldInTurn {
			hold()
		}
		return nil
	}}, "key", "request"))
	stop()
	return errors.Join(err, <-done)
}

// heldConn is held in the middle of sending the batch.
type heldConn struct {
	net.Conn
	hold  func()
	at    string
	armed *atomic.Bool
}

func (c *heldConn) Write(b []byte) (int, error) {
	const syncMessage, batchBytes, recordBytes = 5, 4096, 64
	first := 0
	switch {
	case len(b) < batchBytes || !c.armed.Load():
	case c.at == heldHalfSent:
		first = len(b) - recordBytes // in the record of the key: the events have been inserted
	case c.at == heldUnsynced:
		first = len(b) - syncMessage
	}
	if first == 0 {
		return c.Conn.Write(b)
	}
	if n, err := c.Conn.Write(b[:first]); err != nil {
		return n, err
	}
	c.hold()
	n, err := c.Conn.Write(b[first:])
	return first + n, err
}

// startChild starts the process and returns once it is held.
func startChild(t *testing.T, url, heldAt string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDatabase+"="+url, childHeldAt+"="+heldAt)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cmd.ProcessState == nil { // nobody has waited for it
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	if said := bufio.NewScanner(out); !said.Scan() || said.Text() != "held" {
		t.Fatalf("the child was not held: it said %q", said.Text())
	}
	return cmd
}

// An api process is stopped where it is most in the way. The others go on within a second; the one that wakes finds out that nothing of its
// command was done, and does it once.
func TestAStoppedProcessDoesNotStopTheOthers(t *testing.T) {
	t.Parallel()
	for _, heldAt := range []string{heldInTurn, heldHalfSent, heldUnsynced} {
		t.Run(heldAt, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			w := b.writer(t, b.pool)
			execute(t, w, putUnits("hot", 1))
			cmd := startChild(t, b.env.DatabaseURL, heldAt)
			await(t, "what was sent to be in the way", func() (held bool) {
				if err := b.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
					WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database())`).Scan(&held); err != nil {
					t.Fatal(err)
				}
				return held
			})
			if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			stopped := time.Now()
			await(t, "the others to go on", func() bool {
				_, err := w.Execute(t.Context(), putUnits("hot", 1))
				if err != nil && !errors.Is(err, es.ErrUnavailable) {
					t.Fatal(err)
				}
				return err == nil
			})
			delay := time.Since(stopped)
			t.Logf("the others went on after %s", delay)
			if delay > 5*time.Second { // 1 s on a machine that has nothing else to do
				t.Errorf("the others were held up for %s", delay)
			}
			for range 20 {
				execute(t, w, putUnits("hot", 1))
			}
			if err := cmd.Process.Signal(syscall.SIGCONT); err != nil {
				t.Fatal(err)
			}
			// A caller who has waited for long is told that the outcome is not known, whatever it is.
			unknown := cmd.Wait()
			t.Logf("the child ended: %v", unknown)
			b.readWhole(t)
			n := b.units(t, "hot")
			if n != 123 && (unknown == nil || n != 23) {
				t.Errorf("there are %d units, want 123, or 23 if the command was not done", n)
			}
			var used bool
			if err := b.pool.QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM idempotency)`).Scan(&used); err != nil || used != (n == 123) {
				t.Errorf("there are %d units, and that the command's key was used is %t, %v", n, used, err)
			}
		})
	}
}
