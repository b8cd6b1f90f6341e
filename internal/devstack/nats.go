package devstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"golang.org/x/crypto/bcrypt"
)

// NATS is a NATS server with JetStream that runs inside this process. Its methods are safe for use by several
// goroutines.
type NATS struct {
	store    string
	password string
	log      *slog.Logger
	pick     func(context.Context) (int, error)

	mu     sync.Mutex
	port   int
	server *server.Server // nil while it is down
}

const (
	natsUser         = "millrace"
	natsReadyTimeout = 20 * time.Second
	natsMaxMemory    = 256 << 20
	natsMaxStore     = 64 << 30
)

// StartNATS starts a NATS server of its own with its JetStream store in a directory, on a free port of the loopback
// address, for who needs no other server of a stack. The caller stops it.
func StartNATS(ctx context.Context, store string, log *slog.Logger) (*NATS, error) {
	pick := func(ctx context.Context) (int, error) { return freePort(ctx, func(int) bool { return false }) }
	n := &NATS{store: store, password: randomPassword(), log: log, pick: pick}
	if err := n.Start(ctx); err != nil {
		return nil, err
	}
	return n, nil
}

// Name says which server this is, for logs and errors.
func (n *NATS) Name() string { return "NATS" }

// URL is where clients find the server. It stays the same for as long as the stack lives.
func (n *NATS) URL() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	u := url.URL{Scheme: "nats", User: url.UserPassword(natsUser, n.password), Host: loopback(n.port)}
	return u.String()
}

// Addr is the server's host:port.
func (n *NATS) Addr() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return loopback(n.port)
}

// Start starts the server unless it runs, and returns once it takes work.
func (n *NATS) Start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.start(ctx)
}

func (n *NATS) start(ctx context.Context) error {
	if n.server != nil {
		return nil
	}
	port := n.port
	if port == 0 {
		var err error
		if port, err = n.pick(ctx); err != nil {
			return err
		}
	} else if !portFree(ctx, port) {
		return fmt.Errorf("devstack: the port of NATS, %s, is in use by another program", loopback(port))
	}
	if err := os.MkdirAll(n.store, 0o700); err != nil {
		return fmt.Errorf("devstack: creating the JetStream store: %w", err)
	}
	// The server warns of a password that is not hashed. This one is 192 random bits: the cheapest hash will do.
	hash, err := bcrypt.GenerateFromPassword([]byte(n.password), bcrypt.MinCost)
	if err != nil {
		return fmt.Errorf("devstack: starting NATS: %w", err)
	}
	srv, err := server.NewServer(&server.Options{
		ServerName:             "millrace",
		Host:                   "127.0.0.1",
		Port:                   port,
		Username:               natsUser,
		Password:               string(hash),
		JetStream:              true,
		StoreDir:               n.store,
		JetStreamMaxMemory:     natsMaxMemory,
		JetStreamMaxStore:      natsMaxStore,
		DisableJetStreamBanner: true,
		NoSigs:                 true, // signals are this process's own business
	})
	if err != nil {
		return fmt.Errorf("devstack: starting NATS: %w", err)
	}
	logger := &natsLogger{log: n.log}
	srv.SetLogger(logger, false, false)
	srv.Start() // returns; the server's goroutines end with Shutdown
	if !srv.ReadyForConnections(natsReadyTimeout) || !srv.JetStreamEnabled() {
		srv.Shutdown()
		srv.WaitForShutdown()
		return fmt.Errorf("devstack: NATS did not become ready: %w", logger.failure())
	}
	n.server, n.port = srv, port
	return nil
}

// Stop stops the server and returns when it has stopped. What JetStream has not synced to its disk yet is synced.
func (n *NATS) Stop(context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stop()
	return nil
}

func (n *NATS) stop() {
	if n.server == nil {
		return
	}
	n.server.Shutdown()
	n.server.WaitForShutdown()
	n.server = nil
}

// Restart stops the server and starts it on the same port with the same store.
func (n *NATS) Restart(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stop()
	return n.start(ctx)
}

// Wipe stops the server, deletes all that JetStream has stored, and starts it on the same port.
func (n *NATS) Wipe(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stop()
	if err := os.RemoveAll(n.store); err != nil {
		return fmt.Errorf("devstack: deleting the JetStream store: %w", err)
	}
	return n.start(ctx)
}

// natsLogger hands the server's log lines to slog. What is fatal to the server is not to this process.
type natsLogger struct {
	log *slog.Logger

	mu  sync.Mutex
	err error
}

func (l *natsLogger) Noticef(format string, v ...any) {
	l.log.Debug("nats: " + fmt.Sprintf(format, v...))
}
func (l *natsLogger) Warnf(format string, v ...any) { l.log.Warn("nats: " + fmt.Sprintf(format, v...)) }
func (l *natsLogger) Errorf(format string, v ...any) {
	l.log.Error("nats: " + fmt.Sprintf(format, v...))
}
func (l *natsLogger) Debugf(string, ...any) {}
func (l *natsLogger) Tracef(string, ...any) {}

func (l *natsLogger) Fatalf(format string, v ...any) {
	msg := fmt.Sprintf(format, v...)
	l.log.Error("nats: " + msg)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.err = errors.New(msg)
}

func (l *natsLogger) failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		return errors.New("it gave no reason")
	}
	return l.err
}
