package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	neturl "net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/feed"
	"github.com/millrace/millrace/internal/jetstreamlog"
	"github.com/millrace/millrace/internal/postgres"
	"github.com/millrace/millrace/internal/projector"
	"github.com/millrace/millrace/internal/relay"
	"github.com/millrace/millrace/internal/vault"
	"github.com/millrace/millrace/migrations"
	"github.com/millrace/millrace/processes/payments"
	"github.com/millrace/millrace/projections/carts"
	"github.com/millrace/millrace/projections/catalogue"
	"github.com/millrace/millrace/projections/orders"
	"github.com/millrace/millrace/projections/sales"
	"github.com/millrace/millrace/projections/stock"
)

// allProjections are the read models and to-do lists of this release. A test runs the program with others.
var allProjections = func() []projector.Projection {
	return []projector.Projection{
		carts.Projection(), catalogue.Projection(), orders.Projection(), payments.Projection(), sales.Projection(), stock.Projection(),
	}
}

// namedProjections returns the projections with the names, all if there are none.
func namedProjections(names []string) ([]projector.Projection, error) {
	all := allProjections()
	if len(names) == 0 {
		return all, nil
	}
	var known []string
	for _, p := range all {
		known = append(known, p.Name)
	}
	for _, name := range names {
		if !slices.Contains(known, name) {
			return nil, usageError{fmt.Errorf("there is no projection %q; there are %s", name, strings.Join(known, ", "))}
		}
	}
	return slices.DeleteFunc(all, func(p projector.Projection) bool { return !slices.Contains(names, p.Name) }), nil
}

// shop is one process's connections to the servers of a shop, and the parts that its roles share.
type shop struct {
	flags    serverFlags
	logger   *slog.Logger
	registry *prometheus.Registry

	commandPool *pgxpool.Pool // the write path's own: no read or projection can starve it
	workPool    *pgxpool.Pool // projections, relay, processes
	readPool    *pgxpool.Pool // reads that no replica could answer
	replicas    []*pgxpool.Pool
	redis       redis.UniversalClient // reads of requests
	workRedis   redis.UniversalClient // projections
	limitRedis  redis.UniversalClient // rate limits: reads that wait for Redis do not hold them up
	nats        *nats.Conn

	log  *postgres.Log
	feed *feed.Feed
	// background is what has to run for the shop's parts to work, until close.
	background *errgroup.Group
	stop       context.CancelFunc
	ctx        context.Context // ends when one of them has ended
	// deciders are those of the background that give commands of their own accord. They stop first: the others record what these have under way.
	deciders     sync.WaitGroup
	deciding     context.Context // ends with ctx, or when they are to stop
	stopDeciding context.CancelFunc

	metrics *projector.Metrics
	reading *projector.Models // the reading side of the projections, which runs where a role asks for it

	mu      sync.Mutex
	telling []leaving
}

// leaving is a part that does without servers which do not answer.
type leaving interface{ LeftAlone() []string }

// tellOf has readiness name what a part does without.
func (s *shop) tellOf(part leaving) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.telling = append(s.telling, part)
}

// leftAlone names what the process does without at present.
func (s *shop) leftAlone() (names []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, part := range s.telling {
		names = append(names, part.LeftAlone()...)
	}
	return names
}

// How many connections a process has at most to each server, by what they are for: what waits for the one holds up nothing of the others.
const (
	commandConnections = 7 // and one that the writer takes for itself, to append on
	workConnections    = 40
	readConnections    = 16
	replicaConnections = 32

	redisConnections      = 32 // of each kind, to each server
	redisLimitConnections = 16
)

