package feed

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/postgres"
)

// ErrLogWentBack says that the log ends before a position that this process has seen: it was restored, or a
// failover lost commits. The process has to start again.
var ErrLogWentBack = errors.New("feed: the log ends before a position that this process has already seen")

// ErrEpochChanged says that the log has entered another epoch than the one that the process started with. The process
// has to start again: positions that it has seen may name other events now.
var ErrEpochChanged = errors.New("feed: the log has entered another epoch since this process started, which has to be started again")

// Log is what the feed reads from Postgres. It has to be the primary: a replica's head may lie behind JetStream.
type Log interface {
	Head(ctx context.Context) (int64, error)
	ReadAll(ctx context.Context, after int64, limit int) ([]es.Event, error)
	PartitionEnds(ctx context.Context) (head int64, ends []postgres.PartitionEnd, err error)
}

// Options are what a feed is made of. Log, Info and Codec are needed.
type Options struct {
	// Log is read at the start, for what is older than the window, and whenever JetStream does not deliver.
	Log Log
	// Info names the log and its epoch: JetStream messages of any other are not believed.
	Info es.Log
	// Epoch reads the log's present epoch from Postgres; nil means that the epoch is not watched.
	Epoch func(ctx context.Context) (int, error)
	// Codec decodes the events. Facts of types that it does not know are nil.
	Codec *es.Codec
	// NATS is a connection that reconnects for ever; nil means that the feed lives on Postgres alone.
	NATS *nats.Conn
	// Window is the number of events kept in memory; 0 means 16,384.
	Window int
	// WindowBytes bounds the memory of the window, roughly; 0 means 32 MiB.
	WindowBytes int
	// Logger gets what an operator should know; nil means slog.Default().
	Logger *slog.Logger
	// Metrics is where the feed's metrics are registered; nil means nowhere.
	Metrics prometheus.Registerer
}

// Feed is the log as the readers of this process see it. Its methods may be called by many goroutines at once, also
// before Run, in which case they wait for it. Events that it hands out are shared: they must not be changed.
type Feed struct {
	log     Log
	info    es.Log
	epoch   func(ctx context.Context) (int, error)
	codec   *es.Codec
	nats    *nats.Conn
	logger  *slog.Logger
	metrics metrics

	mu        sync.RWMutex
	window    window
	changed   chan struct{} // closed, and replaced, whenever the window grew
	heard     chan struct{} // closed, and replaced, whenever Postgres has answered
	ready     chan struct{}
	latest    confirmation // what Postgres has answered last
	asked     confirmation // what it has answered that the window has not come up to yet, or came up to last
	confirmed confirmation // the newest that it has come up to

	filling sync.Mutex    // held by who reads Postgres to extend the window
	nudge   chan struct{} // asks the tail to look at Postgres at once
	live    atomic.Bool   // JetStream is level with the window, as far as is known
	trusted string        // the stream that was last seen not to be ahead of the log; for the follower alone
	foreign string        // the stream that was last seen to be ahead of it, and is no copy however long the log becomes; for the follower alone
}

// New returns a feed that knows nothing until it runs.
func New(o Options) *Feed {
	if o.Window <= 0 {
		o.Window = 16_384
	}
	if o.WindowBytes <= 0 {
		o.WindowBytes = 32 << 20
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	return &Feed{
		log:     o.Log,
		info:    o.Info,
		epoch:   o.Epoch,
		codec:   o.Codec,
		nats:    o.NATS,
		logger:  o.Logger.With("part", "feed"),
		metrics: newMetrics(o.Metrics),
		window:  newWindow(o.Window, o.WindowBytes, o.Info.Partitions),
		changed: make(chan struct{}),
		heard:   make(chan struct{}),
		ready:   make(chan struct{}),
		nudge:   make(chan struct{}, 1),
	}
}

// Run keeps the feed going until ctx ends, and then returns nil. It waits for Postgres to start with, because the
// head of the log is to be had nowhere else. It returns [ErrLogWentBack] or [ErrEpochChanged] when the process must not
// go on. It is called once.
func (f *Feed) Run(ctx context.Context) error {
	if err := f.start(ctx); err != nil {
		return endOf(ctx, err)
	}
	g, ctx2 := errgroup.WithContext(ctx)
	g.Go(func() error { return f.tail(ctx2) })
	if f.nats != nil {
		g.Go(func() error { return f.follow(ctx2) })
	}
	return endOf(ctx, g.Wait())
}

// endOf tells an end that was asked for from a failure.
func endOf(ctx context.Context, err error) error {
	select {
	case <-ctx.Done():
		return nil
	default:
		return err
	}
}

// Ready is closed once the feed knows the head of the log.
func (f *Feed) Ready() <-chan struct{} { return f.ready }

// start puts the empty window at the head of the log.
func (f *Feed) start(ctx context.Context) error {
	retry := newBackoff(50*time.Millisecond, 2*time.Second)
	for {
		asking, cancel := context.WithTimeout(ctx, queryTimeout)
		head, ends, err := f.log.PartitionEnds(asking)
		cancel()
		if err == nil {
			f.mu.Lock()
			f.window.start(head, ends)
			close(f.changed)
			f.changed = make(chan struct{})
			f.mu.Unlock()
			close(f.ready)
			f.metrics.head.Set(float64(head))
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if retry.first() {
			f.logger.Warn("waiting for Postgres to learn where the log ends", "error", err)
		}
		if err := retry.wait(ctx, nil); err != nil {
			return err
		}
	}
}
