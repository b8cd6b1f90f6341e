package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/web"
)

// serviceFlags say where a role tells how it is, and how it leaves.
type serviceFlags struct {
	OpsAddr    string        `env:"MILLRACE_OPS_ADDR" placeholder:"HOST:PORT" help:"Where to serve /healthz, /readyz and /metrics; an API serves them at its own address too."`
	DrainDelay time.Duration `default:"0s" env:"MILLRACE_DRAIN_DELAY" help:"How long to go on serving, no longer ready, after being told to stop: as long as the balancer takes to notice."`
}

const opsSetting = "--ops-addr (MILLRACE_OPS_ADDR)"

func (f serviceFlags) check() error {
	if f.DrainDelay < 0 {
		return usageError{fmt.Errorf("--drain-delay (MILLRACE_DRAIN_DELAY) must not be below zero, not %s", f.DrainDelay)}
	}
	return nil
}

// listen opens the address for health and metrics, nil if there is none.
func (f serviceFlags) listen(ctx context.Context) (net.Listener, error) {
	if f.OpsAddr == "" {
		return nil, nil
	}
	return listen(ctx, f.OpsAddr, opsSetting)
}

// checkAddr says at once when the address for health and metrics cannot be had, before anything is started or waited for.
func (f serviceFlags) checkAddr(ctx context.Context) error {
	l, err := f.listen(ctx)
	return errors.Join(err, closeIfOpen(l))
}

// listen opens an address that a setting names.
func listen(ctx context.Context, addr, setting string) (net.Listener, error) {
	l, err := web.Listen(ctx, addr)
	if errors.Is(err, syscall.EADDRINUSE) {
		flag, _, _ := strings.Cut(setting, " ")
		err = fmt.Errorf("%w; choose another with %s", err, flag)
	}
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w", setting, err)}
	}
	return l, nil
}

// role opens the shop, starts a role on it, and serves its health until the process is told to stop.
func (f serviceFlags) role(ctx context.Context, servers serverFlags, lag lagFlags, out *console, name string, start func(*shop) error) (err error) {
	if err := errors.Join(f.check(), lag.check()); err != nil {
		return err
	}
	if err := f.checkAddr(ctx); err != nil {
		return err
	}
	s, err := openShop(ctx, servers, lag, out.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	ops, err := f.listen(ctx)
	if err != nil {
		return err
	}
	if err := start(s); err != nil {
		return errors.Join(err, closeIfOpen(ops))
	}
	out.log.Info(name+" runs", "log", s.log.Info().ID)
	return s.serve(ctx, service{health: s.health(nil), drainDelay: f.DrainDelay, ops: ops})
}

// health answers whether the process's parts work and, where there is more to it, whether ready says so.
func (s *shop) health(ready func(context.Context) error) *web.Health {
	return &web.Health{
		LeftAlone: s.leftAlone,
		Metrics:   promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{ErrorLog: slog.NewLogLogger(s.logger.Handler(), slog.LevelWarn)}),
		Ready: func(ctx context.Context) error {
			select {
			case <-s.failed():
				return errors.New("a part of this process has ended")
			default:
			}
			if ready == nil {
				return nil
			}
			return ready(ctx)
		},
	}
}

func closeIfOpen(l net.Listener) error {
	if l == nil {
		return nil
	}
	return l.Close()
}

// service is what a role serves: an API, if it has one, and its health, beside the API and on an address of its own.
type service struct {
	health     *web.Health
	drainDelay time.Duration
	// ops is where health is served by itself; nil for nowhere.
	ops net.Listener
	// api is where handler is served; nil for roles without an API.
	api     net.Listener
	handler http.Handler
	end     func(context.Context) error
	// glance is asked first while the api is crowded; see [web.Options].
	glance  http.Handler
	crowded func() bool
}

// serve serves until ctx ends or a part of the process does, and then drains.
func (s *shop) serve(ctx context.Context, v service) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	var g errgroup.Group
	if v.api != nil {
		g.Go(func() error {
			return web.Serve(ctx, v.api, web.Options{
				Handler: v.health.Handler(v.handler), Glance: v.glance, Crowded: v.crowded,
				Health: v.health, DrainDelay: v.drainDelay, Drain: v.end, Logger: s.logger,
			})
		})
	}
	if v.ops != nil {
		g.Go(func() error {
			return web.Serve(ctx, v.ops, web.Options{Handler: v.health.Handler(nil), Health: v.health, DrainDelay: v.drainDelay, Logger: s.logger})
		})
	}
	if v.api == nil && v.ops == nil {
		<-ctx.Done()
	}
	return g.Wait()
}
