package responsecache

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/singleflight"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

const (
	// Grace is how long an entry is served after it was last known to be good. Whoever asks after renewal has it read anew: while a crowd buys,
	// each order touches the pages that everybody looks at, and they would be read without a pause.
	Grace, renewal = 70 * time.Millisecond, 55 * time.Millisecond
	// patience is how long a reading waits for the read models.
	patience = 50 * time.Millisecond
	// certainty is how old Postgres's word that there is nothing else may be. It is asked every 50 ms at least.
	certainty = 250 * time.Millisecond
	// leftAlone is how long nothing is read, where there is an old answer, after the stores could not answer.
	leftAlone = time.Second
	// history is how many events a process that starts reads to know what entries of others are still good.
	history = 10_000
	// aliases is how many spellings of requests are remembered.
	aliases = 16_384
)

// DefaultMaxAge is after how long an answer is read anew, whatever has happened.
const DefaultMaxAge = 10 * time.Minute

// Key names an answer: a hash of all that it depends on beside what is in the stores.
type Key [32]byte

// Feed tells of events, and how far the log is known.
type Feed interface {
	Head() int64
	Confirmed() (position int64, at time.Time, more bool)
	Follow(ctx context.Context, after int64, do func([]es.Event) error) error
}

// Models are the read models as readers see them.
type Models interface {
	// Shows reports whether readers still see the generations that an answer was read from.
	Shows(r projector.Reading) bool
	// Wants reports whether a projection wants events of a type.
	Wants(projection, eventType string) bool
}

// Shared is where processes share entries. It may forget anything at any time, and has to be quick to say so.
type Shared interface {
	Get(ctx context.Context, key [32]byte) ([]byte, bool)
	Put(ctx context.Context, key [32]byte, value []byte)
}

// Options are the parts and bounds of a Cache. Feed, Models and Projections are needed.
type Options struct {
	Feed   Feed
	Models Models
	// Projections are those from whose read models answers may be kept.
	Projections []string
	// Shared is nil where there is none.
	Shared Shared
	// Bytes bounds the entries in this process; 0 means 64 MiB.
	Bytes int64
	// EntryBytes is the length of the longest answer that is kept; 0 means 1 MiB.
	EntryBytes int
	// Streams is of how many streams it is remembered when they were touched; 0 means 65,536.
	Streams int
	// MaxAge is after how long an answer is read anew, whatever has happened; 0 means DefaultMaxAge.
	MaxAge time.Duration
	// Stale is for how long after it was last good an answer is served while the stores cannot answer; 0 means never.
	Stale time.Duration
	// Logger is nil for slog.Default.
	Logger *slog.Logger
	// Metrics registers the cache's metrics; nil keeps them out of sight.
	Metrics prometheus.Registerer
}

// Cache keeps answers, for one process. Nothing is good before Run runs.
type Cache struct {
	o       Options
	entries *otter.Cache[Key, *entry]
	aliases *lru.Cache[Key, Key]
	touches *touches
	flights singleflight.Group
	away    atomic.Int64 // until when the stores are left alone, Unix nanoseconds
	metrics metrics

	mu     sync.Mutex
	ended  context.Context // the readings' end
	end    context.CancelFunc
	closed bool
	fills  sync.WaitGroup
}

// New returns an empty cache, or an error that says what is missing.
func New(o Options) (*Cache, error) {
	if o.Feed == nil || o.Models == nil || len(o.Projections) == 0 {
		return nil, errors.New("responsecache: Feed, Models and Projections are needed")
	}
	o.Bytes, o.EntryBytes, o.Streams = cmp.Or(o.Bytes, 64<<20), cmp.Or(o.EntryBytes, 1<<20), cmp.Or(o.Streams, 65_536)
	o.MaxAge, o.Logger = cmp.Or(o.MaxAge, DefaultMaxAge), cmp.Or(o.Logger, slog.Default())
	c := &Cache{o: o}
	c.ended, c.end = context.WithCancel(context.Background())
	var err error
	if c.entries, err = otter.New(&otter.Options[Key, *entry]{
		MaximumWeight: uint64(o.Bytes), Weigher: func(_ Key, e *entry) uint32 { return e.weight() },
	}); err != nil {
		return nil, fmt.Errorf("responsecache: %w", err)
	}
	if c.aliases, err = lru.New[Key, Key](aliases); err != nil {
		return nil, fmt.Errorf("responsecache: %w", err)
	}
	if c.touches, err = newTouches(o.Projections, o.Models.Wants, o.Streams, 0); err != nil {
		return nil, fmt.Errorf("responsecache: %w", err)
	}
	c.metrics = newMetrics(o.Metrics, c)
	return c, nil
}

// Run follows the log until ctx ends, then waits for the readings that are under way, which it cancels, and returns nil.
func (c *Cache) Run(ctx context.Context) error {
	defer c.close()
	after := max(0, c.o.Feed.Head()-history)
	c.touches.reset(after)
	err := c.o.Feed.Follow(ctx, after, func(events []es.Event) error {
		c.touches.add(events)
		return nil
	})
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("responsecache: following the log: %w", err)
}

func (c *Cache) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.end()
	c.fills.Wait()
}

// State is how an answer came about.
type State int

const (
	// Read says that it was read for this request.
	Read State = iota
	// Joined says that it was read for another request that came a moment before.
	Joined
	// Hit says that it was kept.
	Hit
	// Old says that it was kept, is outdated or may be, and nothing else can be had.
	Old
)

// Answer is what a request is answered with.
type Answer struct {
	Filled
	State State
	// Age is for how long an Old answer has not been good.
	Age time.Duration
}

