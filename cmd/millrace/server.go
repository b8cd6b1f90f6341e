package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/web"
)

// drainFlags say how a role leaves.
type drainFlags struct {
	DrainDelay time.Duration `default:"0s" env:"MILLRACE_DRAIN_DELAY" help:"How long to go on serving, no longer ready, after being told to stop: as long as the balancer takes to notice."`
}

// listen opens an address that a setting names.
func listen(ctx context.Context, addr, setting string) (net.Listener, error) {
	l, err := web.Listen(ctx, addr)
	if err != nil {
		return nil, usageError{fmt.Errorf("%s: %w", setting, err)}
	}
	return l, nil
}

// role opens the shop, starts a role on it, and serves its health until the process is told to stop.
func (d drainFlags) role(ctx context.Context, f serverFlags, out *console, name string, start func(*shop) error) (err error) {
	s, err := openShop(ctx, f, out.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := start(s); err != nil {
		return err
	}
	out.log.Info(name+" runs", "log", s.log.Info().ID)
	return s.serve(ctx, service{health: s.health(nil), drain: d, opsAddr: f.OpsAddr})
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

// service is what a role serves: an API, if it has one, and its health, beside the API and on an address of its own.
type service struct {
	health  *web.Health
	drain   drainFlags
	opsAddr string
	// api is where handler is served; nil for roles without an API.
	api     net.Listener
	handler http.Handler
	end     func(context.Context) error
}

// serve serves until ctx ends or a part of the process does, and then drains.
func (s *shop) serve(ctx context.Context, v service) error {
	var ops net.Listener
	if v.opsAddr != "" {
		l, err := listen(ctx, v.opsAddr, "--ops-addr (MILLRACE_OPS_ADDR)")
		if err != nil {
			return err
		}
		ops = l
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.ctx, cancel)()
	var g errgroup.Group
	if v.api != nil {
		g.Go(func() error {
			return web.Serve(ctx, v.api, web.Options{
				Handler: v.health.Handler(v.handler), Health: v.health, DrainDelay: v.drain.DrainDelay, Drain: v.end, Logger: s.logger,
			})
		})
	}
	if ops != nil {
		g.Go(func() error {
			return web.Serve(ctx, ops, web.Options{Handler: v.health.Handler(nil), Health: v.health, DrainDelay: v.drain.DrainDelay, Logger: s.logger})
		})
	}
	if v.api == nil && ops == nil {
		<-ctx.Done()
	}
	return g.Wait()
}
