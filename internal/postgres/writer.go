package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/es"
)

// WriterOptions are the parts and limits of a Writer.
type WriterOptions struct {
	// Categories are the kinds of stream that commands may name.
	Categories []*es.Category
	// OnAppend is called with each committed batch, in order. It must not block.
	OnAppend func([]es.Event)
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log receives what an operator should know; nil means slog.Default().
	Log *slog.Logger
	// CachedStreams bounds the states kept in memory; 0 means 200,000.
	CachedStreams int
	// CachedBytes bounds them too, as an estimate; 0 means 128 MiB.
	CachedBytes int
	// SnapshotEvery is by how many events a stream has to have grown since its last snapshot for the next one; 0 means 500.
	SnapshotEvery int
	// Metrics registers the writer's metrics; nil: nobody sees them.
	Metrics prometheus.Registerer
	// MaxBatchEvents bounds the events of one commit (a single command may exceed it); 0 means 4,096.
	MaxBatchEvents int
	// AppendTimeout is how long a first attempt to append may take before its outcome counts as unknown, and a reading; later attempts have
	// longer. 0 means 5 s.
	AppendTimeout time.Duration
	// KeepKeys is how long an idempotency key is kept; afterwards it may be used anew. All processes of a shop must be told the same. 0
	// means 24 h.
	KeepKeys time.Duration
	// CleanKeysEvery is the time between two looks for idempotency keys that are too old; 0 means 10 s.
	CleanKeysEvery time.Duration
}

// Writer decides commands on cached states and appends their events, many commands to a commit. Run has to
// be running for Execute to return.
type Writer struct {
	log        *Log
	o          WriterOptions
	categories map[string]*es.Category

	metrics    metrics
	pageEvents int // a variable for tests

	mu        sync.Mutex
	ready     []*call     // to be decided
	inHand    []*call     // being decided
	loading   loadRequest // what the loader reads next
	beingRead []*call     // for whom the loader reads now
	loads     uint64      // how often the loader has read
	states    *states     // as of head
	snapshots map[string]snapshot
	head      int64
	repeated  int    // for how many more batches commands' keys are looked up before they are decided
	answers   uint64 // how often the database has answered the committer
	down      error  // why commands are refused at once; nil while all is well
	stopped   bool
	types     *pgtype.Map // of PostgreSQL

	readySignal    chan struct{}
	loadSignal     chan struct{}
	snapshotSignal chan struct{}

	// Only Run's committing goroutine uses these.
	pipeline   pipeline
	crowded    int // how many batches are to be appended in turns
	moved      moved
	gathered   uint64 // loads, as gather saw it last
	ordinals   []int64
	headBatch  uuid.UUID // of the event at head
	recordedAt time.Time
}

// call is one Execute or ExecuteAll, commands decided in their order, or one DryRun.
type call struct {
	ctx      context.Context
	commands []es.Command
	metadata json.RawMessage
	outcomes []es.Outcome
	errs     []error
	next     int // the first command without an outcome
	alone    bool
	read     bool // something has been read for it
	dry      bool // it is decided as soon as what it needs is in memory, and that is all
	// keysFirst says that its idempotency keys have to be looked up before it is decided (again).
	keysFirst bool
	done      chan struct{}
}

// NewWriter returns a writer that appends to the log.
func NewWriter(log *Log, o WriterOptions) *Writer {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.CachedStreams == 0 {
		o.CachedStreams = 200_000
	}
	if o.CachedBytes == 0 {
		o.CachedBytes = 128 << 20
	}
	if o.SnapshotEvery == 0 {
		o.SnapshotEvery = 500
	}
	if o.MaxBatchEvents == 0 {
		o.MaxBatchEvents = 4096
	}
	if o.KeepKeys == 0 {
		o.KeepKeys = 24 * time.Hour
	}
	if o.CleanKeysEvery == 0 {
		o.CleanKeysEvery = 10 * time.Second
	}
	if o.AppendTimeout == 0 {
		o.AppendTimeout = 5 * time.Second
	}
	w := &Writer{
		log: log, o: o, categories: make(map[string]*es.Category, len(o.Categories)),
		states: newStates(o.CachedStreams, o.CachedBytes), snapshots: map[string]snapshot{}, head: -1, pageEvents: pageEvents,
		types:       pgtype.NewMap(),
		readySignal: make(chan struct{}, 1), loadSignal: make(chan struct{}, 1), snapshotSignal: make(chan struct{}, 1),
	}
	w.pipeline = newPipeline(log.pool)
	w.moved.streams = map[string]struct{}{}
	w.metrics = newMetrics(o.Metrics, w)
	for _, c := range o.Categories {
		w.categories[c.Name] = c
	}
	return w
}

// Execute implements [es.Executor].
func (w *Writer) Execute(ctx context.Context, c es.Command) (es.Outcome, error) {
	outcomes, errs := w.ExecuteAll(ctx, []es.Command{c})
	return outcomes[0], errs[0]
}

// ExecuteAll implements [es.Executor].
func (w *Writer) ExecuteAll(ctx context.Context, cs []es.Command) ([]es.Outcome, []error) {
	outcomes, errs := make([]es.Outcome, len(cs)), make([]error, len(cs))
	if len(cs) == 0 {
		return outcomes, errs
	}
	fail := func(err error) ([]es.Outcome, []error) {
		errs := make([]error, len(cs))
		for i := range errs {
			errs[i] = err
		}
		return make([]es.Outcome, len(cs)), errs
	}
	metadata, err := json.Marshal(es.MetadataFrom(ctx))
	if err != nil {
		return fail(fmt.Errorf("postgres: encoding the metadata of %s: %w", cs[0].Name, err))
	}
	c := &call{ctx: ctx, commands: cs, metadata: metadata, outcomes: outcomes, errs: errs, done: make(chan struct{})}
	if err := w.enqueue(c); err != nil {
		return fail(fmt.Errorf("postgres: %s: %w", cs[0].Name, err))
	}
	select {
	case <-c.done:
		return outcomes, errs
	case <-ctx.Done():
		// The writer may be committing it at this moment; it alone writes to c from here on.
		return fail(fmt.Errorf("postgres: %s: %w: %w", cs[0].Name, es.ErrOutcomeUnknown, context.Cause(ctx)))
	}
}

