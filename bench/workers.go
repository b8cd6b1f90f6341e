package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/feed"
	"github.com/millrace/millrace/internal/postgres"
	"github.com/millrace/millrace/internal/projector"
)

// Targets of workers: how many times as fast as one worker two and four drain the same backlog.
const (
	twoWorkersTarget  = 1.7
	fourWorkersTarget = 3.2
)

const (
	// storeLatency is how much later than it is every answer of a worker's store arrives.
	storeLatency = 10 * time.Millisecond
	// backlogSize is a multiple of the number of partitions, all of which have the same part of it.
	backlogSize   = 480
	workersRounds = 3
	workersNeed   = 30 * time.Second // for the leases to be shared
	drainTimeout  = 2 * time.Minute
)

// waitingModel is a read model whose work is waiting: one round trip to its store an event.
func waitingModel() projector.Projection {
	return projector.Projection{
		Name: "waiting", Version: 1, Events: []string{noted{}.EventType()},
		Postgres: &projector.Postgres{
			Schema: []string{`CREATE TABLE waiting.notes (position bigint PRIMARY KEY)`},
			Apply: func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
				for i := range events {
					if _, err := tx.Exec(ctx, `INSERT INTO waiting.notes (position) VALUES ($1)`, events[i].Position); err != nil {
						return err
					}
				}
				return nil
			},
		},
	}
}

// workers measures how long one, two and four workers take for the same backlog of a model whose work is waiting for its store.
// A worker has one batch in flight, so that the ratios tell of workers and of nothing else.
func workers(ctx context.Context, l *lab) ([]Figure, error) {
	s, err := l.appendOn(ctx)
	if err != nil {
		return nil, err
	}
	rates := make(map[int][]float64)
	for round := range workersRounds {
		for _, n := range []int{1, 2, 4} {
			took, err := s.drain(ctx, l, n)
			if err != nil {
				return nil, fmt.Errorf("bench: %d workers: %w", n, err)
			}
			rates[n] = append(rates[n], backlogSize/took.Seconds())
			l.say("  %d workers, round %d of %d: %d events in %.2f s", n, round+1, workersRounds, backlogSize, took.Seconds())
		}
	}
	one := median(rates[1])
	return []Figure{
		newFigure("workers-two", median(rates[2]), "events/s", Higher).against(one).aiming(twoWorkersTarget),
		newFigure("workers-four", median(rates[4]), "events/s", Higher).against(one).aiming(fourWorkersTarget),
	}, nil
}

// crew is some workers on a log of their own, each with a feed and, behind a slow line, a store.
type crew struct {
	pool    *pgxpool.Pool
	log     *postgres.Log
	lines   []*slowLine
	pools   []*pgxpool.Pool
	stop    context.CancelFunc
	running *errgroup.Group
}

// drain lets n workers share the partitions of an empty log, appends the backlog, and returns how long they take for it.
func (s *appendServer) drain(ctx context.Context, l *lab, n int) (took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, drainTimeout)
	defer cancel()
	c := &crew{running: &errgroup.Group{}}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.start(ctx, s, l, n); err != nil {
		return 0, err
	}
	if err := c.awaitShares(ctx, n); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := c.append(ctx, l); err != nil {
		return 0, err
	}
	for folded := 0; folded < backlogSize; {
		if err := wait(ctx, time.Millisecond); err != nil {
			return 0, err
		}
		if err := c.pool.QueryRow(ctx, `SELECT count(*) FROM waiting_1.notes`).Scan(&folded); err != nil {
			return 0, fmt.Errorf("counting what is folded: %w", err)
		}
	}
	return time.Since(began), nil
}

func (c *crew) start(ctx context.Context, s *appendServer, l *lab, n int) error {
	url, err := s.newDatabase(ctx)
	if err != nil {
		return err
	}
	if c.pool, err = newPool(ctx, url, writerConnections); err != nil {
		return err
	}
	codec := es.NewCodec(noted{})
	if c.log, err = postgres.OpenLog(ctx, c.pool, codec); err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	c.stop = stop
	for range n {
		line, slow, err := newSlowLine(url, storeLatency)
		if err != nil {
			return err
		}
		c.lines = append(c.lines, line)
		pool, err := newPool(ctx, slow, 4)
		if err != nil {
			return err
		}
		c.pools = append(c.pools, pool)
		f := feed.New(feed.Options{Log: c.log, Info: c.log.Info(), Codec: codec, Logger: l.Logger})
		w, err := projector.NewWorker(projector.WorkerOptions{
			Pool: pool, Feed: f, Log: c.log, Codec: codec, Info: c.log.Info(),
			Projections: []projector.Projection{waitingModel()}, Logger: l.Logger,
		})
		if err != nil {
			return err
		}
		c.running.Go(func() error { return f.Run(running) })
		c.running.Go(func() error { return w.Run(running) })
	}
	return nil
}

// awaitShares returns when every worker has its share of the partitions.
func (c *crew) awaitShares(ctx context.Context, n int) error {
	ctx, cancel := context.WithTimeoutCause(ctx, workersNeed, errors.New("the workers did not share the partitions"))
	defer cancel()
	for {
		var holders, most int
		err := c.pool.QueryRow(ctx, `SELECT count(*), coalesce(max(held), 0) FROM (
			SELECT count(*) AS held FROM leases WHERE worker IS NOT NULL GROUP BY worker) AS shares`).Scan(&holders, &most)
		if err != nil {
			return errors.Join(fmt.Errorf("looking at the leases: %w", err), context.Cause(ctx))
		}
		if partitions := c.log.Info().Partitions; holders == n && most == (partitions+n-1)/n {
			return nil
		}
		if err := wait(ctx, memoryInterval); err != nil {
			return err
		}
	}
}

// append puts the backlog into the log, as many events in every partition.
func (c *crew) append(ctx context.Context, l *lab) error {
	writer := postgres.NewWriter(c.log, postgres.WriterOptions{Categories: []*es.Category{notes.Category}, Log: l.Logger})
	writing, stop := context.WithCancel(ctx)
	var running errgroup.Group
	running.Go(func() error { return writer.Run(writing) })
	group, executing := errgroup.WithContext(ctx)
	group.SetLimit(callers)
	for i, found := 0, 0; found < backlogSize; i++ {
		stream := notes.Stream(fmt.Sprint(i))
		if es.PartitionOf(stream.Name(), c.log.Info().Partitions) != found%c.log.Info().Partitions {
			continue
		}
		found++
		group.Go(func() error { return execute(executing, writer, stream, nil) })
	}
	err := group.Wait()
	stop()
	return errors.Join(err, running.Wait())
}

func (c *crew) close() error {
	var err error
	if c.stop != nil {
		c.stop()
		err = c.running.Wait()
	}
	for _, pool := range append(c.pools, c.pool) {
		if pool != nil {
			pool.Close()
		}
	}
	for _, line := range c.lines {
		line.close()
	}
	return err
}
