package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/internal/projector"
	"github.com/millrace/millrace/internal/relay"
	"github.com/millrace/millrace/processes/payments"
	"github.com/millrace/millrace/processes/sandbox"
)

// relayCommand is the role that copies the log to JetStream.
type relayCommand struct {
	serverFlags
	lagFlags
	windowFlag
	serviceFlags
	StreamReplicas int `default:"1" env:"MILLRACE_STREAM_REPLICAS" help:"How many servers of a NATS cluster keep the copy, from when it is made."`
}

// Run works until the process is told to stop.
func (c *relayCommand) Run(ctx context.Context, out *console) error {
	if err := errors.Join(c.windowFlag.check(), aboveZero("--stream-replicas (MILLRACE_STREAM_REPLICAS)", c.StreamReplicas)); err != nil {
		return err
	}
	return c.role(ctx, c.serverFlags, c.lagFlags, out, "relay", func(s *shop) error {
		s.relay(c.StreamWindow, c.StreamReplicas)
		return nil
	})
}

// relay starts copying the log. Several relays may run at once.
func (s *shop) relay(window int64, replicas int) *relay.Relay {
	r := relay.New(relay.Options{
		Log: s.log.Undecoded(), Info: s.log.Info(), Epoch: s.log.Epoch, NATS: s.nats, Window: window, Replicas: replicas, Logger: s.logger, Metrics: s.registry,
	})
	s.start(r.Run)
	return r
}

// workerCommand is the role that keeps read models.
type workerCommand struct {
	serverFlags
	lagFlags
	serviceFlags
	Projection    []string `placeholder:"NAME" help:"Keep only this read model; may be repeated."`
	ShareRebuilds toggle   `default:"on" env:"MILLRACE_SHARE_REBUILDS" help:"Take shares of the rebuilds that others run: on or off."`
}

// Run works until the process is told to stop.
func (c *workerCommand) Run(ctx context.Context, out *console) error {
	projections, err := namedProjections(c.Projection)
	if err != nil {
		return err
	}
	return c.role(ctx, c.serverFlags, c.lagFlags, out, "worker", func(s *shop) error { return s.worker(ctx, projections, bool(c.ShareRebuilds)) })
}

// worker starts keeping read models, and taking shares of rebuilds if it helps, until the context ends: nobody asks a worker anything,
// and so it hands over at once where others drain first.
func (s *shop) worker(ctx context.Context, projections []projector.Projection, helps bool) error {
	w, err := projector.NewWorker(projector.WorkerOptions{
		Pool: s.workPool, Redis: s.workRedis, Feed: s.feed, Log: s.log, Codec: commands.Codec(), Info: s.log.Info(),
		Projections: projections, Helps: helps, Logger: s.logger, Metrics: s.metrics,
	})
	if err != nil {
		return err
	}
	s.start(func(running context.Context) error {
		running, cancel := context.WithCancel(running)
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		return w.Run(running)
	})
	return nil
}

// processCommand is the role that does what events ask for.
type processCommand struct {
	serverFlags
	lagFlags
	writeFlags
	serviceFlags
}

// Run works until the process is told to stop.
func (c *processCommand) Run(ctx context.Context, out *console) error {
	if err := c.writeFlags.check(); err != nil {
		return err
	}
	if err := c.resolveSecret(); err != nil {
		return err
	}
	return c.role(ctx, c.serverFlags, c.lagFlags, out, "process", func(s *shop) error {
		side, err := s.writeSide(c.writeFlags, nil)
		if err != nil {
			return err
		}
		models := s.models()
		return s.process(side, models, sandbox.Provider{})
	})
}

// process starts the process managers. What the provider has been asked when they are to stop is recorded, within the lease of a task.
func (s *shop) process(side *writeSide, models *projector.Models, provider payments.Provider) error {
	runner, err := payments.New(payments.Options{
		Commands: side.app, Models: models, Feed: s.feed, Pool: s.workPool, Provider: provider, Logger: s.logger,
		Metrics: payments.NewMetrics(s.registry),
	})
	if err != nil {
		return fmt.Errorf("the payment process: %w", err)
	}
	s.startDeciding(runner.Run)
	return nil
}

// awaitReady returns when every read model can be read.
func awaitReady(ctx context.Context, models *projector.Models) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for models.Ready(ctx) != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}
