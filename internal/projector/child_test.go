package projector_test

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/feed"
	"github.com/millrace/millrace/internal/postgres"
	"github.com/millrace/millrace/internal/projector"
)

// The test binary is also a worker of its own process, to be killed and stopped.
const (
	childDatabase = "MILLRACE_PROJECTOR_CHILD_DATABASE"
	childRedis    = "MILLRACE_PROJECTOR_CHILD_REDIS"
	childHangAt   = "MILLRACE_PROJECTOR_CHILD_HANG_AT"
	childReplay   = "MILLRACE_PROJECTOR_CHILD_REPLAY"
	childHelps    = "MILLRACE_PROJECTOR_CHILD_HELPS"
	childID       = "MILLRACE_PROJECTOR_CHILD_ID"
	childPoison   = "MILLRACE_PROJECTOR_CHILD_POISON"
)

func isChild() bool { return os.Getenv(childDatabase) != "" }

func runChild() int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := child(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

func child(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, os.Getenv(childDatabase)+"&pool_max_conns=8")
	if err != nil {
		return err
	}
	options, err := redis.ParseURL(os.Getenv(childRedis))
	if err != nil {
		return err
	}
	log, err := postgres.OpenLog(ctx, pool, codec)
	if err != nil {
		return err
	}
	poisoned.Store(log.Info().ID, os.Getenv(childPoison) != "")
	logger := slog.New(slog.DiscardHandler)
	projections := []projector.Projection{hanging(tallyProjection(log.Info(), 1))}
	if os.Getenv(childReplay) != "" {
		_, err := projector.Replay(ctx, projector.ReplayOptions{
			Pool: pool, Redis: redis.NewClient(options), Log: log, Codec: codec, Info: log.Info(), Projections: projections, Logger: logger,
		})
		return err
	}
	f := feed.New(feed.Options{Log: log, Info: log.Info(), Codec: codec, Logger: logger})
	w, err := projector.NewWorker(projector.WorkerOptions{
		ID: cmp.Or(os.Getenv(childID), "child"), Pool: pool, Redis: redis.NewClient(options), Feed: f, Log: log, Codec: codec, Info: log.Info(),
		Projections: projections, Logger: logger, Helps: os.Getenv(childHelps) != "",
	})
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return f.Run(ctx) })
	group.Go(func() error { return w.Run(ctx) })
	return group.Wait()
}

// hanging makes a projection tell when it has folded a given number of events, and then stay in the middle of its
// transaction, once: until the process is stopped and goes on.
func hanging(p projector.Projection) projector.Projection {
	at, err := strconv.ParseInt(os.Getenv(childHangAt), 10, 64)
	if err != nil {
		return p
	}
	apply := p.Postgres.Apply
	var folded atomic.Int64
	var hung atomic.Bool
	goesOn := make(chan os.Signal, 1)
	signal.Notify(goesOn, syscall.SIGCONT)
	p.Postgres = &projector.Postgres{Schema: p.Postgres.Schema, Apply: func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
		if err := apply(ctx, tx, events); err != nil {
			return err
		}
		if folded.Add(int64(len(events))) < at || !hung.CompareAndSwap(false, true) {
			return nil
		}
		if _, err := tx.Exec(ctx, `SELECT 1`); err != nil { // all that was queued has been done, and nothing is committed
			return err
		}
		fmt.Println("hanging")
		<-goesOn
		return nil
	}}
	return p
}

// startChild starts a worker process. The channel gets a value when it hangs.
func (f *fixture) startChild(environment ...string) (*exec.Cmd, <-chan struct{}) {
	f.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childDatabase+"="+f.url, childRedis+"="+f.redisURL)
	cmd.Env = append(cmd.Env, environment...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(f.t, err)
	must(f.t, cmd.Start())
	hangs := make(chan struct{}, 1)
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			select {
			case hangs <- struct{}{}:
			default:
			}
		}
	}()
	f.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may be gone
		<-read
		_ = cmd.Wait()
	})
	return cmd, hangs
}

func await[T any](t testing.TB, what string, c <-chan T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	select {
	case <-c:
	case <-ctx.Done():
		t.Fatalf("in vain: %s", what)
	}
}
