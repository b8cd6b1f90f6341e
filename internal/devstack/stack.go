package devstack

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options say what to start and where.
type Options struct {
	// Dir is the data directory; it is created where needed.
	Dir string
	// Log takes what the stack has to say; nil means slog's default.
	Log *slog.Logger
	// Replicas is the number of streaming read replicas; 0 means 1, a negative number none.
	Replicas int
	// PostgresMaxConnections bounds the connections to each PostgreSQL server; 0 means 200.
	PostgresMaxConnections int
	// PostgresSettings are added to the configuration of every PostgreSQL server, as postgresql.conf names them.
	PostgresSettings map[string]string
	// Supervise starts a child again that ended without having been told to.
	Supervise bool
}

// Stack is a set of private servers below one directory.
type Stack struct {
	dir      *dataDir
	log      *slog.Logger
	secrets  secrets
	primary  *Server
	replicas []*Server
	redis    *Server
	nats     *NATS

	stopSupervision context.CancelFunc
	supervisors     sync.WaitGroup
	stopOnce        sync.Once
	stopErr         error
}

// Start starts all servers below o.Dir and returns once they take work. The context bounds the start only; the
// servers run until [Stack.Stop]. An error is one sentence for the person who started it, and leaves nothing running.
func Start(ctx context.Context, o Options) (*Stack, error) {
	began := time.Now()
	o.Log = cmp.Or(o.Log, slog.Default())
	dir, err := openDir(o.Dir, o.Log)
	if err != nil {
		return nil, err
	}
	s := &Stack{dir: dir, log: o.Log}
	if err := s.start(ctx, o); err != nil {
		return nil, errors.Join(err, s.Stop(context.WithoutCancel(ctx)))
	}
	s.log.Info("servers are ready", "dir", dir.path, "postgres", s.primary.Addr(), "replicas", len(s.replicas),
		"redis", s.redis.Addr(), "nats", s.nats.Addr(), "took", time.Since(began).Round(time.Millisecond))
	return s, nil
}

func (s *Stack) start(ctx context.Context, o Options) error {
	if err := s.plan(ctx, o); err != nil {
		return err
	}
	if err := endOrphans(ctx, s.dir, s.log); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.startPostgres(groupCtx) })
	group.Go(func() error { return s.redis.Start(groupCtx) })
	group.Go(func() error { return s.nats.Start(groupCtx) })
	if err := group.Wait(); err != nil {
		return err
	}
	if o.Supervise {
		s.superviseAll(ctx)
	}
	return s.dir.publish(s.Endpoints())
}

// plan finds the programs, the user and the passwords, and makes the servers, none of them started.
func (s *Stack) plan(ctx context.Context, o Options) error {
	version, err := dataVersion(s.dir.join("postgres", "primary"))
	if err != nil {
		return err
	}
	programs, err := findPostgres(ctx, version)
	if err != nil {
		return err
	}
	redisProgram, err := findRedis()
	if err != nil {
		return err
	}
	who, err := chooseIdentity(ctx, s.dir)
	if err != nil {
		return err
	}
	if s.secrets, err = s.dir.loadSecrets(); err != nil {
		return err
	}
	ports, err := s.dir.loadPorts()
	if err != nil {
		return err
	}
	if err := errors.Join(
		who.mkdir(s.dir.join("postgres")), who.mkdir(s.dir.join("redis")), identity{}.mkdir(s.dir.join("log")),
	); err != nil {
		return err
	}
	newServer := func(id, name string, f flavor) *Server {
		return &Server{id: id, name: name, flavor: f, ports: ports, log: s.log, logs: logFile{path: s.dir.join("log", id+".log")}}
	}
	newPostgres := func(id string) *postgresServer {
		return &postgresServer{programs: programs, identity: who, dir: s.dir.join("postgres", id), cluster: s.dir.tag() + "-" + id,
			secrets: s.secrets, settings: o.postgresSettings()}
	}
	s.primary = newServer("primary", "PostgreSQL primary", newPostgres("primary"))
	for i := range o.replicas() {
		id := fmt.Sprintf("replica-%d", i+1)
		replica := newPostgres(id)
		replica.upstream, replica.slot = s.primary, fmt.Sprintf("replica_%d", i+1)
		s.replicas = append(s.replicas, newServer(id, fmt.Sprintf("PostgreSQL replica %d", i+1), replica))
	}
	s.redis = newServer("redis", "Redis", &redisServer{program: redisProgram, identity: who, dir: s.dir.join("redis"), password: s.secrets.Redis})
	s.nats = &NATS{store: s.dir.join("nats"), password: s.secrets.NATS, log: s.log,
		pick: func(ctx context.Context) (int, error) { return ports.take(ctx, "nats") }}
	return nil
}

