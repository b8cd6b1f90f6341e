package projector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/millrace/millrace/internal/es"
)

// retryFirst and retryMost bound the pauses between attempts at an event that cannot be applied.
const (
	retryFirst = 200 * time.Millisecond
	retryMost  = 30 * time.Second
)

// errLogWentBack says that the log is shorter than what is known of it: this server lacks what another had.
var errLogWentBack = errors.New("the log has lost events")

// catchUp brings partitions up to the live ones, beside them. They arrive one by one, each when it is near and has passed
// a position: that of the batch that failed, which would fail again among the live ones.
func (r *runner) catchUp(ctx context.Context, parts []*part, past int64) {
	r.group.Go(func() error {
		c := &catchUp{runner: r, store: r.newStore(), parts: parts, past: past}
		c.run(ctx)
		return nil
	})
}

// catchUp is one group of partitions on its way.
type catchUp struct {
	*runner
	store  store
	parts  []*part
	past   int64
	head   int64 // the log is at least this long
	loaded bool
	pause  backoff
	picked []es.Event
}

func (c *catchUp) run(ctx context.Context) {
	for ctx.Err() == nil {
		c.parts = slices.DeleteFunc(c.parts, func(p *part) bool { return p.released.Load() })
		if len(c.parts) == 0 {
			return
		}
		err := c.step(ctx)
		switch {
		case err == nil:
			c.pause.reset()
		case ctx.Err() != nil, errors.Is(err, errGone): // the worker is about to notice
			return
		default:
			c.loaded = false
			// The first attempts, and ever fewer: there may be one catching up for each partition.
			if n := c.pause.attempts; n&(n-1) == 0 && (n > 0 || !errors.Is(err, errMoved)) {
				c.logger.WarnContext(ctx, "projection cannot catch up yet", "store", c.store.name(), "error", err)
			}
			c.pause.pause(ctx)
		}
	}
}

// step loads the marks if need be, lets go of partitions that are near, and folds one batch into the others: of a parked
// stream that is to be tried again, and then of the log.
func (c *catchUp) step(ctx context.Context) error {
	if !c.loaded {
		if err := c.load(ctx); err != nil {
			return err
		}
	}
	c.head = max(c.head, c.feed.Head())
	c.parts = slices.DeleteFunc(c.parts, func(p *part) bool {
		switch {
		case p.failing == 0 && p.due() == "" && p.seen >= c.past && p.seen > c.head-c.near:
			c.arrive(arrival{part: p})
		case (p.failing != 0 || p.due() != "") && len(c.parts) > 1:
			c.catchUp(ctx, []*part{p}, c.past) // alone, so that the others need not wait for it
		default:
			return false
		}
		return true
	})
	if len(c.parts) == 0 {
		return nil
	}
	if stream := c.parts[0].due(); stream != "" {
		if err := c.release(ctx, c.parts[0], stream); err != nil {
			return err
		}
	}
	numbers, after := make([]int, len(c.parts)), c.parts[0].seen
	for i, p := range c.parts {
		numbers[i], after = p.number, min(after, p.seen)
	}
	began := time.Now()
	reading, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	events, until, err := c.log.ReadPartitions(reading, numbers, after, bulkBatch)
	if err == nil && until < c.head && len(events) < bulkBatch {
		err = fmt.Errorf("%w: it ends at %d, and %d was seen", errLogWentBack, until, c.head)
	}
	if err != nil {
		return err
	}
	c.meter.worked(c.projection, c.store.name(), 0, time.Since(began)) // who is live gets them from memory
	if err := c.fold(ctx, events); err != nil {
		return err
	}
	for _, p := range c.parts {
		p.seen = max(p.seen, until) // and not what the feed has seen: another server may lack that
	}
	return nil
}

// load reads where the partitions stand, what they stand still at, and what is parked.
func (c *catchUp) load(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	numbers := make([]int, len(c.parts))
	for i, p := range c.parts {
		numbers[i] = p.number
	}
	parked, err := c.records.parked(ctx, numbers) // before the marks: where the two differ, the marks have the last word
	if err != nil {
		return err
	}
	marks, err := c.store.load(ctx, numbers)
	if err != nil {
		return err
	}
	if err := c.records.exists(ctx); err != nil { // Redis would begin a dropped generation anew
		return err
	}
	failures, err := c.records.failures(ctx, numbers)
	if err != nil {
		return err
	}
	head, err := c.runner.log.Head(ctx)
	if err != nil {
		return err
	}
	c.head = head
	var beyond []*part
	for i, p := range c.parts {
		p.seen = 0
		p.moved(marks[i])
		if p.mark.position > head {
			beyond = append(beyond, p)
			continue
		}
		if p.parked, err = c.stillParked(ctx, p.mark, parked[p.number]); err != nil {
			return err
		}
		p.failing, p.attempts = 0, 0
		f, failed := failures[p.number]
		p.stopped.Store(failed && f.position > p.mark.position)
		switch {
		case failed && f.position > p.mark.position:
			p.failing, p.attempts = f.position, f.attempts
		case failed:
			if err := c.records.resolve(ctx, p.number); err != nil {
				return err
			}
		}
	}
	for _, p := range beyond {
		c.leave(ctx, p)
	}
	c.loaded = true
	return nil
}

