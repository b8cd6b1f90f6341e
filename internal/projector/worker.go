package projector

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/es"
)

// WorkerOptions are the parts of a Worker.
type WorkerOptions struct {
	// ID is the worker's name, unique among workers; empty: host, process id and a random part.
	ID string
	// Pool is the primary.
	Pool *pgxpool.Pool
	// Redis holds the models' documents. It may be nil only if no projection keeps documents.
	Redis redis.UniversalClient
	Feed  Feed
	Log   Log
	// Codec tells why an event could not be decoded; nil: only that it could not.
	Codec *es.Codec
	Info  es.Log
	// Projections are those that this worker takes its share of.
	Projections []Projection
	// Helps is whether the worker also takes shares of rebuilds: see [Replay]. It needs the memory and the processors that a
	// rebuild needs, and a connection for each projection with tables.
	Helps bool
	// Near is within how many events of the live partitions one that is behind joins them, 0 meaning 4,000: the fewer, the more is
	// folded by catching up.
	Near int64
	// Alone says that there is no other worker: this one takes all partitions at once, without leases, and looks after nothing but
	// them. It is for tests of projections, which begin many workers.
	Alone bool
	// Logger is nil for slog.Default.
	Logger *slog.Logger
	// Metrics is nil for none.
	Metrics *Metrics
}

// Worker folds its share of the partitions of its projections.
type Worker struct {
	o       WorkerOptions
	leases  *leases
	beat    *heartbeat
	flusher *flusher
	meter   *meter
	heads   []seenHead
	runners map[runnerKey]*runningRunner
	group   errgroup.Group
}

type runnerKey struct {
	projection string
	generation int
	store      string
}

type runningRunner struct {
	*runner
	cancel context.CancelFunc
	has    []int
}

// NewWorker checks the options. Nothing happens before Run.
func NewWorker(o WorkerOptions) (*Worker, error) {
	if err := validateAll(o.Projections); err != nil {
		return nil, err
	}
	if o.ID == "" {
		o.ID = processName() + "/" + strings.ToLower(rand.Text()[:8])
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Near == 0 {
		o.Near = nearLive
	}
	w := &Worker{o: o, runners: make(map[runnerKey]*runningRunner)}
	w.flusher, w.meter = newFlusher(o.Pool, o.Logger), newMeter(o.Pool, o.Logger)
	w.leases = &leases{pool: o.Pool, worker: o.ID, info: o.Info, projections: o.Projections}
	for i := range o.Projections {
		if o.Projections[i].Redis != nil && o.Redis == nil {
			return nil, fmt.Errorf("projector: projection %s keeps documents, and the worker has no Redis", o.Projections[i].Name)
		}
		w.leases.takes = append(w.leases.takes, taking(&o.Projections[i]))
		names, stores := storesOf(&o.Projections[i])
		w.leases.names, w.leases.stores = append(w.leases.names, names...), append(w.leases.stores, stores...)
	}
	w.beat = &heartbeat{config: o.Pool.Config().ConnConfig, worker: o.ID, takes: w.leases.takes, helps: o.Helps, logger: o.Logger}
	return w, nil
}

// processName is a name for this process: its host and number.
func processName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// ID returns the worker's name.
func (w *Worker) ID() string { return w.o.ID }

const (
	// letGo is how long a worker that leaves, or has too much, waits for its runners to finish their batches.
	letGo = 400 * time.Millisecond
	// handOver bounds the rest of what it does when it leaves.
	handOver = 500 * time.Millisecond
)

// Run works until ctx ends, hands its partitions over, and returns nil. Servers that are away are waited for. It may be
// called once.
func (w *Worker) Run(ctx context.Context) error {
	if err := w.prepare(ctx); err != nil {
		return err
	}
	if w.o.Alone {
		return w.runAlone(ctx)
	}
	var beating sync.WaitGroup
	beats := make(chan struct{}, 1)
	beating.Go(func() { w.beat.run(ctx, beats) })
	w.group.Go(func() error { return w.flusher.run(ctx) })
	if w.o.Helps {
		h := &helper{worker: w.o.ID, takes: w.leases.takes, o: ReplayOptions{
			Pool: w.o.Pool, Redis: w.o.Redis, Log: w.o.Log, Codec: w.o.Codec, Info: w.o.Info, Projections: w.o.Projections, Logger: w.o.Logger,
		}}
		w.group.Go(func() error { return h.run(ctx) })
	}
	w.group.Go(func() error { return w.meter.run(ctx) })
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-beats:
			if w.beat.silent() {
				w.assignNothing()
			} else if err := w.tick(ctx); err != nil && ctx.Err() == nil {
				w.o.Logger.WarnContext(ctx, "projection worker cannot look after its partitions", "worker", w.o.ID, "error", err)
			}
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- w.group.Wait() }() // the runners end with ctx
	var err error
	late := false
	select {
	case err = <-ended:
	case <-time.After(letGo):
		late = true
	}
	beating.Wait()
	if err := w.beat.leave(context.WithoutCancel(ctx)); err != nil {
		w.o.Logger.WarnContext(ctx, "projection worker could not hand over; its leases expire", "worker", w.o.ID, "error", err)
	}
	if late {
		err = <-ended
	}
	return err
}

