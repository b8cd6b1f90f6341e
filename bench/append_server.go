package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/devstack"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/postgres"
	"github.com/millrace/millrace/migrations"
)

// appendServer is a PostgreSQL server with two databases of one schema: one whose log the writer appends to, and one for
// the baselines, whose positions come from a sequence and are no log.
type appendServer struct {
	stack     *devstack.Stack // nil when somebody else runs the server
	dir       string
	address   string // of the server, with its maintenance database
	admin     *pgx.Conn
	databases []string

	pool   *pgxpool.Pool // the writer's
	logURL string
	writer *postgres.Writer
	stopW  context.CancelFunc
	ended  *errgroup.Group

	plain *pgxpool.Pool // the baselines'
}

const (
	callers           = 64
	writerConnections = 8 // as many as an api process gives its writer
)

// startAppendServer starts a server without replicas, or uses the one that the options name, and prepares both sides.
func (l *lab) startAppendServer(ctx context.Context) (s *appendServer, err error) {
	s = &appendServer{dir: l.newDir("append")}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.stop(context.WithoutCancel(ctx)))
			s = nil
		}
	}()
	s.address = l.PostgresURL
	if s.address == "" {
		l.say("starting a private server")
		if s.stack, err = devstack.Start(ctx, devstack.Options{Dir: s.dir, Log: l.Logger, Replicas: -1}); err != nil {
			return s, err
		}
		s.address = s.stack.PostgresURL()
	}
	if s.admin, err = pgx.Connect(ctx, s.address); err != nil {
		return s, fmt.Errorf("bench: connecting to PostgreSQL: %w", err)
	}
	var version, fsync, commits string
	if err := s.admin.QueryRow(ctx, `SELECT current_setting('server_version'), current_setting('fsync'), current_setting('synchronous_commit')`).
		Scan(&version, &fsync, &commits); err != nil {
		return s, fmt.Errorf("bench: reading the server's settings: %w", err)
	}
	l.say("PostgreSQL %s, fsync %s, synchronous_commit %s", version, fsync, commits)
	if s.logURL, err = s.newDatabase(ctx); err != nil {
		return s, err
	}
	plainURL, err := s.newDatabase(ctx)
	if err != nil {
		return s, err
	}
	if err := s.startWriter(ctx, l, s.logURL); err != nil {
		return s, err
	}
	return s, s.preparePlain(ctx, plainURL)
}

// newDatabase makes a migrated database with a log, and returns its URL.
func (s *appendServer) newDatabase(ctx context.Context) (string, error) {
	u, err := url.Parse(s.address)
	if err != nil {
		return "", errors.New("bench: the address of PostgreSQL is not a URL") // without it: it holds a password
	}
	name := "millrace_bench_" + strings.ToLower(rand.Text()[:12])
	if _, err := s.admin.Exec(ctx, `CREATE DATABASE `+name); err != nil {
		return "", fmt.Errorf("bench: creating a database: %w", err)
	}
	s.databases = append(s.databases, name)
	u.Path = "/" + name
	if err := migrations.Up(ctx, u.String()); err != nil {
		return "", err
	}
	return u.String(), migrations.Init(ctx, u.String(), migrations.Settings{Currency: "GBP", TimeZone: "Europe/London"})
}

// startWriter runs a writer as an api process does, on the benches' own kind of stream.
func (s *appendServer) startWriter(ctx context.Context, l *lab, databaseURL string) (err error) {
	if s.pool, err = newWriterPool(ctx, databaseURL); err != nil {
		return err
	}
	log, err := postgres.OpenLog(ctx, s.pool, es.NewCodec(noted{}))
	if err != nil {
		return err
	}
	s.writer = postgres.NewWriter(log, postgres.WriterOptions{Categories: []*es.Category{notes.Category}, Log: l.Logger})
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stopW, s.ended = stop, &errgroup.Group{}
	s.ended.Go(func() error { return s.writer.Run(running) })
	return nil
}

// newWriterPool opens connections like those that an api process gives its writer.
func newWriterPool(ctx context.Context, databaseURL string) (*pgxpool.Pool, error) {
	return newPoolWith(ctx, databaseURL, writerConnections, postgres.SessionSettings)
}

func newPool(ctx context.Context, databaseURL string, connections int32) (*pgxpool.Pool, error) {
	return newPoolWith(ctx, databaseURL, connections, nil)
}

func newPoolWith(ctx context.Context, databaseURL string, connections int32, parameters map[string]string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("bench: connecting to PostgreSQL: %w", err)
	}
	config.MaxConns, config.MinConns = connections, connections
	maps.Copy(config.ConnConfig.RuntimeParams, parameters)
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("bench: connecting to PostgreSQL: %w", err)
	}
	return pool, nil
}

// stop ends the parts, drops the databases where the server stays, and removes it where it was private.
func (s *appendServer) stop(ctx context.Context) error {
	var err error
	if s.stopW != nil {
		s.stopW()
		err = s.ended.Wait()
	}
	for _, pool := range []*pgxpool.Pool{s.pool, s.plain} {
		if pool != nil {
			pool.Close()
		}
	}
	if s.admin != nil {
		if s.stack == nil {
			for _, name := range s.databases {
				if _, dropErr := s.admin.Exec(ctx, `DROP DATABASE `+name+` WITH (FORCE)`); dropErr != nil {
					err = errors.Join(err, fmt.Errorf("bench: dropping the database %s: %w", name, dropErr))
				}
			}
		}
		err = errors.Join(err, s.admin.Close(ctx))
	}
	if s.stack != nil {
		err = errors.Join(err, s.stack.Stop(ctx), os.RemoveAll(s.dir))
	}
	return err
}