// leave leaves a partition alone whose mark is beyond the end of the log: what takes the place of the events that are lost would be taken for them.
func (c *catchUp) leave(ctx context.Context, p *part) {
	if !p.stopped.Swap(true) {
		c.logger.ErrorContext(ctx, "checkpoint beyond the end of the log, which has lost events; its partition of this projection stands still: "+
			"see the README on failovers and restores", "store", c.store.name(), "partition", p.number, "checkpoint", p.mark.position, "head", c.head)
	}
	c.parts = slices.DeleteFunc(c.parts, func(other *part) bool { return other == p })
	c.arrive(arrival{part: p, retryAt: time.Now().Add(retryMost)})
}

// fold folds a batch; when an event is to blame, each partition apart.
func (c *catchUp) fold(ctx context.Context, events []es.Event) error {
	at := make(map[int]int, len(c.parts)) // by partition: index of its part and move
	moves := make([]move, len(c.parts))
	own := make([][]es.Event, len(c.parts))
	for i, p := range c.parts {
		at[p.number], moves[i] = i, p.stands()
	}
	all := make([]es.Event, 0, len(events))
	for i := range events {
		e := &events[i]
		n := at[e.Partition]
		p, m := c.parts[n], &moves[n]
		if e.Position <= p.seen {
			continue
		}
		own[n] = append(own[n], *e)
		m.to = e.Position
		if m.admits(e, p.parked) {
			all = append(all, *e)
		}
	}
	parts := slices.Clone(c.parts)
	touched := slices.DeleteFunc(slices.Clone(moves), func(m move) bool { return len(own[at[m.partition]]) == 0 })
	if len(touched) == 0 {
		return nil
	}
	err := c.commit(ctx, c.store, &c.picked, touched, all, true)
	if err == nil {
		for _, m := range touched {
			c.advance(ctx, parts[at[m.partition]], m)
		}
		return nil
	}
	if !isFault(err) {
		return err
	}
	for i, p := range parts {
		if err := c.foldApart(ctx, p, own[i]); err != nil {
			return err
		}
	}
	return nil
}

// foldApart folds one partition's events in ever smaller batches up to the one that cannot be applied, and stops the
// partition there.
func (c *catchUp) foldApart(ctx context.Context, p *part, events []es.Event) error {
	for size := len(events); len(events) > 0; {
		size = min(size, len(events))
		m, admitted := p.stands(), make([]es.Event, 0, size)
		for i := range events[:size] {
			if m.admits(&events[i], p.parked) {
				admitted = append(admitted, events[i])
			}
		}
		m.to = events[size-1].Position
		err := c.commit(ctx, c.store, &c.picked, []move{m}, admitted, true)
		switch {
		case err == nil:
			c.advance(ctx, p, m)
			events = events[size:]
		case !isFault(err):
			return err
		case size > 1:
			size /= 2
		default:
			inherited, failed := c.records.inherit(ctx, &events[0], err)
			if failed != nil {
				return failed
			}
			if !inherited {
				if err := c.stepUpTo(ctx, p, &events[0]); err != nil {
					return err
				}
				c.stop(ctx, p, &events[0], err)
				return nil
			}
			p.list(events[0].Stream, events[0].Position)
			size = len(events)
		}
	}
	return nil
}

// advance notes that a partition's mark has moved.
func (c *catchUp) advance(ctx context.Context, p *part, m move) {
	c.moved(ctx, c.store.name(), p, m)
	if p.failing != 0 && m.to >= p.failing {
		c.logger.InfoContext(ctx, "projection goes on behind an event that could not be applied before",
			"partition", p.number, "position", p.failing)
		p.failing, p.attempts = 0, 0
		p.stopped.Store(false)
		if err := c.records.resolve(ctx, p.number); err != nil {
			c.logger.WarnContext(ctx, "projection failure not yet struck off", "error", err) // load does it
		}
	}
}

// stepUpTo moves a partition's mark to right before the event that it is going to stand at. Without that nothing tells readers at
// an earlier position, behind the last event that was applied, that the partition lacks nothing that they ask for.
func (c *catchUp) stepUpTo(ctx context.Context, p *part, e *es.Event) error {
	m := p.stands()
	if m.to = e.Position - 1; m.to <= m.from {
		return nil
	}
	if err := c.store.apply(ctx, []move{m}, nil, true); err != nil {
		return err
	}
	c.advance(ctx, p, m)
	return nil
}

// stop leaves the partition standing at an event until the next attempt.
func (c *catchUp) stop(ctx context.Context, p *part, e *es.Event, err error) {
	if p.failing != e.Position {
		p.attempts = 0
	}
	p.failing = e.Position
	p.attempts++
	p.stopped.Store(true)
	c.failed(ctx, "event cannot be applied; its partition of this projection stands still", e, err, "attempts", p.attempts)
	if err := c.records.fail(ctx, p, e, err); err != nil {
		c.logger.WarnContext(ctx, "projection failure not written down", "error", err)
	}
	wait := backoff{first: retryFirst, most: retryMost, attempts: p.attempts - 1}
	c.parts = slices.DeleteFunc(c.parts, func(other *part) bool { return other == p })
	c.arrive(arrival{part: p, retryAt: time.Now().Add(wait.next())})
}

// failed counts and logs an attempt at an event that cannot be applied.
func (c *catchUp) failed(ctx context.Context, what string, e *es.Event, err error, more ...any) {
	c.metrics.failure(c.projection.Name, c.store.name())
	args := append([]any{
		"store", c.store.name(), "partition", e.Partition, "position", e.Position, "stream", e.Stream, "type", e.Type, "error", err,
	}, more...)
	if fault, ok := errors.AsType[*faultError](err); ok && fault.stack != "" {
		args = append(args, "stack", fault.stack)
	}
	c.logger.ErrorContext(ctx, what, args...)
}
