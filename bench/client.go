package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/internal/devstack"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/postgres"
	"github.com/millrace/millrace/internal/projector"
	"github.com/millrace/millrace/internal/relay"
	"github.com/millrace/millrace/internal/vault"
	"github.com/millrace/millrace/projections/stock"
)

// client is what an api process has of a shop: a writer, and readers of the read model of stock.
type client struct {
	pool, replica *pgxpool.Pool
	redis         *redis.Client
	nats          *nats.Conn
	writer        *postgres.Writer
	app           *commands.App
	models        *projector.Models
	stop          context.CancelFunc
	running       *errgroup.Group
}

func openClient(ctx context.Context, l *lab, s *shop) (c *client, err error) {
	servers, err := devstack.Find(s.data)
	if err != nil {
		return nil, err
	}
	if len(servers.ReplicaURLs) == 0 {
		return nil, errors.New("bench: the shop has no replica")
	}
	c = &client{running: &errgroup.Group{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.close())
			c = nil
		}
	}()
	if c.pool, err = newWriterPool(ctx, servers.PostgresURL); err != nil {
		return c, err
	}
	if c.replica, err = newPool(ctx, servers.ReplicaURLs[0], writerConnections); err != nil {
		return c, err
	}
	options, err := redis.ParseURL(servers.RedisURL)
	if err != nil {
		return c, errors.New("bench: the address of Redis is not a URL") // without it: it holds a password
	}
	c.redis = redis.NewClient(options)
	if c.nats, err = nats.Connect(servers.NATSURL, nats.Name("millrace bench")); err != nil {
		return c, fmt.Errorf("bench: connecting to NATS: %w", err)
	}
	log, err := postgres.OpenLog(ctx, c.pool, commands.Codec())
	if err != nil {
		return c, err
	}
	c.writer = postgres.NewWriter(log, postgres.WriterOptions{
		Categories: commands.Categories(), Log: l.Logger,
		OnAppend: func(events []es.Event) { relay.Poke(c.nats, events[len(events)-1].Position) },
	})
	// What it would seal, nobody reads: the shop's own secret is not needed.
	secret := make([]byte, 32)
	keys, err := vault.New(vault.Options{Pool: c.pool, Secret: secret})
	if err != nil {
		return c, err
	}
	c.app, err = commands.New(commands.Dependencies{
		Executor: c.writer, Reader: log, Vault: keys, Secret: secret,
		Currency: money.Currency(log.Info().Currency), PaymentDeadline: time.Minute,
	})
	if err != nil {
		return c, err
	}
	// Nothing here waits for a position, so that no feed is needed.
	c.models, err = projector.NewModels(projector.ModelsOptions{
		Primary: c.pool, Replicas: []*pgxpool.Pool{c.replica}, Redis: c.redis, Info: log.Info(),
		Projections: []projector.Projection{stock.Projection()}, Logger: l.Logger,
	})
	if err != nil {
		return c, err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	c.running.Go(func() error { return c.writer.Run(running) })
	c.running.Go(func() error { return c.models.Run(running) })
	return c, nil
}

func (c *client) close() error {
	var err error
	if c.stop != nil {
		c.stop()
		err = c.running.Wait()
	}
	if c.nats != nil {
		c.nats.Close()
	}
	if c.redis != nil {
		err = errors.Join(err, c.redis.Close())
	}
	for _, pool := range []*pgxpool.Pool{c.pool, c.replica} {
		if pool != nil {
			pool.Close()
		}
	}
	return err
}

// inRedis is what the documents say; a document that is not there has no units.
func (c *client) inRedis(ctx context.Context, skus []string) (map[string]int, error) {
	keys := make([]projector.DocKey, len(skus))
	for i, sku := range skus {
		name := commands.Stocks.Stream(sku).Name()
		keys[i] = projector.DocKey{Stream: name, Key: name}
	}
	documents, err := c.models.Documents(ctx, stock.Name, keys)
	if err != nil {
		return nil, err
	}
	units := make(map[string]int, len(skus))
	for i, document := range documents {
		if document == nil {
			continue
		}
		var level inventory.State
		if err := json.Unmarshal(document, &level); err != nil {
			return nil, fmt.Errorf("the document of %s: %w", skus[i], err)
		}
		units[skus[i]] = level.OnHand
	}
	return units, nil
}

// onReplica finds the table that readers of the replica see, and returns what tells what is in it. It asks for nothing else, so that
// looking takes little time.
func (c *client) onReplica(ctx context.Context) (looking, error) {
	var table string
	sql := `SELECT tableoid::regclass::text FROM stock.levels LIMIT 1`
	err := c.models.Query(ctx, projector.Need{Projections: []string{stock.Name}}, sql, nil, func(rows pgx.Rows) (err error) {
		table, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
		return err
	})
	if err != nil {
		return nil, err
	}
	query := `SELECT sku, on_hand FROM ` + table + ` WHERE sku = ANY ($1)`
	return func(ctx context.Context, skus []string) (map[string]int, error) {
		rows, err := c.replica.Query(ctx, query, skus)
		if err != nil {
			return nil, err
		}
		units := make(map[string]int, len(skus))
		var sku string
		var onHand int
		_, err = pgx.ForEachRow(rows, []any{&sku, &onHand}, func() error {
			units[sku] = onHand
			return nil
		})
		return units, err
	}, nil
}