// runAlone folds, with the runners that Run has, the generations that there are when it begins.
func (w *Worker) runAlone(ctx context.Context) error {
	s, err := w.leases.look(ctx, false)
	if err == nil {
		w.reconcile(ctx, s.generations)
		for i := range w.o.Projections {
			w.assign(&w.o.Projections[i], everyPartition(w.o.Info.Partitions))
		}
	} else if ctx.Err() == nil {
		return err
	}
	return w.group.Wait()
}

// prepare makes the generations and leases, however long the database is away. Its error is a mistake in a
// projection's schema, or another log than this process has opened.
func (w *Worker) prepare(ctx context.Context) error {
	pause := backoff{}
	for ctx.Err() == nil {
		err := w.prepareOnce(ctx)
		if err == nil {
			return nil
		}
		state := sqlState(err)
		if errors.Is(err, errOtherLog) || state != "" && !serverAtFault(state) && state != undefinedTable && state != uniqueViolation {
			return err
		}
		w.o.Logger.WarnContext(ctx, "projection worker waits for the database", "error", err)
		pause.pause(ctx)
	}
	return nil
}

func (w *Worker) prepareOnce(ctx context.Context) error {
	if err := w.leases.prepare(ctx); err != nil {
		return err
	}
	for i := range w.o.Projections {
		if err := ensureGeneration(ctx, w.o.Pool, w.o.Info, &w.o.Projections[i]); err != nil {
			return err
		}
	}
	return nil
}

// tick looks around and makes the runners what they should be.
func (w *Worker) tick(ctx context.Context) error {
	bounded, cancel := context.WithTimeout(ctx, leaseTTL)
	defer cancel()
	steady := w.beat.steady()
	s, err := w.leases.look(bounded, steady)
	if err != nil {
		return err
	}
	failed := w.mend(bounded, s)
	w.reconcile(ctx, s.generations)
	for key, r := range w.runners {
		r.tell(s.told[key])
	}
	failed = errors.Join(failed, w.balance(bounded, s, steady))
	settled := w.settled()
	for _, g := range s.generations {
		if g.status != statusBuilding {
			continue
		}
		promoted, err := promoteBuilt(bounded, w.o.Pool, w.o.Info, g, settled)
		if err != nil {
			failed = errors.Join(failed, err)
		} else if promoted {
			w.o.Logger.InfoContext(ctx, "projection switched to its new version",
				"projection", g.projection, "version", g.version, "generation", g.number)
			failed = errors.Join(failed, w.sweep(ctx, g))
		}
	}
	return failed
}

// seenHead is the end of the log at a time.
type seenHead struct {
	at       time.Time
	position int64
}

// settleTime is how far a generation may be behind the log when readers are first shown it: on a busy shop there is no moment at which
// a generation has everything.
const settleTime = time.Second

// settled is the end of the log as it was settleTime ago, as far as this worker knows. It notes the present one.
func (w *Worker) settled() int64 {
	now := time.Now()
	w.heads = append(w.heads, seenHead{now, w.o.Feed.Head()})
	for len(w.heads) > 1 && now.Sub(w.heads[1].at) >= settleTime {
		w.heads = w.heads[1:]
	}
	if now.Sub(w.heads[0].at) < settleTime {
		return math.MaxInt64
	}
	return w.heads[0].position
}

// sweep drops generations of versions that nobody goes back to: those before the version that this one has followed.
func (w *Worker) sweep(ctx context.Context, g generation) error {
	i := slices.IndexFunc(w.o.Projections, func(p Projection) bool { return p.Name == g.projection })
	return dropOld(ctx, w.o.Pool, w.o.Redis, w.o.Info, &w.o.Projections[i], isOutdated+` AND version < (
		SELECT max(version) FROM projections f WHERE f.name = $1 AND f.version < $2 AND f.status = 'live')`, g.version)
}

// mend makes again what somebody has deleted, tables and control tables included: all of it comes back from the log. The
// next tick finds it.
func (w *Worker) mend(ctx context.Context, s *survey) error {
	var failed error
	for i := range w.o.Projections {
		p := &w.o.Projections[i]
		own := func(g generation) bool { return g.projection == p.Name }
		lost := slices.ContainsFunc(s.generations, func(g generation) bool { return own(g) && g.lost })
		fed := slices.ContainsFunc(s.generations, func(g generation) bool { return own(g) && g.status != statusPrevious })
		if lost || !fed {
			w.o.Logger.WarnContext(ctx, "tables of a projection are not there; what readers need is built from the log", "projection", p.Name)
			failed = errors.Join(failed, ensureGeneration(ctx, w.o.Pool, w.o.Info, p))
		}
		if s.leases[p.Name] < w.o.Info.Partitions {
			failed = errors.Join(failed, w.leases.prepare(ctx))
		}
	}
	s.generations = slices.DeleteFunc(s.generations, func(g generation) bool { return g.lost })
	return failed
}