// DryRun implements [es.Executor].
func (w *Writer) DryRun(ctx context.Context, command es.Command) error {
	c := &call{ctx: ctx, commands: []es.Command{command}, errs: make([]error, 1), dry: true, done: make(chan struct{})}
	if err := w.enqueue(c); err != nil {
		return fmt.Errorf("postgres: %s: %w", command.Name, err)
	}
	select {
	case <-c.done:
		return c.errs[0]
	case <-ctx.Done():
		return fmt.Errorf("postgres: %s: %w: %w", command.Name, es.ErrUnavailable, context.Cause(ctx))
	}
}

// enqueue hands the call to the loader if something that it names is not in memory, else to the committer.
func (w *Writer) enqueue(c *call) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return fmt.Errorf("%w: the process is stopping", es.ErrUnavailable)
	}
	if w.down != nil {
		return fmt.Errorf("%w: %w", es.ErrUnavailable, w.down)
	}
	w.dispatch(c, nil)
	return nil
}

// repeatedFor is for how many batches, after one that was lost and had a key that had been used, keys are looked up beforehand. While clients repeat
// what they asked another process, a lookup costs less than a lost round.
const repeatedFor = 64

// dispatch sends the call where it has to go next: to the loader for what is missing (streams that the last
// run asked for, and whatever the commands name beforehand), or to be decided; a dry run is decided here. w.mu is held.
func (w *Writer) dispatch(c *call, missing []string) {
	var need loadRequest
	for _, s := range missing {
		need.addStream(s)
	}
	for i := c.next; i < len(c.commands); i++ {
		if i > c.next && c.read {
			break // it has been waiting: whatever goes on, its next command can be decided
		}
		command := &c.commands[i]
		for _, s := range command.Streams {
			if !w.states.streams.Contains(s) {
				need.addStream(s)
			}
		}
		if id := command.Idempotency; id != nil && (c.keysFirst || w.repeated > 0) && !w.states.knowsKey(id.Key) {
			need.addKey(id.Key)
		}
	}
	if need.empty() && c.dry {
		if missing := w.dryRun(c); missing != nil {
			w.dispatch(c, missing)
		}
		return
	}
	if need.empty() {
		w.ready = append(w.ready, c)
		signal(w.readySignal)
		return
	}
	c.read = true
	w.loading.merge(need)
	w.loading.calls = append(w.loading.calls, c)
	signal(w.loadSignal)
}

func signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Run commits until ctx ends. Commands that are waiting then are refused.
func (w *Writer) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.load(ctx) })
	g.Go(func() error { return w.commitLoop(ctx) })
	g.Go(func() error { return w.keepRanges(ctx) })
	g.Go(func() error { return w.takeSnapshots(ctx) })
	g.Go(func() error { return w.cleanKeys(ctx) })
	err := g.Wait()

	w.mu.Lock()
	w.stopped = true
	left := append(w.ready, w.loading.calls...)
	w.ready, w.loading = nil, loadRequest{}
	w.mu.Unlock()
	for _, c := range left {
		c.fail(fmt.Errorf("%w: the process is stopping", es.ErrUnavailable))
	}
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// makeRoom lets states go that nobody has used for long, if there are too many. w.mu is held.
func (w *Writer) makeRoom() {
	if !w.states.full() {
		return
	}
	needed := map[string]struct{}{}
	for _, calls := range [][]*call{w.ready, w.inHand, w.loading.calls, w.beingRead} {
		for _, c := range calls {
			for i := c.next; i < len(c.commands); i++ {
				for _, s := range c.commands[i].Streams {
					needed[s] = struct{}{}
				}
			}
		}
	}
	w.metrics.evictions.Add(float64(w.states.evict(needed)))
}

// Head returns the position up to which the writer knows the log, -1 before it has read it first.
func (w *Writer) Head() int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.head
}

// Down returns why commands are refused at once, nil while they are not.
func (w *Writer) Down() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.down
}

// setDown refuses what is waiting and what comes until err is nil again.
func (w *Writer) setDown(err error) { w.setDownUnless(err, func() bool { return false }) }

// setDownUnless is setDown, but does nothing if over, which is asked with w.mu held, says so.
func (w *Writer) setDownUnless(err error, over func() bool) {
	w.mu.Lock()
	if over() {
		w.mu.Unlock()
		return
	}
	w.down = err
	var left []*call
	if err == nil {
		w.answers++
	} else {
		left = append(w.ready, w.loading.calls...)
		w.ready, w.loading = nil, loadRequest{}
	}
	w.mu.Unlock()
	for _, c := range left {
		c.fail(fmt.Errorf("%w: %w", es.ErrUnavailable, err))
	}
}

// failAll fails calls that are in hand.
func (w *Writer) failAll(calls []*call, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range calls {
		c.fail(err)
	}
}

// fail ends the call unless it has ended: its commands without an outcome get the error. Writer.mu is held while it is in hand.
func (c *call) fail(err error) {
	if c.next == len(c.commands) {
		return
	}
	for i := c.next; i < len(c.commands); i++ {
		c.errs[i] = fmt.Errorf("postgres: %s: %w", c.commands[i].Name, err)
	}
	c.next = len(c.commands)
	close(c.done)
}
