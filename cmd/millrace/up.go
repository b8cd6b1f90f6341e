package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/devstack"
	"github.com/millrace/millrace/processes/sandbox"
)

// upCommand runs a whole shop on this machine.
type upCommand struct {
	dataFlag
	shopFlags
	lagFlags
	windowFlag
	writeFlags
	apiFlags
	serviceFlags
	Introspection toggle `default:"on" env:"MILLRACE_INTROSPECTION" help:"Let clients read the schema, and serve GraphiQL: on or off."`
	Sample        toggle `default:"on" env:"MILLRACE_SAMPLE" help:"Load the sample catalogue and orders into an empty log: on or off."`
}

// running is what a running "up" tells other processes of the same user, in up.json.
type running struct {
	GraphQLURL string `json:"graphql_url"`
	StaffToken string `json:"staff_token"`
	PID        int    `json:"pid"`
}

func runningFile(dir string) string { return filepath.Join(dir, "up.json") }

const stopServersWithin = 30 * time.Second

// Run starts the servers and all roles, and works until the process is told to stop.
func (c *upCommand) Run(ctx context.Context, out *console) (err error) {
	// Before anything is started for them.
	if err := errors.Join(c.shopFlags.check(), c.lagFlags.check(), c.windowFlag.check(), c.writeFlags.check(), c.apiFlags.check(), c.serviceFlags.check()); err != nil {
		return err
	}
	if err := c.checkAddrs(ctx, c.serviceFlags); errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%w (make run ARGS='--addr 127.0.0.1:8081')", err)
	} else if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { fmt.Fprintln(out.err, "Stopping; Ctrl-C again ends it at once.") })()
	fmt.Fprintf(out.err, "Starting PostgreSQL (primary and replica), Redis and NATS below %s ...\n", c.Data)
	stack, err := devstack.Start(ctx, devstack.Options{Dir: c.Data, Log: out.log, Supervise: true})
	if err != nil {
		return err
	}
	defer func() {
		stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopServersWithin)
		defer cancel()
		err = errors.Join(err, stack.Stop(stopping))
	}()
	secret, err := ensureSecret(c.Data)
	if err != nil {
		return err
	}
	if err := migrate(ctx, stack.PostgresURL(), c.shopFlags, 0); err != nil {
		return err
	}
	s, err := openShop(ctx, serverFlags{
		logFlags:    logFlags{dataFlag: c.dataFlag, shopFlags: c.shopFlags, DatabaseURL: stack.PostgresURL()},
		ReplicaURLs: stack.ReplicaURLs(), RedisURL: stack.RedisURL(), NATSURL: stack.NATSURL(), SecretKey: secret,
	}, c.lagFlags, out.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	return c.serve(ctx, s, out)
}

// serve runs every role in this process.
func (c *upCommand) serve(ctx context.Context, s *shop, out *console) error {
	relay := s.relay(c.StreamWindow, 1)
	side, err := s.writeSide(c.writeFlags, relay.Offer)
	if err != nil {
		return err
	}
	models := s.models()
	// For as long as the API is served. It takes no shares of rebuilds: a replay on this machine keeps its cores busy by itself, and a
	// share folded in here would take them, and memory, from the API and the servers.
	if err := s.worker(s.ctx, allProjections(), false); err != nil {
		return err
	}
	if err := s.process(side, models, sandbox.Provider{}); err != nil {
		return err
	}
	if err := awaitReady(ctx, models); err != nil {
		return err
	}
	if c.Sample {
		if err := s.loadSample(ctx, c.Data, side, models, out); err != nil {
			return err
		}
	}
	if c.StaffToken == "" {
		c.StaffToken = randomHex(16)
	}
	return c.apiFlags.serve(ctx, s, side, models, bool(c.Introspection), c.serviceFlags, func(addr net.Addr) error {
		url := "http://" + addr.String()
		content, err := json.Marshal(running{GraphQLURL: url + "/graphql", StaffToken: c.StaffToken, PID: os.Getpid()})
		if err != nil {
			return err
		}
		if err := writeFileAtomically(runningFile(c.Data), content); err != nil {
			return fmt.Errorf("telling other processes where the API is: %w", err)
		}
		fmt.Fprintf(out.out, "\nMillrace is ready.\n  GraphQL      %s/graphql\n  GraphiQL     %s/\n  Staff token  %s\n  Data         %s\n\nCtrl-C stops it; the data stays.\n",
			url, url, c.StaffToken, c.Data)
		return nil
	})
}

// readRunning returns what the running "up" of a data directory tells.
func readRunning(dir string) (running, error) {
	var r running
	content, err := os.ReadFile(runningFile(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return r, usageError{fmt.Errorf("no millrace up has run in %s", dir)}
	}
	if err != nil {
		return r, fmt.Errorf("looking for a running millrace up: %w", err)
	}
	if err := json.Unmarshal(content, &r); err != nil {
		return r, fmt.Errorf("%s: %w", runningFile(dir), err)
	}
	return r, nil
}
