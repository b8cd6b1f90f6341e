package projector

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/millrace/millrace/internal/es"
)

// retryFirst and retryMost bound the pauses between attempts at an event that cannot be applied.
const (
	retryFirst = 200 * time.Millisecond
	retryMost  = 30 * time.Second
)

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
			if !errors.Is(err, errMoved) || c.pause.attempts > 0 {
				c.logger.WarnContext(ctx, "projection cannot catch up yet", "store", c.store.name(), "error", err)
			}
			c.pause.pause(ctx)
		}
	}
}

// step loads the checkpoints if need be, lets go of partitions that are near, and folds one batch into the others.
func (c *catchUp) step(ctx context.Context) error {
	if !c.loaded {
		if err := c.load(ctx); err != nil {
			return err
		}
	}
	c.head = max(c.head, c.feed.Head())
	c.parts = slices.DeleteFunc(c.parts, func(p *part) bool {
		switch {
		case p.failing == 0 && p.seen >= max(c.past, c.head-nearLive):
			c.arrive(arrival{part: p})
		case p.failing != 0 && len(c.parts) > 1:
			c.catchUp(ctx, []*part{p}, c.past) // alone, so that the others need not wait for it
		default:
			return false
		}
		return true
	})
	if len(c.parts) == 0 {
		return nil
	}
	numbers, after := make([]int, len(c.parts)), c.parts[0].seen
	for i, p := range c.parts {
		numbers[i], after = p.number, min(after, p.seen)
	}
	events, err := c.log.ReadPartitions(ctx, numbers, after, bulkBatch)
	if err != nil {
		return err
	}
	if err := c.fold(ctx, events); err != nil {
		return err
	}
	seen := c.head
	if len(events) == bulkBatch {
		seen = events[bulkBatch-1].Position
	}
	for _, p := range c.parts {
		p.seen = max(p.seen, seen)
	}
	return nil
}

// load reads where the partitions stand, and what they stand still at.
func (c *catchUp) load(ctx context.Context) error {
	numbers := make([]int, len(c.parts))
	for i, p := range c.parts {
		numbers[i] = p.number
	}
	positions, err := c.store.load(ctx, numbers)
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
	c.head = max(c.head, head)
	for i, p := range c.parts {
		p.checkpoint, p.seen = positions[i], positions[i]
		p.failing, p.attempts = 0, 0
		f, failed := failures[p.number]
		switch {
		case failed && f.position > p.checkpoint:
			p.failing, p.attempts = f.position, f.attempts
		case failed:
			if err := c.records.resolve(ctx, p.number); err != nil {
				return err
			}
		}
	}
	c.loaded = true
	return nil
}

// fold folds a batch; when an event is to blame, each partition apart.
func (c *catchUp) fold(ctx context.Context, events []es.Event) error {
	own := make(map[int][]es.Event, len(c.parts))
	var moves []move
	var all []es.Event
	for _, p := range c.parts {
		var mine []es.Event
		for i := range events {
			if events[i].Partition == p.number && events[i].Position > p.seen {
				mine = append(mine, events[i])
			}
		}
		if len(mine) > 0 {
			own[p.number] = mine
			moves = append(moves, move{partition: p.number, from: p.checkpoint, to: mine[len(mine)-1].Position})
		}
	}
	if len(moves) == 0 {
		return nil
	}
	for i := range events {
		if mine := own[events[i].Partition]; mine != nil && events[i].Position >= mine[0].Position {
			all = append(all, events[i])
		}
	}
	err := c.commit(ctx, c.store, &c.picked, moves, all, true)
	if err == nil {
		for _, p := range c.parts {
			if mine := own[p.number]; mine != nil {
				c.advance(ctx, p, mine[len(mine)-1].Position)
			}
		}
		return nil
	}
	if !isFault(err) {
		return err
	}
	for _, p := range slices.Clone(c.parts) {
		if err := c.foldApart(ctx, p, own[p.number]); err != nil {
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
		to := events[size-1].Position
		err := c.commit(ctx, c.store, &c.picked, []move{{partition: p.number, from: p.checkpoint, to: to}}, events[:size], true)
		switch {
		case err == nil:
			c.advance(ctx, p, to)
			events = events[size:]
		case !isFault(err):
			return err
		case size > 1:
			size /= 2
		default:
			c.stop(ctx, p, &events[0], err)
			return nil
		}
	}
	return nil
}

// advance notes that a partition's checkpoint has moved.
func (c *catchUp) advance(ctx context.Context, p *part, to int64) {
	p.checkpoint, p.seen = to, to
	if p.failing != 0 && to >= p.failing {
		c.logger.InfoContext(ctx, "projection goes on behind an event that could not be applied before",
			"partition", p.number, "position", p.failing)
		p.failing, p.attempts = 0, 0
		if err := c.records.resolve(ctx, p.number); err != nil {
			c.logger.WarnContext(ctx, "projection failure not yet struck off", "error", err) // load does it
		}
	}
}

// stop leaves the partition standing at an event until the next attempt.
func (c *catchUp) stop(ctx context.Context, p *part, e *es.Event, err error) {
	if p.failing != e.Position {
		p.attempts = 0
	}
	p.failing = e.Position
	p.attempts++
	c.metrics.failure(c.projection.Name, c.store.name())
	logger := c.logger
	if fault, ok := errors.AsType[*faultError](err); ok && fault.stack != "" {
		logger = logger.With("stack", fault.stack)
	}
	logger.ErrorContext(ctx, "event cannot be applied; its partition of this projection stands still",
		"store", c.store.name(), "partition", p.number, "position", e.Position, "stream", e.Stream, "type", e.Type,
		"attempts", p.attempts, "error", err)
	if err := c.records.fail(ctx, p, e, err); err != nil {
		c.logger.WarnContext(ctx, "projection failure not written down", "error", err)
	}
	wait := backoff{first: retryFirst, most: retryMost, attempts: p.attempts - 1}
	c.parts = slices.DeleteFunc(c.parts, func(other *part) bool { return other == p })
	c.arrive(arrival{part: p, retryAt: time.Now().Add(wait.next())})
}
