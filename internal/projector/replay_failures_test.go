package projector_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// poolWith is a pool of its own, with a changed configuration, for the caller to close.
func (f *fixture) poolWith(change func(*pgxpool.Config)) *pgxpool.Pool {
	f.t.Helper()
	config, err := pgxpool.ParseConfig(f.url)
	must(f.t, err)
	config.MaxConns = 12
	change(config)
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	must(f.t, err)
	return pool
}

// A rebuild whose other projection fails, or that is cancelled, gives back the transaction that it has open.
func TestRebuildThatFailsHoldsNothing(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(60_000, 20) // six pages: the projection that fails holds the fifth up
	for name, fails := range map[string]func(cancel func()) error{
		"an event that cannot be applied": func(func()) error { return errors.New("it is bad") },
		"cancelled":                       func(cancel func()) error { cancel(); return context.Canceled },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			waiting, pages := make(chan struct{}), 0
			good := tallyProjection(f.info, 1)
			good.Redis = nil
			apply := good.Postgres.Apply
			good.Postgres.Apply = func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
				err := apply(ctx, tx, events)
				if pages++; pages == 5 {
					close(waiting)
				}
				return err
			}
			bad := projector.Projection{Name: "bad", Version: 1, Events: good.Events, Postgres: &projector.Postgres{
				Schema: []string{`CREATE TABLE bad.x (y int PRIMARY KEY)`},
				Apply: func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
					if events[len(events)-1].Position < 15_000 {
						return nil
					}
					<-waiting
					return fails(cancel)
				},
			}}
			options := f.replayOptions()
			options.Pool = f.poolWith(func(*pgxpool.Config) {})
			options.Projections = []projector.Projection{good, bad}
			began := time.Now()
			_, err := projector.Replay(ctx, options)
			if want := fails(func() {}).Error(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %s", err, want)
			}
			if took := time.Since(began); took > 2*patience {
				t.Errorf("it took %v", took)
			}
			if n := options.Pool.Stat().AcquiredConns(); n != 0 {
				t.Fatalf("%d connections are not given back", n)
			}
			options.Pool.Close()
			var unfinished int
			must(t, f.pool.QueryRow(t.Context(), `SELECT count(*) FROM projections WHERE status = 'building' AND owner IS NOT NULL`).Scan(&unfinished))
			if unfinished != 0 {
				t.Errorf("%d unfinished generations are left", unfinished)
			}
		})
	}
}

// deafConn loses the answer to the commit of a switch.
type deafConn struct {
	net.Conn
	switching, deaf atomic.Bool
}

func (c *deafConn) Write(b []byte) (int, error) {
	switch {
	case bytes.Contains(b, []byte("SET status = 'live', owner = NULL")):
		c.switching.Store(true)
	case c.switching.Load() && bytes.Contains(b, []byte("commit")):
		c.deaf.Store(true)
	}
	return c.Conn.Write(b)
}

func (c *deafConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.deaf.Load() {
		return 0, io.ErrUnexpectedEOF
	}
	return n, err
}

func TestSwitchWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(1_000, 20)
	options := f.replayOptions()
	options.Pool = f.poolWith(func(c *pgxpool.Config) {
		dial := c.ConnConfig.DialFunc
		c.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dial(ctx, network, address)
			return &deafConn{Conn: conn}, err
		}
	})
	defer options.Pool.Close()
	if _, err := projector.Replay(t.Context(), options); err == nil || !strings.Contains(err.Error(), "switching tally to generation 2") {
		t.Fatalf("got %v", err)
	}
	var status string
	must(t, f.pool.QueryRow(t.Context(), `SELECT status FROM projections WHERE generation = 2`).Scan(&status))
	if status != "live" {
		t.Fatalf("the generation that was switched to is %s", status)
	}
	f.worker("one")
	f.expect(f.models())
	f.verified()
}

// writerFunc is a writer of log lines.
type writerFunc func(line []byte)

func (w writerFunc) Write(line []byte) (int, error) { w(line); return len(line), nil }

func TestSwitchIsTriedAgain(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(1_000, 20)
	options := f.replayOptions()
	options.Pool = f.poolWith(func(c *pgxpool.Config) { c.ConnConfig.RuntimeParams["lock_timeout"] = "300ms" })
	defer options.Pool.Close()
	_, err := projector.Replay(t.Context(), options)
	must(t, err)
	lock := func(store string) (unlock func()) {
		tx, err := f.pool.Begin(t.Context())
		must(t, err)
		_, err = tx.Exec(t.Context(), `SELECT FROM checkpoints WHERE generation = 2 AND store = $1 FOR UPDATE`, store)
		must(t, err)
		return func() { _ = tx.Rollback(context.Background()) } // also called when it has ended
	}
	defer lock("redis")() // as somebody who remembers: not waited for
	unlock := lock("postgres")
	defer unlock()
	tried := 0
	options.Logger = slog.New(slog.NewTextHandler(writerFunc(func([]byte) {
		tried++
		unlock()
	}), &slog.HandlerOptions{Level: slog.LevelWarn}))
	result, err := projector.Replay(t.Context(), options)
	must(t, err)
	if tried != 1 || result.Generations["tally"] != 3 {
		t.Errorf("%d attempts failed, generation %d", tried, result.Generations["tally"])
	}
}