// openShop connects to the servers and waits for their schema. What it starts runs until close, beyond ctx: a
// role drains while its parts still work.
func openShop(ctx context.Context, f serverFlags, lag lagFlags, logger *slog.Logger) (opened *shop, err error) {
	if err := f.resolve(); err != nil {
		return nil, err
	}
	s := &shop{flags: f, logger: logger, registry: prometheus.NewRegistry()}
	s.metrics = projector.NewMetrics(s.registry)
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if s.commandPool, err = openPool(f.DatabaseURL, commandConnections, "MILLRACE_DATABASE_URL", postgres.SessionSettings); err != nil {
		return nil, err
	}
	if s.workPool, err = openPool(f.DatabaseURL, workConnections, "MILLRACE_DATABASE_URL", nil); err != nil {
		return nil, err
	}
	if s.readPool, err = openPool(f.DatabaseURL, readConnections, "MILLRACE_DATABASE_URL", nil); err != nil {
		return nil, err
	}
	for _, url := range f.ReplicaURLs {
		replica, err := openPool(url, replicaConnections, "MILLRACE_REPLICA_URLS", nil)
		if err != nil {
			return nil, err
		}
		s.replicas = append(s.replicas, replica)
	}
	if s.redis, err = openRedis(f.RedisURL, redisConnections); err != nil {
		return nil, err
	}
	if s.workRedis, err = openRedis(f.RedisURL, redisConnections); err != nil {
		return nil, err
	}
	if s.limitRedis, err = openRedis(f.RedisURL, redisLimitConnections); err != nil {
		return nil, err
	}
	if f.NATSURL == "" {
		return nil, usageError{errors.New("MILLRACE_NATS_URL is not set")}
	}
	if s.nats, err = jetstreamlog.Connect(f.NATSURL, logger); err != nil {
		return nil, usageError{fmt.Errorf("MILLRACE_NATS_URL: %w", err)}
	}
	if s.log, err = awaitLog(ctx, s.workPool, f.shopFlags, logger); err != nil {
		return nil, err
	}
	if notices, err := s.log.NoticesFailovers(ctx); err != nil {
		return nil, err
	} else if !notices {
		logger.Warn("PostgreSQL does not tell on which server and timeline it is: run millrace epoch --raise after each failover and each restore")
	}
	s.feed = feed.New(feed.Options{
		Log: s.log, Info: s.log.Info(), Epoch: s.log.Epoch, Codec: commands.Codec(), NATS: s.nats, Logger: logger, Metrics: s.registry,
	})
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.background, s.ctx = errgroup.WithContext(background)
	s.stop = stop
	s.deciding, s.stopDeciding = context.WithCancel(s.ctx)
	s.start(s.feed.Run)
	s.start(collectGarbage)
	select {
	case <-s.feed.Ready():
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	s.reading, err = projector.NewModels(projector.ModelsOptions{
		Primary: s.readPool, Replicas: s.replicas, Redis: s.redis, Feed: s.feed, Info: s.log.Info(),
		Projections: allProjections(), LagTarget: lag.LagTarget, Logger: s.logger, Metrics: s.metrics,
	})
	if err != nil {
		return nil, err
	}
	s.tellOf(s.reading)
	s.registry.MustRegister(projector.NewLagCollector(s.reading))
	return s, nil
}

// start runs a part until close.
func (s *shop) start(run func(context.Context) error) {
	s.background.Go(func() error { return run(s.ctx) })
}

// startDeciding runs a part that gives commands of its own accord until close, which waits for it before it stops any other.
func (s *shop) startDeciding(run func(context.Context) error) {
	s.deciders.Add(1)
	s.background.Go(func() error {
		defer s.deciders.Done()
		return run(s.deciding)
	})
}

// failed is closed when a part that has to run has ended.
func (s *shop) failed() <-chan struct{} { return s.ctx.Done() }

// close stops the parts, deciders first, and returns what made one of them fail.
func (s *shop) close() error {
	var err error
	if s.stop != nil {
		s.stopDeciding()
		s.deciders.Wait()
		s.stop()
		err = s.background.Wait()
	}
	for _, pool := range append([]*pgxpool.Pool{s.commandPool, s.workPool, s.readPool}, s.replicas...) {
		if pool != nil {
			pool.Close()
		}
	}
	for _, client := range []redis.UniversalClient{s.redis, s.workRedis, s.limitRedis} {
		if client != nil {
			err = errors.Join(err, client.Close())
		}
	}
	if s.nats != nil {
		s.nats.Close()
	}
	return err
}

// connectTimeout bounds the opening of a connection to PostgreSQL, login included.
const connectTimeout = 3 * time.Second

// openPool opens a pool; parameters are settings of PostgreSQL for its sessions.
func openPool(url string, connections int32, setting string, parameters map[string]string) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w", setting, err)}
	}
	config.MaxConns = connections
	config.ConnConfig.ConnectTimeout = connectTimeout
	dialer := &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3}}
	config.ConnConfig.DialFunc = dialer.DialContext // a machine that is gone is noticed in half a minute, whoever waits for it
	maps.Copy(config.ConnConfig.RuntimeParams, parameters)
	config.ConnConfig.RuntimeParams["timezone"] = "UTC"
	config.ConnConfig.RuntimeParams["application_name"] = "millrace"
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return pool, nil
}

func openRedis(urls string, connections int) (redis.UniversalClient, error) {
	if urls == "" {
		return nil, usageError{errors.New("MILLRACE_REDIS_URL is not set")}
	}
	var addrs []string
	var first *redis.Options
	for url := range strings.SplitSeq(urls, ",") {
		o, err := redis.ParseURL(url)
		if err != nil {
			var quoted *neturl.Error // which quotes the whole URL, password and all
			if errors.As(err, &quoted) {
				err = quoted.Err
			}
			return nil, usageError{fmt.Errorf("MILLRACE_REDIS_URL: %w", err)}
		}
		if first == nil {
			first = o
		}
		addrs = append(addrs, o.Addr)
	}
	return redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: addrs, Username: first.Username, Password: first.Password, DB: first.DB, TLSConfig: first.TLSConfig,
		PoolSize: connections, DialTimeout: time.Second, ReadTimeout: 2 * time.Second, WriteTimeout: 2 * time.Second, MaxRetries: 1,
		ContextTimeoutEnabled: true, // a server that hangs must not cost more than the caller allows
	}), nil
}

