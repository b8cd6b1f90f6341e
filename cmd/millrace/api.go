package main

import (
	"context"
	"errors"
	"fmt"
	"net"

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
	Addr          string `default:"127.0.0.1:8080" env:"MILLRACE_ADDR" placeholder:"HOST:PORT" help:"Where to serve GraphQL."`
	StaffToken    string `env:"MILLRACE_STAFF_TOKEN" placeholder:"TOKEN" help:"What staff send as a bearer token."`
	CORSOrigins   string `name:"cors-origins" env:"MILLRACE_CORS_ORIGINS" placeholder:"ORIGIN,..." help:"Origins whose pages may use the API."`
	Introspection bool   `env:"MILLRACE_INTROSPECTION" help:"Let clients read the schema, and serve GraphiQL."`
	cacheFlags
}

// apiCommand is the role that serves GraphQL.
type apiCommand struct {
	serverFlags
	apiFlags
	drainFlags
	paymentFlags
}

// Run serves until the process is told to stop.
func (c *apiCommand) Run(ctx context.Context, out *console) (err error) {
	s, err := openShop(ctx, c.serverFlags, out.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if c.StaffToken == "" && c.DatabaseURL == "" {
		up, err := readRunning(c.Data)
		if err != nil {
			return err
		}
		c.StaffToken = up.StaffToken
	}
	side, err := s.writeSide(c.PaymentDeadline, nil)
	if err != nil {
		return err
	}
	models := s.models()
	return c.apiFlags.serve(ctx, s, side, models, c.drainFlags, c.OpsAddr, func(addr net.Addr) error {
		out.log.Info("api runs", "graphql", "http://"+addr.String()+graph.Path)
		return nil
	})
}

// serve serves GraphQL until ctx ends; started is called once the address answers.
func (f apiFlags) serve(ctx context.Context, s *shop, side *writeSide, models *projector.Models, drain drainFlags, opsAddr string, started func(net.Addr) error) error {
	origins, err := web.ParseOrigins(f.CORSOrigins)
	if err != nil {
		return usageError{fmt.Errorf("--cors-origins (MILLRACE_CORS_ORIGINS): %w", err)}
	}
	if err := f.admissionFlags.check(); err != nil {
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
		StaffToken: f.StaffToken, Introspection: f.Introspection, GraphiQL: f.Introspection, Origins: origins, Logger: s.logger, Metrics: s.registry,
		Limit: limits.limit, Admit: admit(limiters, side), Refuse: refuse(limiters, side), Timeout: f.RequestTimeout, MaxSubscriptions: f.MaxSubscriptions,
		Cache: cache, MaxAge: f.CacheMaxAge, Stale: f.CacheStale, Persisted: documents,
	})
	if err != nil {
		return err
	}
	api, err := listen(ctx, f.Addr, "--addr (MILLRACE_ADDR)")
	if err != nil {
		return err
	}
	if err := started(api.Addr()); err != nil {
		return errors.Join(err, api.Close())
	}
	return s.serve(ctx, service{
		drain: drain, opsAddr: opsAddr, api: web.LimitConnections(api, f.MaxConnections, s.registry), handler: web.CORS(origins, handler), end: handler.Drain,
		health: s.health(func(ctx context.Context) error {
			if err := models.Ready(ctx); err != nil {
				return fmt.Errorf("reads: %w", err)
			}
			return nil
		}),
	})
}