func (o Options) replicas() int {
	if o.Replicas == 0 {
		return 1
	}
	return max(0, o.Replicas)
}

func (o Options) postgresSettings() map[string]string {
	settings := map[string]string{}
	if o.PostgresMaxConnections > 0 {
		settings["max_connections"] = fmt.Sprint(o.PostgresMaxConnections)
	}
	for name, value := range o.PostgresSettings {
		settings[name] = value
	}
	return settings
}

// tag marks the processes of this directory in the machine's process list.
func (d *dataDir) tag() string {
	sum := sha256.Sum256([]byte(d.path))
	return "millrace-" + hex.EncodeToString(sum[:5])
}

// startPostgres starts the primary and then the replicas, each made where it is missing.
func (s *Stack) startPostgres(ctx context.Context) error {
	primary := s.primary.flavor.(*postgresServer)
	if err := primary.initialise(ctx, &logFile{path: s.dir.join("log", "initdb.log")}); err != nil {
		return err
	}
	if err := s.primary.Start(ctx); err != nil {
		return err
	}
	if err := primary.prepare(ctx, s.primary.portNumber()); err != nil {
		return err
	}
	// One copy after the other: the checkpoint that begins a copy may remove the part of the log that another one has just
	// begun with, and has not reserved yet.
	for _, server := range s.replicas {
		if err := s.copyIfMissing(ctx, server.flavor.(*postgresServer)); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, server := range s.replicas {
		group.Go(func() error { return server.Start(ctx) })
	}
	return group.Wait()
}

func (s *Stack) copyIfMissing(ctx context.Context, replica *postgresServer) error {
	missing, err := replica.needsCopy(ctx)
	if err != nil || !missing {
		return err
	}
	return replica.copyPrimary(ctx, &logFile{path: s.dir.join("log", "basebackup.log")})
}

// superviseAll starts one supervisor a child. They outlive the context of the start and end with Stop.
func (s *Stack) superviseAll(ctx context.Context) {
	ctx, s.stopSupervision = context.WithCancel(context.WithoutCancel(ctx))
	for _, server := range s.children() {
		s.supervisors.Go(func() { server.supervise(ctx) })
	}
}

func (s *Stack) children() []*Server {
	var all []*Server
	for _, server := range append([]*Server{s.primary, s.redis}, s.replicas...) {
		if server != nil {
			all = append(all, server)
		}
	}
	return all
}

// Stop ends all servers in order, by force those that are not gone when the context ends, and frees the directory.
// Later calls return what the first one returned.
func (s *Stack) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() { s.stopErr = s.stop(ctx) })
	return s.stopErr
}

func (s *Stack) stop(ctx context.Context) error {
	if s.stopSupervision != nil {
		s.stopSupervision()
		s.supervisors.Wait()
	}
	var group errgroup.Group
	if s.nats != nil {
		group.Go(func() error { return s.nats.Stop(ctx) })
	}
	for _, server := range s.children() {
		group.Go(func() error { return server.Stop(ctx) })
	}
	return errors.Join(group.Wait(), s.dir.unpublish(), s.dir.release())
}

// Primary is the PostgreSQL server that holds the log.
func (s *Stack) Primary() *Server { return s.primary }

// Replica is the i-th read replica, counted from 0.
func (s *Stack) Replica(i int) *Server { return s.replicas[i] }

// Redis is the Redis (or Valkey) server.
func (s *Stack) Redis() *Server { return s.redis }

// NATS is the NATS server inside this process.
func (s *Stack) NATS() *NATS { return s.nats }

// PostgresURL names the database on the primary, as the user who owns it.
func (s *Stack) PostgresURL() string { return s.primary.URL() }

// ReplicaURLs name the same database on every replica.
func (s *Stack) ReplicaURLs() []string { return s.Endpoints().ReplicaURLs }

// RedisURL names the Redis server with its password.
func (s *Stack) RedisURL() string { return s.redis.URL() }

// NATSURL names the NATS server with its user and password.
func (s *Stack) NATSURL() string { return s.nats.URL() }

// AdminURL names the primary's maintenance database, as a superuser.
func (s *Stack) AdminURL() string {
	return s.primary.flavor.(*postgresServer).adminURL(s.primary.portNumber())
}
