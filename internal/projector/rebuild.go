package projector

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/es"
)

const (
	// rebuildPage is how many events are read, and folded in one commit, at once.
	rebuildPage = 10_000
	// pagesAhead bounds how far reading may be ahead of folding, and with it the memory.
	pagesAhead = 2
	// rebuildAttempts bounds how often a server that fails is tried again before a rebuild gives up.
	rebuildAttempts = 8
)

// rebuilder reads the log once and folds it into several sinks at the same time.
type rebuilder struct {
	log        Log
	partitions []int // nil: all
	sinks      []*sink
	events     atomic.Int64
	head       atomic.Int64
	unbroken   continuity
	gate       *gate // nil: made by the first fold
}

// position is where every sink has come to.
func (r *rebuilder) position() int64 {
	least := r.sinks[0].position.Load()
	for _, s := range r.sinks[1:] {
		least = min(least, s.position.Load())
	}
	return least
}

// fold folds the events behind after, up to until, into the sinks. Afterwards all their checkpoints are there, or at
// their limits.
func (r *rebuilder) fold(ctx context.Context, sinks []*sink, after, until int64) error {
	r.head.Store(max(r.head.Load(), until))
	r.unbroken.begin(after)
	if r.gate == nil {
		r.gate = newGate()
	}
	watching, stop := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { r.gate.watch(watching, r.log) })
	defer watch.Wait()
	defer stop()
	group, ctx := errgroup.WithContext(ctx)
	pages := make(chan chan []es.Event, pagesAhead)
	group.Go(func() error {
		defer close(pages)
		if r.partitions != nil {
			return r.readSome(ctx, pages, after, until)
		}
		return r.readAll(ctx, group, pages, after, until)
	})
	inputs := make([]chan []es.Event, len(sinks))
	for i, s := range sinks {
		inputs[i] = make(chan []es.Event, pagesAhead)
		group.Go(func() error {
			for events := range inputs[i] {
				if err := r.gate.step(ctx, func() error { return s.fold(ctx, events) }); err != nil {
					return err
				}
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return r.gate.step(ctx, func() error { return s.finish(ctx, until) })
		})
	}
	group.Go(func() error {
		defer func() {
			for _, in := range inputs {
				close(in)
			}
		}()
		for page := range pages {
			var events []es.Event
			select {
			case events = <-page:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := r.unbroken.follow(events, r.partitions == nil); err != nil {
				return err
			}
			r.events.Add(int64(len(events)))
			for _, in := range inputs {
				select {
				case in <- events:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
		}
		return nil
	})
	return group.Wait()
}

// readAll reads the whole log. Positions have no gaps, so it is known beforehand where each page begins: pages are read and
// decoded side by side, and handed on in order.
func (r *rebuilder) readAll(ctx context.Context, group *errgroup.Group, pages chan<- chan []es.Event, after, until int64) error {
	for from := after; from < until; from += rebuildPage {
		page := make(chan []es.Event, 1)
		select {
		case pages <- page:
		case <-ctx.Done():
			return ctx.Err()
		}
		group.Go(func() error {
			limit := int(min(rebuildPage, until-from))
			events, err := r.read(ctx, func(ctx context.Context) ([]es.Event, error) {
				events, err := r.log.ReadAll(ctx, from, limit)
				if err == nil && len(events) < limit {
					err = fmt.Errorf("projector: the log has %d events behind position %d, not %d", len(events), from, limit)
				}
				return events, err
			})
			if err == nil {
				page <- events
			}
			return err
		})
	}
	return nil
}

// readSome reads some partitions, one page after the other.
func (r *rebuilder) readSome(ctx context.Context, pages chan<- chan []es.Event, after, until int64) error {
	for after < until {
		events, err := r.read(ctx, func(ctx context.Context) ([]es.Event, error) {
			events, _, err := r.log.ReadPartitions(ctx, r.partitions, after, rebuildPage)
			return events, err
		})
		if err != nil {
			return err
		}
		last := len(events) < rebuildPage
		if behind := slices.IndexFunc(events, func(e es.Event) bool { return e.Position > until }); behind >= 0 {
			events, last = events[:behind], true
		}
		if len(events) > 0 {
			after = events[len(events)-1].Position
			page := make(chan []es.Event, 1)
			page <- events
			select {
			case pages <- page:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		if last {
			return nil
		}
	}
	return nil
}

// read tries a server that fails again.
func (r *rebuilder) read(ctx context.Context, once func(ctx context.Context) ([]es.Event, error)) ([]es.Event, error) {
	pause := backoff{}
	for {
		var events []es.Event
		err := r.gate.step(ctx, func() (err error) {
			bounded, cancel := context.WithTimeout(ctx, bulkTimeout)
			defer cancel()
			events, err = once(bounded)
			return err
		})
		if err == nil || ctx.Err() != nil || pause.attempts >= rebuildAttempts {
			return events, err
		}
		pause.pause(ctx)
	}
}

// continuity sees to it that a rebuild leaves nothing out: positions have no gaps, and neither have the ordinals of a
// partition.
type continuity struct {
	begun    bool
	start    int64         // it was read from here
	position int64         // and up to here
	ordinals map[int]int64 // of the last event of each partition that was read
}

func (c *continuity) begin(after int64) {
	if !c.begun {
		c.begun, c.start, c.position, c.ordinals = true, after, after, make(map[int]int64)
	}
}

// follow returns an error if an event is missing before or among those given. What was read before is passed over. Whole is
// whether all partitions are read.
func (c *continuity) follow(events []es.Event, whole bool) error {
	for i := range events {
		e := &events[i]
		if e.Position <= c.position {
			continue
		}
		if whole && e.Position != c.position+1 {
			return fmt.Errorf("projector: the log has no event at position %d, and one at %d; millrace verify tells more", c.position+1, e.Position)
		}
		before, known := c.ordinals[e.Partition]
		if (known || c.start == 0) && e.Ordinal != before+1 {
			return fmt.Errorf("projector: the event at position %d is number %d of partition %d, behind number %d; millrace verify tells more",
				e.Position, e.Ordinal, e.Partition, before)
		}
		c.ordinals[e.Partition], c.position = e.Ordinal, e.Position
	}
	return nil
}
