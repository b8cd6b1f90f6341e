// Package stacktest gives tests real servers: a database, a NATS server and a share of Redis for each test, on
// servers that the tests of a process, or of all processes, have in common.
//
// A package's TestMain hands over to [Main]. A test calls [New] for its own environment, which is cheap, or [Private]
// for servers of its own when it kills, stops or empties them.
//
//	func TestMain(m *testing.M) { stacktest.Main(m) }
//
//	func TestAppend(t *testing.T) {
//		t.Parallel()
//		env := stacktest.New(t)
//		pool, err := pgxpool.New(t.Context(), env.DatabaseURL)
//		...
//	}
//
// Tests of one log are told apart in Redis by the log's identity, which prefixes every key.
//
// When the environment variable MILLRACE_TEST_STACK names the file of a running stack (see the program teststack), its
// servers are used; otherwise the first test that needs them starts them, and Main stops them at the end.
package stacktest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/devstack"
	"github.com/millrace/millrace/migrations"
)

// StackVariable is the environment variable that names the file with the endpoints of a running stack.
const StackVariable = "MILLRACE_TEST_STACK"

const (
	template     = "millrace_template"
	startTimeout = 2 * time.Minute
	stopTimeout  = time.Minute
)

// Env is what one test has for itself.
type Env struct {
	// DatabaseURL names a database on the primary, migrated and with a log of its own identity.
	DatabaseURL string
	// ReplicaURLs name the same database on each replica.
	ReplicaURLs []string
	// AdminURL names the same database, as a superuser.
	AdminURL string
	// RedisURL names the Redis that tests share.
	RedisURL string
	// NATSURL names a NATS server with JetStream that belongs to the test alone.
	NATSURL string
	// NATS is that server, to be stopped, started and wiped at will.
	NATS *devstack.NATS
}

// Option changes what New makes.
type Option func(*options)

type options struct {
	settings migrations.Settings
	empty    bool
	noNATS   bool
	replicas int
}

// WithSettings creates the log with other settings than a partition count, currency and time zone of its own choice
// (16, GBP, Europe/London).
func WithSettings(s migrations.Settings) Option { return func(o *options) { o.settings = s } }

// WithEmptyDatabase gives a database without any schema, for tests of migrations.
func WithEmptyDatabase() Option { return func(o *options) { o.empty = true } }

// WithoutNATS leaves the NATS server out.
func WithoutNATS() Option { return func(o *options) { o.noNATS = true } }

// WithReplicas gives the servers of Private so many replicas instead of one. The servers that New hands out are shared, and
// have one.
func WithReplicas(n int) Option { return func(o *options) { o.replicas = n } }

// shared is the stack that the tests of this process use.
var shared struct {
	once  sync.Once
	err   error
	dir   string
	stack *devstack.Stack // nil when another process runs it
	pools *pools
}

// pools are connections for the harness's own statements, as superuser on the maintenance databases.
type pools struct {
	endpoints devstack.Endpoints
	primary   *pgxpool.Pool
	replicas  []*pgxpool.Pool
}

// Main runs the tests of a package and then stops the servers that they started. It is the whole of a TestMain.
func Main(m *testing.M) {
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, "stacktest: stopping the servers:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func stopShared() error {
	if shared.pools != nil {
		shared.pools.close()
	}
	if shared.stack == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return errors.Join(shared.stack.Stop(ctx), os.RemoveAll(shared.dir))
}