// Filled is what a reading has come to.
type Filled struct {
	Body []byte
	// ETag is a strong validator of the body, "" where Whole is not set.
	ETag string
	// Status is the reader's own.
	Status int
	// Whole says that the answer has no errors and may be kept.
	Whole bool
	// Away says that the stores could not answer.
	Away bool
}

// Fill reads an answer. Its context ends when the answer is not needed any more, whoever asked for it.
type Fill func(ctx context.Context) Filled

// Lookup returns the answer to a request that was spelled like one before, if it is known to be good.
func (c *Cache) Lookup(spelling Key) (Answer, bool) {
	key, ok := c.aliases.Get(spelling)
	if !ok {
		return Answer{}, false
	}
	e, ok := c.entries.GetIfPresent(key)
	if !ok || c.judge(e, time.Now()) != good {
		return Answer{}, false
	}
	c.metrics.local.Inc()
	return e.answer(Hit, 0), true
}

// Spell remembers that requests of a spelling are answered by what has a key.
func (c *Cache) Spell(spelling, key Key) { c.aliases.Add(spelling, key) }

func (e *entry) answer(s State, age time.Duration) Answer {
	return Answer{Filled: Filled{Body: e.body, ETag: e.etag, Whole: true}, State: s, Age: age}
}

// Do returns the answer with a key: the one that is kept, the one that somebody reads just now, or the one that fill reads. The
// error is that of ctx.
func (c *Cache) Do(ctx context.Context, key Key, fill Fill) (Answer, error) {
	now := time.Now()
	if e, ok := c.entries.GetIfPresent(key); ok {
		switch c.judge(e, now) {
		case good:
			c.metrics.local.Inc()
			return e.answer(Hit, 0), nil
		case passing:
			if now.Sub(e.goodAt()) >= renewal {
				c.fly(ctx, key, fill, nil)
			}
			c.metrics.local.Inc()
			return e.answer(Hit, 0), nil
		case outdated:
			if now.UnixNano() < c.away.Load() && now.Sub(e.goodAt()) < c.o.Stale {
				return c.old(e, now), nil
			}
		}
	}
	for {
		own := false
		select {
		case r := <-c.fly(ctx, key, fill, &own):
			f := r.Val.(*flight)
			if !own && now.Sub(f.began) > Grace && (f.entry == nil || c.judge(f.entry, time.Now()) == outdated) {
				continue // it may have been read before what this request has to see
			}
			return c.landed(f, own, now), nil
		case <-ctx.Done():
			return Answer{}, ctx.Err()
		}
	}
}

// landed is the answer of a flight to one of those who waited for it.
func (c *Cache) landed(f *flight, own bool, now time.Time) Answer {
	if f.last != nil && f.Away && now.Sub(f.last.goodAt()) < c.o.Stale {
		return c.old(f.last, now)
	}
	switch {
	case !own:
		c.metrics.joined.Inc()
		return Answer{Filled: f.Filled, State: Joined}
	case f.shared:
		c.metrics.shared.Inc()
		return Answer{Filled: f.Filled, State: Hit}
	default:
		c.metrics.misses.Inc()
		return Answer{Filled: f.Filled, State: Read}
	}
}

func (c *Cache) old(e *entry, now time.Time) Answer {
	c.metrics.stale.Inc()
	return e.answer(Old, now.Sub(e.goodAt()))
}

// flight is one reading, for all who ask meanwhile.
type flight struct {
	Filled
	began  time.Time
	entry  *entry // nil: not kept
	shared bool   // it was not read: another process had
	last   *entry // what was kept before; nil: nothing
}

// fly reads an answer, or joins whoever reads it already. Own is set when it is this fill that reads.
func (c *Cache) fly(ctx context.Context, key Key, fill Fill, own *bool) <-chan singleflight.Result {
	return c.flights.DoChan(string(key[:]), func() (any, error) {
		if own != nil {
			*own = true // before the result is sent
		}
		f := &flight{began: time.Now()}
		if !c.begin() { // nobody keeps anything any more
			f.Filled = fill(context.WithoutCancel(ctx))
			return f, nil
		}
		defer c.fills.Done()
		ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
		defer cancel()
		defer context.AfterFunc(c.ended, cancel)()
		c.read(ctx, key, fill, f)
		return f, nil
	})
}

// begin counts a reading, unless the cache is closed.
func (c *Cache) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.fills.Add(1)
	return true
}

// read takes an answer from the other processes or reads it, and keeps it.
func (c *Cache) read(ctx context.Context, key Key, fill Fill, f *flight) {
	f.last, _ = c.entries.GetIfPresent(key)
	if e := c.fetch(ctx, key); e != nil {
		if c.isGood(e, time.Now()) {
			c.entries.Set(key, e)
			f.entry, f.shared, f.Filled = e, true, e.answer(Hit, 0).Filled
			return
		}
		if f.last == nil || f.last.goodAt().Before(e.goodAt()) {
			f.last = e // the stores may be away
		}
	}
	position := c.o.Feed.Head()
	reading, sources := projector.WithSources(ctx, position, patience)
	f.Filled = fill(reading)
	if f.Away {
		c.away.Store(time.Now().Add(leftAlone).UnixNano())
		return
	}
	c.away.Store(0)
	if !f.Whole {
		return
	}
	f.ETag = ETag(f.Body)
	made, inTime := sources.Reading()
	if !inTime || len(f.Body) > c.o.EntryBytes || !c.known(made) {
		c.metrics.unkept.Inc()
		return
	}
	f.entry = newEntry(f.Body, made, f.began)
	c.entries.Set(key, f.entry)
	c.share(ctx, key, f.entry)
}

// known reports whether all that was read is followed here.
func (c *Cache) known(r projector.Reading) bool {
	for name := range r.Models {
		if !slices.Contains(c.o.Projections, name) {
			return false
		}
	}
	return true
}