// awaitLog opens the log, waiting until "up" or "migrate" has made it. It has to have the settings that the flags name.
func awaitLog(ctx context.Context, pool *pgxpool.Pool, f shopFlags, logger *slog.Logger) (*postgres.Log, error) {
	said := ""
	for {
		log, err := postgres.OpenLog(ctx, pool, commands.Codec())
		if err == nil {
			err = migrations.Check(ctx, pool)
		}
		epoch := 0
		if err == nil {
			epoch, err = log.Epoch(ctx)
		}
		if err == nil && epoch != log.Info().Epoch { // this process is the first to notice that the log has moved
			err = fmt.Errorf("the log enters epoch %d", epoch)
		}
		if err == nil {
			return log, checkSettings(log.Info(), f)
		}
		if said != err.Error() {
			said = err.Error()
			logger.Info("waiting for the database", "reason", err)
		}
		select {
		case <-ctx.Done():
			if at := pool.Config().ConnConfig; silent(err) && errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, fmt.Errorf("PostgreSQL at %s does not answer", net.JoinHostPort(at.Host, strconv.Itoa(int(at.Port))))
			}
			return nil, fmt.Errorf("waiting for the database: %w: %w", ctx.Err(), err)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// silent reports whether an error means that PostgreSQL did not answer, rather than that it has no log or refused to say.
func silent(err error) bool {
	var refused *pgconn.PgError
	var unreached *pgconn.ConnectError
	return !errors.As(err, &refused) && (errors.Is(err, context.DeadlineExceeded) || errors.As(err, &unreached))
}

func checkSettings(log es.Log, f shopFlags) error {
	if f.Currency != "" && !strings.EqualFold(f.Currency, log.Currency) {
		return usageError{&migrations.SettingsError{Setting: "currency", Log: log.Currency, Asked: f.Currency}}
	}
	if f.TimeZone != "" && f.TimeZone != log.TimeZone {
		return usageError{&migrations.SettingsError{Setting: "time zone", Log: log.TimeZone, Asked: f.TimeZone}}
	}
	return nil
}

// models starts the reading side of the projections. It is called once.
func (s *shop) models() *projector.Models {
	s.start(s.reading.Run)
	return s.reading
}

// writeSide is what decides commands in this process.
type writeSide struct {
	app    *commands.App
	writer *postgres.Writer
	vault  *vault.Vault
	// guard is closed while the primary takes commands.
	guard guard
}

// logAway reports whether the log takes no commands at present. The writer knows it as soon as one append is not answered, its breaker only
// when three calls in a row were not.
func (w *writeSide) logAway() bool { return w.writer.Down() != nil || w.guard.Waits() }

// refuses reports whether a mutation is to be refused because the log takes no commands, and counts it among the calls that were not made.
func (w *writeSide) refuses() bool {
	away := w.logAway()
	if away {
		w.guard.Refuse()
	}
	return away
}

// LeftAlone names commands while the log takes none, for readiness.
func (w *writeSide) LeftAlone() []string {
	if w.writer.Down() != nil {
		return []string{w.guard.Name()}
	}
	return w.guard.LeftAlone()
}

// writeSide starts the write side. Offer, if not nil, hands what was committed to a relay of this process.
func (s *shop) writeSide(f writeFlags, offer func([]es.Event)) (*writeSide, error) {
	secret, err := s.flags.secret()
	if err != nil {
		return nil, err
	}
	side := &writeSide{guard: s.newSilentGuard("commands")}
	if side.vault, err = vault.New(vault.Options{Pool: s.commandPool, OpenPool: s.readPool, Secret: secret}); err != nil {
		return nil, err
	}
	if offer == nil {
		poker := relay.NewPoker(s.nats) // a NATS that takes nothing must not hold up commands
		s.start(poker.Run)
		offer = func(events []es.Event) { poker.Poke(events[len(events)-1].Position) }
	}
	side.writer = postgres.NewWriter(s.log.On(s.commandPool), postgres.WriterOptions{
		Categories: commands.Categories(), Log: s.logger, OnAppend: offer, Metrics: s.registry,
		CachedBytes: f.StateCache << 20, KeepKeys: f.IdempotencyKept,
	})
	s.start(side.writer.Run)
	s.tellOf(side)
	side.app, err = commands.New(commands.Dependencies{
		Executor: guardedExecutor{side.writer, side.guard}, Reader: guardedReader{s.log.On(s.readPool), side.guard},
		Vault: guardedVault{side.vault, side.guard}, Secret: secret,
		Currency: money.Currency(s.log.Info().Currency), PaymentDeadline: f.PaymentDeadline,
	})
	return side, err
}
