package projectortest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/postgres"
	"github.com/millrace/millrace/internal/projector"
)

// Each way of running folds a version of the projection of its own: the engine keeps their generations side by side.
const (
	versionRebuilt = iota + 1 // the first: a rebuild drops what is left of versions before its own
	versionSingly
	versionBatches
	versionCaughtUp
	versions = iota
)

// way is a way of running the fold of a case.
type way struct {
	trial      *trial
	name       string
	projection projector.Projection
	feed       *feed
	near       int64                     // see projector.WorkerOptions
	worker     *running                  // nil: none
	stopped    string                    // what it stands still at; "": it does not
	stored     []projector.Stored        // what it has come to
	contents   map[string]map[string]any // the same by store and what names it, to be compared
}

func (t *trial) way(version int, name string, size func(int64) int) *way {
	w := &way{trial: t, name: name, projection: t.kit.projection, feed: &feed{history: t.history, size: size}}
	w.projection.Version = version
	return w
}

func (t *trial) singly() *way { return t.way(versionSingly, "live, one event at a time", one) }

func one(int64) int { return 1 }

func (t *trial) batches(events int) *way {
	w := t.way(versionBatches, "live, in batches, by two workers in turn", func(after int64) int {
		return 1 + t.draw(uint64(after)+1, 1+events/2)
	})
	if p := w.projection.Postgres; p != nil {
		again := *p
		again.Apply = func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
			if _, err := tx.Exec(ctx, `SAVEPOINT before`); err != nil {
				return err
			}
			if err := p.Apply(ctx, tx, events); err != nil {
				return err
			}
			tx.Queue(`ROLLBACK TO SAVEPOINT before`)
			tx.Undone()
			return p.Apply(ctx, tx, events)
		}
		w.projection.Postgres = &again
	}
	return w
}

func (t *trial) caughtUp() *way {
	w := t.way(versionCaughtUp, "catching up", one)
	w.near = 1
	return w
}

func (t *trial) rebuilt() *way { return t.way(versionRebuilt, "rebuilt", one) }

// createGenerations makes the tables of all ways, while the log is empty.
func (k *Kit) createGenerations(ctx context.Context) error {
	log, err := postgres.OpenLog(ctx, k.pool, k.codec)
	if err != nil {
		return err
	}
	t := newTrial(k, log, 0)
	for version := range versions {
		if err := t.way(version+1, "new", one).create(ctx); err != nil {
			return err
		}
	}
	return nil
}

// create has a worker make the way's generation.
func (w *way) create(ctx context.Context) error {
	models, err := w.models(w.trial.kit.redis)
	if err != nil {
		return err
	}
	if err := start(ctx, w); err != nil {
		return err
	}
	for err == nil && models.Ready(ctx) != nil {
		err = w.pause(ctx)
	}
	return errors.Join(err, stop(w))
}

// models reads what the way has come to; without Redis, if that is nil.
func (w *way) models(client redis.UniversalClient) (*projector.Models, error) {
	return projector.NewModels(projector.ModelsOptions{
		Primary: w.trial.kit.pool, Redis: client, Feed: w.feed, Info: w.trial.log.Info(),
		Projections: []projector.Projection{w.projection}, Wait: patience, Logger: w.trial.logger,
	})
}

// running is a worker that runs.
type running struct {
	cancel context.CancelFunc
	ended  chan struct{}
	err    error // once it has ended
}

// start has each way run by a worker, until stop.
func start(ctx context.Context, ways ...*way) error {
	for _, w := range ways {
		k := w.trial.kit
		worker, err := projector.NewWorker(projector.WorkerOptions{
			Pool: k.pool, Redis: k.redis, Feed: w.feed, Log: w.trial.log, Codec: k.codec, Info: w.trial.log.Info(),
			Projections: []projector.Projection{w.projection}, Near: w.near, Alone: true, Logger: w.trial.logger,
		})
		if err != nil {
			return err
		}
		ctx, cancel := context.WithCancel(ctx)
		r := &running{cancel: cancel, ended: make(chan struct{})}
		go func() {
			defer close(r.ended)
			r.err = worker.Run(ctx)
		}()
		w.worker = r
	}
	return nil
}

// stop ends the workers that run, and waits for them.
func stop(ways ...*way) error {
	var err error
	for _, w := range ways {
		if r := w.worker; r != nil {
			r.cancel()
			<-r.ended
			err = errors.Join(err, r.err)
			w.worker = nil
		}
	}
	return err
}

// reach waits until each way has folded what is recorded, or stands still.
func reach(ctx context.Context, ways ...*way) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, w := range ways {
		group.Go(func() error {
			if err := w.reach(ctx); err != nil {
				return errors.Join(fmt.Errorf("%s: the events are not folded: %w", w.name, err), w.trial.said())
			}
			return nil
		})
	}
	return group.Wait()
}

func (w *way) reach(ctx context.Context) error {
	models, err := w.models(w.trial.kit.redis)
	if err != nil {
		return err
	}
	var busy error // the server was, when it was last asked
	for {
		if err := w.settle(ctx); err != nil {
			return errors.Join(err, busy)
		}
		var all []projector.Status
		if all, busy = models.Status(ctx); busy != nil {
			continue
		}
		for _, p := range all[0].Partitions {
			if p.Error != "" {
				w.stopped = p.Error
			}
		}
		if w.stopped != "" || all[0].Generation > 0 && all[0].Lag == 0 {
			return nil
		}
	}
}

// settle waits until every store's runner waits for more events, but not long: a partition that stands still does not.
func (w *way) settle(ctx context.Context) error {
	stores := int32(0)
	if w.projection.Postgres != nil {
		stores++
	}
	if w.projection.Redis != nil {
		stores++
	}
	for range 50 {
		if err := w.pause(ctx); err != nil {
			return err
		}
		if w.feed.waiting.Load() == stores {
			break
		}
	}
	return nil
}

// pause waits a moment, but for no worker that has ended.
func (w *way) pause(ctx context.Context) error {
	select {
	case <-w.worker.ended:
		return errors.Join(errors.New("the worker has ended"), w.worker.err)
	default:
		return pause(ctx)
	}
}

func pause(ctx context.Context) error {
	timer := time.NewTimer(time.Millisecond)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// rebuild rebuilds the way's generation, which ends its first round at a position.
func (w *way) rebuild(ctx context.Context, first int64) error {
	o := w.replayOptions()
	o.Log = &growingLog{Log: w.trial.log, first: first}
	_, err := projector.Replay(ctx, o)
	if err != nil && ctx.Err() == nil {
		w.stopped = err.Error()
		return nil
	}
	return err
}

func (w *way) replayOptions() projector.ReplayOptions {
	k := w.trial.kit
	return projector.ReplayOptions{
		Pool: k.pool, Redis: k.redis, Log: w.trial.log, Codec: k.codec, Info: w.trial.log.Info(),
		Projections: []projector.Projection{w.projection}, Logger: w.trial.logger,
	}
}

// growingLog is a log that ends at first when it is first asked, and then where it ends.
type growingLog struct {
	*postgres.Log
	first int64
	asked bool
}

// Head is asked by the rebuild, round by round.
func (l *growingLog) Head(ctx context.Context) (int64, error) {
	if !l.asked {
		l.asked = true
		return l.first, nil
	}
	return l.Log.Head(ctx)
}