// New gives the test a database, a NATS server and access to Redis. It may be called by parallel tests, and as often
// as a test likes. Everything is removed when the test ends.
func New(t testing.TB, opts ...Option) *Env {
	t.Helper()
	o := options{settings: migrations.Settings{Currency: "GBP", TimeZone: "Europe/London"}}
	for _, opt := range opts {
		opt(&o)
	}
	shared.once.Do(startShared)
	if shared.err != nil {
		t.Fatalf("stacktest: %v", shared.err)
	}
	p := shared.pools
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	name := "test_" + strings.ToLower(rand.Text()[:16])
	if err := p.createDatabase(ctx, name, o.empty); err != nil {
		t.Fatalf("stacktest: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if _, err := p.primary.Exec(ctx, `DROP DATABASE `+name+` WITH (FORCE)`); err != nil {
			t.Errorf("stacktest: dropping the database %s: %v", name, err)
		}
	})
	env := &Env{
		DatabaseURL: inDatabase(p.endpoints.PostgresURL, name),
		AdminURL:    inDatabase(p.endpoints.AdminURL, name),
		RedisURL:    p.endpoints.RedisURL,
	}
	if !o.empty {
		if err := migrations.Init(ctx, env.DatabaseURL, o.settings); err != nil {
			t.Fatalf("stacktest: %v", err)
		}
	}
	if err := p.awaitReplicas(ctx); err != nil {
		t.Fatalf("stacktest: %v", err)
	}
	for _, replica := range p.endpoints.ReplicaURLs {
		env.ReplicaURLs = append(env.ReplicaURLs, inDatabase(replica, name))
	}
	if !o.noNATS {
		env.startNATS(ctx, t)
	}
	return env
}

func (e *Env) startNATS(ctx context.Context, t testing.TB) {
	t.Helper()
	nats, err := devstack.StartNATS(ctx, t.TempDir(), quiet())
	if err != nil {
		t.Fatalf("stacktest: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := nats.Stop(ctx); err != nil {
			t.Errorf("stacktest: stopping NATS: %v", err)
		}
	})
	e.NATS, e.NATSURL = nats, nats.URL()
}

// Private gives the test servers of its own, to be killed, paused, stopped and emptied. The database that its URLs name
// is migrated and has a log. It takes some seconds.
func Private(t testing.TB, opts ...Option) *devstack.Stack {
	t.Helper()
	o := options{settings: migrations.Settings{Currency: "GBP", TimeZone: "Europe/London"}}
	for _, opt := range opts {
		opt(&o)
	}
	ctx, cancel := context.WithTimeout(t.Context(), startTimeout)
	defer cancel()
	stack, err := devstack.Start(ctx, devstack.Options{
		Dir: t.TempDir(), Log: quiet(), Replicas: o.replicas, PostgresSettings: testSettings(),
	})
	if err != nil {
		t.Fatalf("stacktest: %v", err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		if err := stack.Stop(ctx); err != nil {
			t.Errorf("stacktest: stopping the private servers: %v", err)
		}
	})
	if o.empty {
		return stack
	}
	if err := errors.Join(migrations.Up(ctx, stack.PostgresURL())); err != nil {
		t.Fatalf("stacktest: %v", err)
	}
	if err := migrations.Init(ctx, stack.PostgresURL(), o.settings); err != nil {
		t.Fatalf("stacktest: %v", err)
	}
	return stack
}

// StartStack starts the servers that tests share, below a directory, and prepares them.
func StartStack(ctx context.Context, dir string) (*devstack.Stack, error) {
	return devstack.Start(ctx, devstack.Options{Dir: dir, Log: quiet(), PostgresSettings: testSettings()})
}

// testSettings suit many small databases that a test's crash must not harm but a power failure may: processes that are
// killed lose nothing that they have handed to the kernel.
func testSettings() map[string]string {
	return map[string]string{
		"fsync":          "off",
		"shared_buffers": "128MB",
		"max_wal_size":   "4GB",
		// A test's own connections come and go; the limit is for all tests together.
		"max_connections": "400",
	}
}

// quiet logs warnings and errors of the servers only.
func quiet() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// startShared connects to the running stack that the environment names, or starts one.
func startShared() {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	endpoints, err := sharedEndpoints(ctx)
	if err != nil {
		shared.err = err
		return
	}
	if shared.pools, shared.err = connect(ctx, endpoints); shared.err == nil {
		shared.err = shared.pools.makeTemplate(ctx)
	}
}

func sharedEndpoints(ctx context.Context) (devstack.Endpoints, error) {
	if file := os.Getenv(StackVariable); file != "" {
		return devstack.ReadEndpoints(file)
	}
	dir, err := os.MkdirTemp("", "millrace-test-*")
	if err != nil {
		return devstack.Endpoints{}, err
	}
	shared.dir = dir
	stack, err := StartStack(ctx, dir)
	if err != nil {
		return devstack.Endpoints{}, errors.Join(err, os.RemoveAll(dir))
	}
	shared.stack = stack
	return stack.Endpoints(), nil
}