// balance brings the worker to its share of each projection.
func (w *Worker) balance(ctx context.Context, s *survey, steady bool) error {
	shares := allot(w.o.ID, s.workers, w.o.Info.Partitions)
	var letting []<-chan struct{}
	surplus := make(map[*Projection][]int)
	for i := range w.o.Projections {
		p := &w.o.Projections[i]
		owned, share := s.owned[p.Name], shares[taking(p)]
		if len(owned) > share {
			surplus[p], s.owned[p.Name] = owned[share:], owned[:share]
		}
		letting = append(letting, w.assign(p, s.owned[p.Name])...)
	}
	if len(surplus) > 0 { // others must not begin while this one is in the middle of a batch, if it can be helped
		w.await(ctx, letting)
	}
	var failed error
	for p, partitions := range surplus {
		failed = errors.Join(failed, w.leases.release(ctx, p, partitions))
	}
	for i := range w.o.Projections {
		p := &w.o.Projections[i]
		owned := s.owned[p.Name]
		if missing := shares[taking(p)] - len(owned); missing > 0 && s.free[p.Name] > 0 {
			taken, err := w.leases.take(ctx, p, missing, steady)
			if err != nil {
				failed = errors.Join(failed, err)
				continue
			}
			owned = slices.Concat(owned, taken) // not in place: runners read what they were assigned before
			slices.Sort(owned)
			w.assign(p, owned)
		}
		w.o.Metrics.partitions(p.Name, len(owned))
	}
	return failed
}

// assign tells a projection's runners their partitions. The channels are closed when they have let go of the others.
func (w *Worker) assign(p *Projection, partitions []int) (letting []<-chan struct{}) {
	for key, r := range w.runners {
		if key.projection == p.Name && !slices.Equal(r.has, partitions) {
			r.has = partitions
			letting = append(letting, r.assign(partitions))
		}
	}
	return letting
}

// await waits for runners to let go, not for ever: what one of them still writes is compared and set.
func (w *Worker) await(ctx context.Context, letting []<-chan struct{}) {
	timer := time.NewTimer(letGo)
	defer timer.Stop()
	for _, done := range letting {
		select {
		case <-done:
		case <-timer.C:
			return
		case <-ctx.Done():
			return
		}
	}
}

func (w *Worker) assignNothing() {
	for _, r := range w.runners {
		if len(r.has) > 0 {
			r.has = nil
			r.assign(nil)
		}
	}
}

// reconcile starts runners for generations that are new, and stops those of generations that are gone.
func (w *Worker) reconcile(ctx context.Context, generations []generation) {
	wanted := make(map[runnerKey]*Projection)
	for _, g := range generations {
		i := slices.IndexFunc(w.o.Projections, func(p Projection) bool { return p.Name == g.projection })
		for _, s := range w.o.Projections[i].stores() {
			wanted[runnerKey{g.projection, g.number, s}] = &w.o.Projections[i]
		}
	}
	for key, r := range w.runners {
		if wanted[key] == nil {
			r.cancel()
			delete(w.runners, key)
		}
	}
	for key, p := range wanted {
		if w.runners[key] != nil {
			continue
		}
		r := w.newRunner(p, key)
		ctx, cancel := context.WithCancel(ctx)
		w.runners[key] = &runningRunner{runner: r, cancel: cancel}
		w.group.Go(func() error { return r.run(ctx) })
	}
}

func (w *Worker) newRunner(p *Projection, key runnerKey) *runner {
	logger := w.o.Logger.With("projection", p.Name, "generation", key.generation)
	r := &runner{
		projection: p, generation: key.generation, filter: newFilter(p, w.o.Codec), feed: w.o.Feed, log: w.o.Log, near: w.o.Near,
		logger: logger, metrics: w.o.Metrics, meter: w.meter,
		records: &records{pool: w.o.Pool, projection: p.Name, generation: key.generation, store: key.store, logger: logger},
	}
	if key.store == storeRedis {
		s := newRedisStore(w.o.Redis, p, key.generation, w.o.Info)
		r.newStore = func() store { return s.shelved() }
	} else {
		s := newPostgresStore(w.o.Pool, p, key.generation, w.o.Info.Partitions, w.flusher.poke)
		r.newStore = func() store { return s.keeping() }
	}
	return r
}
