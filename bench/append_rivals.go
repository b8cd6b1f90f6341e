package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/postgres"
)

// Targets of rivals: what two processes reach of the throughput of one, and the smaller part of it that one of them has.
const (
	rivalsTarget      = 0.7
	rivalsShareTarget = 0.35
)

// rival is a writer as another api process has it: with connections of its own, and no knowledge but the log.
type rival struct {
	pool   *pgxpool.Pool
	writer *postgres.Writer
	stop   context.CancelFunc
	ended  errgroup.Group
	done   atomic.Int64 // commands
}

func (s *appendServer) startRival(ctx context.Context, l *lab) (r *rival, err error) {
	r = &rival{}
	if r.pool, err = newWriterPool(ctx, s.logURL); err != nil {
		return nil, err
	}
	log, err := postgres.OpenLog(ctx, r.pool, es.NewCodec(noted{}))
	if err != nil {
		r.pool.Close()
		return nil, err
	}
	r.writer = postgres.NewWriter(log, postgres.WriterOptions{Categories: []*es.Category{notes.Category}, Log: l.Logger})
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	r.stop = stop
	r.ended.Go(func() error { return r.writer.Run(running) })
	return r, nil
}

func (r *rival) close() error {
	r.stop()
	err := r.ended.Wait()
	r.pool.Close()
	return err
}

// appendRivals measures two writers on one stream, each with its callers, against one of them.
func appendRivals(ctx context.Context, l *lab) (figures []Figure, err error) {
	s, err := l.appendOn(ctx)
	if err != nil {
		return nil, err
	}
	var rivals []*rival
	defer func() {
		for _, r := range rivals {
			err = errors.Join(err, r.close())
		}
	}()
	for range 2 {
		r, err := s.startRival(ctx, l)
		if err != nil {
			return nil, err
		}
		rivals = append(rivals, r)
	}
	stream := notes.Stream(rand.Text())
	two := side{"two processes", 2 * callers, func(ctx context.Context, caller int) error {
		r := rivals[caller%len(rivals)]
		defer r.done.Add(1)
		return execute(ctx, r.writer, stream, nil)
	}}
	one := side{"one process", callers, func(ctx context.Context, _ int) error { return execute(ctx, rivals[0].writer, stream, nil) }}
	together, alone, err := alternate(ctx, l.Duration, two, one, l.say)
	if err != nil {
		return nil, err
	}
	a, b := float64(rivals[0].done.Load()), float64(rivals[1].done.Load())
	if a+b == 0 {
		return nil, fmt.Errorf("bench: two processes did nothing")
	}
	return []Figure{
		newFigure("append-rivals", together.rate(), "events/s", Higher).against(alone.rate()).aiming(rivalsTarget),
		newFigure("append-rivals-p99", milliseconds(percentile(together.latencies, 99)), "ms", Lower).
			against(milliseconds(percentile(alone.latencies, 99))),
		newFigure("append-rivals-share", min(a, b)/(a+b), "of the sum", Higher).aiming(rivalsShareTarget),
	}, nil
}