func connect(ctx context.Context, e devstack.Endpoints) (*pools, error) {
	p := &pools{endpoints: e}
	var err error
	if p.primary, err = newPool(ctx, e.AdminURL); err != nil {
		return nil, err
	}
	for _, replica := range e.ReplicaURLs {
		pool, err := newPool(ctx, inDatabase(replica, "postgres"))
		if err != nil {
			p.close()
			return nil, err
		}
		p.replicas = append(p.replicas, pool)
	}
	return p, nil
}

func newPool(ctx context.Context, databaseURL string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(databaseURL)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	config.MaxConns = 4
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return pool, nil
}

func (p *pools) close() {
	p.primary.Close()
	for _, replica := range p.replicas {
		replica.Close()
	}
}

// makeTemplate makes the migrated database that tests' databases are copied from. Processes that share the stack make
// it once: the first to get the lock does, and renames it when complete.
func (p *pools) makeTemplate(ctx context.Context) error {
	conn, err := p.primary.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("making the template database: %w", err)
	}
	defer conn.Release()
	const lock = 7_305_803_412
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock($1)`, lock); err != nil {
		return fmt.Errorf("making the template database: %w", err)
	}
	if err := p.makeTemplateOnce(ctx, conn.Conn()); err != nil {
		return errors.Join(fmt.Errorf("making the template database: %w", err), conn.Conn().Close(context.WithoutCancel(ctx)))
	}
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_unlock($1)`, lock); err != nil {
		return fmt.Errorf("making the template database: %w", err)
	}
	return nil
}

func (p *pools) makeTemplateOnce(ctx context.Context, conn *pgx.Conn) error {
	var exists bool
	if err := conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, template).Scan(&exists); err != nil || exists {
		return err
	}
	const unfinished = template + "_unfinished"
	for _, statement := range []string{
		`DROP DATABASE IF EXISTS ` + unfinished + ` WITH (FORCE)`,
		`CREATE DATABASE ` + unfinished + ` OWNER ` + userOf(p.endpoints.PostgresURL),
	} {
		if _, err := conn.Exec(ctx, statement); err != nil {
			return err
		}
	}
	if err := migrations.Up(ctx, inDatabase(p.endpoints.PostgresURL, unfinished)); err != nil {
		return err
	}
	_, err := conn.Exec(ctx, `ALTER DATABASE `+unfinished+` RENAME TO `+template)
	return err
}

func (p *pools) createDatabase(ctx context.Context, name string, empty bool) error {
	source := template
	if empty {
		source = "template0"
	}
	_, err := p.primary.Exec(ctx, `CREATE DATABASE `+name+` TEMPLATE `+source+` OWNER `+userOf(p.endpoints.PostgresURL))
	if err != nil {
		return fmt.Errorf("creating a database: %w", err)
	}
	return nil
}

// awaitReplicas returns when every replica has applied what the primary has written so far.
func (p *pools) awaitReplicas(ctx context.Context) error {
	var lsn string
	if err := p.primary.QueryRow(ctx, `SELECT pg_current_wal_lsn()::text`).Scan(&lsn); err != nil {
		return fmt.Errorf("waiting for the replicas: %w", err)
	}
	for _, replica := range p.replicas {
		if err := awaitReplica(ctx, replica, lsn); err != nil {
			return fmt.Errorf("waiting for a replica: %w", err)
		}
	}
	return nil
}

func awaitReplica(ctx context.Context, replica *pgxpool.Pool, lsn string) error {
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for {
		var applied bool
		err := replica.QueryRow(ctx, `SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn`, lsn).Scan(&applied)
		if err != nil || applied {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// inDatabase is a database URL with another database's name.
func inDatabase(databaseURL, name string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		panic(err) // the harness made it
	}
	u.Path = "/" + name
	return u.String()
}

func userOf(databaseURL string) string {
	u, err := url.Parse(databaseURL)
	if err != nil {
		panic(err) // the harness made it
	}
	return u.User.Username()
}
