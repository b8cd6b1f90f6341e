package devstack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// Server is one child process of a stack. Its methods are safe for use by several goroutines.
type Server struct {
	name   string // for people: "PostgreSQL primary"
	id     string // for files: "primary"
	flavor flavor
	ports  *ports
	log    *slog.Logger
	logs   logFile

	mu      sync.Mutex
	port    int
	process *process // nil before the first start
	up      bool     // it is meant to run; a supervisor starts it again if it ends
}

// flavor is what differs between the kinds of servers.
type flavor interface {
	// command writes the configuration for a port and returns how to start the server.
	command(port int) (*exec.Cmd, error)
	// ping returns nil once the server on the port takes work.
	ping(ctx context.Context, port int) error
	// url is where clients find the server.
	url(port int) string
	// stopSignal asks the server to end in order without waiting for its clients.
	stopSignal() syscall.Signal
}

// How long servers may take. PostgreSQL may have minutes of log to replay after a crash.
const (
	startTimeout = 3 * time.Minute
	stopTimeout  = 30 * time.Second
	pingInterval = 15 * time.Millisecond
)

// Name says which server this is, for logs and errors.
func (s *Server) Name() string { return s.name }

// URL is where clients find the server. It stays the same for as long as the stack lives.
func (s *Server) URL() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flavor.url(s.port)
}

// Addr is the server's host:port.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return loopback(s.port)
}

func (s *Server) portNumber() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.port
}

// Start starts the server unless it runs, and returns once it takes work.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up = true
	return s.start(ctx)
}

func (s *Server) start(ctx context.Context) error {
	if s.process != nil && s.process.running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	// Somebody else may take the port between the choice and the start: then choose again. A port that has
	// been told to clients is kept, and being taken is an error.
	const attempts = 3
	for attempt := 1; ; attempt++ {
		port := s.port
		if port == 0 {
			var err error
			if port, err = s.ports.take(ctx, s.id); err != nil {
				return err
			}
		}
		err := s.startOn(ctx, port)
		if err == nil {
			s.port = port
			return nil
		}
		if portFree(ctx, port) || ctx.Err() != nil {
			return err
		}
		if s.port != 0 || attempt == attempts {
			return fmt.Errorf("devstack: the port of the %s, %s, is in use by another program: %w", s.name, loopback(port), err)
		}
	}
}

func (s *Server) startOn(ctx context.Context, port int) error {
	began := time.Now()
	cmd, err := s.flavor.command(port)
	if err != nil {
		return err
	}
	out, err := s.logs.open()
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = out, out
	p, err := startProcess(cmd)
	closeErr := out.Close() // the child has its own descriptor
	if err != nil {
		return fmt.Errorf("devstack: starting the %s: %w", s.name, err)
	}
	if closeErr != nil {
		return errors.Join(fmt.Errorf("devstack: the log of the %s: %w", s.name, closeErr), p.kill())
	}
	s.process = p
	if err := s.await(ctx, p, port); err != nil {
		return errors.Join(err, s.end(context.WithoutCancel(ctx)))
	}
	s.log.Debug("server started", "server", s.name, "port", port, "took", time.Since(began))
	return nil
}

// await polls the server until it takes work, ends, or the context does.
func (s *Server) await(ctx context.Context, p *process, port int) error {
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	for {
		err := s.flavor.ping(ctx, port)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("devstack: the %s ended at its start (%w); its log %s ends with: %s", s.name, endOf(p), s.logs.path, s.logs.tail())
		case <-ctx.Done():
			return fmt.Errorf("devstack: the %s did not become ready (%w; %w); its log %s ends with: %s", s.name, ctx.Err(), err, s.logs.path, s.logs.tail())
		case <-ticker.C:
		}
	}
}

var errExit0 = errors.New("exit status 0")

func endOf(p *process) error {
	if p.err == nil {
		return errExit0
	}
	return p.err
}

// Stop ends the server in order, and by force when the context ends or it takes too long.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up = false
	return s.end(ctx)
}

func (s *Server) end(ctx context.Context) error {
	p := s.process
	if p == nil || !p.running() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	// It may be paused, and a paused process takes no signal but this.
	if _, err := p.signalTree(syscall.SIGCONT); err != nil {
		return err
	}
	if err := signal(p.pid(), s.flavor.stopSignal()); err != nil {
		return err
	}
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
	}
	s.log.Warn("server did not end when asked; killing it", "server", s.name)
	return p.kill()
}

// Kill ends the server and all its processes at once, as a crash of its machine would, except that what it has
// written without syncing survives. It returns when they are gone.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.up = false
	if s.process == nil {
		return nil
	}
	return s.process.kill()
}

// Pause freezes all the server's processes (SIGSTOP): connections stay open, nothing answers.
func (s *Server) Pause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil || !s.process.running() {
		return fmt.Errorf("devstack: pausing the %s: %w", s.name, os.ErrProcessDone)
	}
	_, err := s.process.signalTree(syscall.SIGSTOP)
	return err
}

// Resume lets a paused server go on.
func (s *Server) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.process == nil || !s.process.running() {
		return fmt.Errorf("devstack: resuming the %s: %w", s.name, os.ErrProcessDone)
	}
	_, err := s.process.signalTree(syscall.SIGCONT)
	return err
}

// Delays between attempts to start a server that ended by itself.
const (
	shortestRestartDelay = 200 * time.Millisecond
	longestRestartDelay  = 10 * time.Second
)

// supervise starts the server again whenever it ends without having been told to, until the context ends.
func (s *Server) supervise(ctx context.Context) {
	delay := shortestRestartDelay
	for {
		s.mu.Lock()
		p := s.process
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-p.done:
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(delay):
		}
		delay = min(2*delay, longestRestartDelay)
		if s.restart(ctx, p) {
			delay = shortestRestartDelay
		}
	}
}

// restart starts the server in place of the process p that ended, if it is meant to run.
func (s *Server) restart(ctx context.Context, p *process) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.up || s.process != p || ctx.Err() != nil {
		return false
	}
	s.log.Warn("server ended by itself; starting it again", "server", s.name, "end", endOf(p), "log", s.logs.path)
	if err := s.start(ctx); err != nil {
		s.log.Error("server did not start again", "server", s.name, "error", err)
		return false
	}
	return true
}
