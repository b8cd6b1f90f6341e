package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/graph"
	"github.com/millrace/millrace/internal/projector"
	"github.com/millrace/millrace/internal/web"
	"github.com/millrace/millrace/projections/carts"
	"github.com/millrace/millrace/projections/catalogue"
	"github.com/millrace/millrace/projections/orders"
	"github.com/millrace/millrace/projections/sales"
	"github.com/millrace/millrace/projections/stock"
)

// apiFlags are the settings of the GraphQL API.
type apiFlags struct {
	admissionFlags
	clientFlags
	Addr        string `default:"127.0.0.1:8080" env:"MILLRACE_ADDR" placeholder:"HOST:PORT" help:"Where to serve GraphQL."`
	StaffToken  string `env:"MILLRACE_STAFF_TOKEN" placeholder:"TOKEN" help:"What staff send as a bearer token."`
	CORSOrigins string `name:"cors-origins" env:"MILLRACE_CORS_ORIGINS" placeholder:"ORIGIN,..." help:"Origins whose pages may use the API."`
	cacheFlags
}

// check says what is wrong with the settings.
func (f apiFlags) check() error {
	_, limits := f.clientFlags.parse()
	_, origins := f.origins()
	return errors.Join(f.admissionFlags.check(), limits, origins, f.cacheFlags.check())
}

func (f apiFlags) origins() ([]string, error) {
	origins, err := web.ParseOrigins(f.CORSOrigins)
	if err != nil {
		return nil, usageError{fmt.Errorf("--cors-origins (MILLRACE_CORS_ORIGINS): %w", err)}
	}
	return origins, nil
}

func (f apiFlags) listen(ctx context.Context) (net.Listener, error) {
	return listen(ctx, f.Addr, "--addr (MILLRACE_ADDR)")
}

// checkAddrs says at once when an address cannot be had, before anything is started or waited for.
func (f apiFlags) checkAddrs(ctx context.Context, service serviceFlags) error {
	api, err := f.listen(ctx)
	if err != nil {
		return err
	}
	return errors.Join(service.checkAddr(ctx), api.Close())
}

// apiCommand is the role that serves GraphQL.
type apiCommand struct {
	serverFlags
	lagFlags
	writeFlags
	apiFlags
	serviceFlags
	Introspection toggle `env:"MILLRACE_INTROSPECTION" help:"Let clients read the schema, and serve GraphiQL."`
}

// Run serves until the process is told to stop.
func (c *apiCommand) Run(ctx context.Context, out *console) (err error) {
	if err := errors.Join(c.lagFlags.check(), c.writeFlags.check(), c.apiFlags.check(), c.serviceFlags.check()); err != nil {
		return err
	}
	found := c.DatabaseURL == ""
	if err := c.resolveSecret(); err != nil {
		return err
	}
	if c.StaffToken == "" && found {
		up, err := readRunning(c.Data)
		if err != nil {
			return err
		}
		c.StaffToken = up.StaffToken
	}
	if err := c.checkAddrs(ctx, c.serviceFlags); err != nil {
		return err
	}
	s, err := openShop(ctx, c.serverFlags, c.lagFlags, out.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	side, err := s.writeSide(c.writeFlags, nil)
	if err != nil {
		return err
	}
	models := s.models()
	return c.apiFlags.serve(ctx, s, side, models, bool(c.Introspection), c.serviceFlags, func(addr net.Addr) error {
		out.log.Info("api runs", "graphql", "http://"+addr.String()+graph.Path)
		return nil
	})
}

// serve serves GraphQL until ctx ends; started is called once the address answers.
func (f apiFlags) serve(
	ctx context.Context, s *shop, side *writeSide, models *projector.Models, introspection bool, served serviceFlags, started func(net.Addr) error,
) error {
	origins, err := f.origins()
	if err != nil {
		return err
	}
	limiters, err := f.newLimiters(s)
	if err != nil {
		return err
	}
	limits, err := f.newRateLimits(s)
	if err != nil {
		return err
	}
	cache, err := f.open(s, models)
	if err != nil {
		return err
	}
	documents, err := s.documents()
	if err != nil {
		return err
	}
	log := guardedReader{s.log.On(s.readPool), s.newGuard("log")}
	handler, err := graph.NewHandler(graph.Deps{
		Commands: side.app, Catalogue: catalogue.New(models), Stock: stock.New(models), Carts: carts.New(models, commands.Carts, log),
		Orders: orders.New(models), Sales: sales.New(models, s.log.Info().TimeZone), Projections: models,
		Log: log, Feed: s.feed, Vault: side.vault,
	}, graph.Options{
		StaffToken: f.StaffToken, Introspection: introspection, GraphiQL: introspection, Origins: origins, Logger: s.logger, Metrics: s.registry,
		Limit: limits.limit, Admit: admit(limiters, side), Refuse: refuse(limiters, side), Timeout: f.RequestTimeout, MaxSubscriptions: f.MaxSubscriptions,
		Cache: cache, MaxAge: f.CacheMaxAge, Stale: f.CacheStale, Persisted: documents,
	})
	if err != nil {
		return err
	}
	api, err := f.listen(ctx)
	if err != nil {
		return err
	}
	ops, err := served.listen(ctx)
	if err != nil {
		return errors.Join(err, api.Close())
	}
	if err := started(api.Addr()); err != nil {
		return errors.Join(err, api.Close(), closeIfOpen(ops))
	}
	return s.serve(ctx, service{
		drainDelay: served.DrainDelay, ops: ops, api: web.LimitConnections(api, f.MaxConnections, s.registry), handler: web.CORS(origins, handler), end: handler.Drain,
		glance: web.CORS(origins, http.HandlerFunc(handler.Glance)), crowded: limiters.crowded,
		health: s.health(func(ctx context.Context) error {
			if err := models.Ready(ctx); err != nil {
				return fmt.Errorf("reads: %w", err)
			}
			return nil
		}),
	})
}
