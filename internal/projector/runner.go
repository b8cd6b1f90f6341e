package projector

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/es"
)

const (
	liveBatch = 2_000
	bulkBatch = 10_000
	// nearLive is within how many events of the live partitions one that is behind joins them.
	nearLive = 4_000
	// idleCheck is how often checkpoints are compared where nothing happens, and moveWithin how long after an event that the
	// projection does not want its checkpoint has passed it: a commit for each such event would cost more than all others.
	idleCheck  = time.Second
	moveWithin = 250 * time.Millisecond
	// readFirst is how long reading events that are there already may take, and doubles up to applyTimeout as long as it takes longer.
	readFirst = 2 * time.Second
)

// runner folds one generation of one projection into one store, for the partitions that it is assigned.
type runner struct {
	projection *Projection
	generation int
	filter     *filter
	feed       Feed
	log        Log
	near       int64
	records    *records
	newStore   func() store
	logger     *slog.Logger
	metrics    *Metrics
	meter      *meter

	// assigned is handed over by assign; wake ends a wait for events.
	mu       sync.Mutex
	assigned []int
	absorbed []chan struct{}
	inbox    []arrival
	told     map[int]told // by partition; nil: nothing new
	woken    bool
	wake     context.CancelFunc

	// What follows belongs to the goroutine of run.
	live      store
	parts     []*part // by partition number; nil where not assigned
	position  int64   // live partitions have seen the log up to here; 0 while there are none
	nextCheck time.Time
	readTime  time.Duration
	group     *errgroup.Group
	own       []es.Event
	picked    []es.Event
	moves     []move
	pace      pace
}

// arrival is a partition that comes back from catching up: near the live ones, or stopped until retryAt.
type arrival struct {
	part    *part
	retryAt time.Time
}

// assign says which partitions to fold. The channel is closed when the runner has let go of the others.
func (r *runner) assign(partitions []int) <-chan struct{} {
	done := make(chan struct{})
	r.mu.Lock()
	defer r.mu.Unlock()
	r.assigned = partitions
	r.absorbed = append(r.absorbed, done)
	r.rouse()
	return done
}

// rouse ends the wait of run; the caller holds mu.
func (r *runner) rouse() {
	r.woken = true
	if r.wake != nil {
		r.wake()
	}
}

// tell hands over what the control tables say of the partitions.
func (r *runner) tell(t map[int]told) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if t == nil {
		r.told = map[int]told{} // looked at when there is something else to do
		return
	}
	r.told = t
	r.rouse()
}

func (r *runner) arrive(a arrival) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inbox = append(r.inbox, a)
	r.rouse()
}

// waiting returns a context that ends when there is something to absorb, and at the deadline.
func (r *runner) waiting(ctx context.Context, deadline time.Time) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.woken {
		cancel()
	}
	r.wake = cancel
	return ctx, cancel
}

// run folds until ctx ends. It has no error of its own: whatever happens is tried again.
func (r *runner) run(ctx context.Context) error {
	r.group, ctx = errgroup.WithContext(ctx)
	r.live = r.newStore()
	defer r.metrics.gone(r.projection.Name, r.generation, r.live.name())
	r.nextCheck, r.readTime = time.Now().Add(idleCheck), readFirst
	trouble := backoff{}
	for ctx.Err() == nil {
		r.absorb(ctx)
		if now := time.Now(); !now.Before(r.nextCheck) {
			r.check(ctx)
			r.nextCheck = now.Add(idleCheck)
		}
		events, interrupted, err := r.next(ctx)
		switch {
		case err == nil && len(events) > 0:
			trouble.reset()
			r.fold(ctx, events)
			r.pace.rest(ctx, r.feed.Head()-r.position)
		case err != nil && !interrupted:
			r.logger.WarnContext(ctx, "projection cannot read the log", "error", err)
			trouble.pause(ctx)
		}
	}
	return r.group.Wait()
}

// next returns the events that come next to the live partitions, none if there is something else to do before there are any.
//
// Only waiting for events is interrupted. Old events, which have to be read from PostgreSQL, are not had any sooner by
// asking again: a server that takes longer for them than the time to the next check would be asked for ever.
func (r *runner) next(ctx context.Context) (events []es.Event, interrupted bool, err error) {
	live := r.anyLive()
	if live && r.feed.Head() > r.position {
		reading, cancel := context.WithTimeout(ctx, r.readTime)
		defer cancel()
		if events, err = r.feed.After(reading, r.position, liveBatch); err == nil {
			r.readTime = readFirst
		} else if reading.Err() != nil {
			r.readTime = min(2*r.readTime, applyTimeout)
		}
		return events, ctx.Err() != nil, err
	}
	wait, cancel := r.waiting(ctx, r.nextRetry(r.nextCheck))
	defer cancel()
	if !live {
		<-wait.Done()
		return nil, true, nil
	}
	events, err = r.feed.After(wait, r.position, liveBatch)
	return events, wait.Err() != nil, err
}

func (r *runner) anyLive() bool {
	for _, p := range r.parts {
		if p != nil && p.live {
			return true
		}
	}
	return false
}

func (r *runner) nextRetry(deadline time.Time) time.Time {
	for _, p := range r.parts {
		if p != nil && !p.retryAt.IsZero() && p.retryAt.Before(deadline) {
			deadline = p.retryAt
		}
	}
	return deadline
}

// absorb takes over what others have left for run: assignments, partitions that have caught up, due retries.
func (r *runner) absorb(ctx context.Context) {
	r.mu.Lock()
	assigned, absorbed, inbox, told := r.assigned, r.absorbed, r.inbox, r.told
	r.absorbed, r.inbox, r.told, r.woken, r.wake = nil, nil, nil, false, nil
	r.mu.Unlock()

	for _, a := range inbox {
		switch {
		case a.part.released.Load():
		case a.retryAt.IsZero():
			r.join(a.part)
		default:
			a.part.retryAt = a.retryAt
		}
	}
	if absorbed != nil {
		r.adopt(ctx, assigned)
		for _, done := range absorbed {
			close(done)
		}
	}
	now := time.Now()
	for _, p := range r.parts {
		switch {
		case p == nil:
		case p.retryAt.IsZero() && !p.live: // it is catching up, and reads the list then
		case !p.retryAt.IsZero() && (!p.retryAt.After(now) || told[p.number].act),
			p.live && told != nil && (told[p.number].act || told[p.number].parked != len(p.parked)):
			p.live, p.retryAt = false, time.Time{}
			r.catchUp(ctx, []*part{p}, 0)
		}
	}
}

// join makes a partition that is near the live ones one of them. The events between are read again, from memory;
// the others have seen them.
func (r *runner) join(p *part) {
	if !r.anyLive() || p.seen < r.position {
		r.position = p.seen
	}
	p.live = true
	r.live = r.newStore() // forgets documents as they were before others wrote them
}

// adopt makes the assigned partitions the runner's own, and lets go of the others.
func (r *runner) adopt(ctx context.Context, assigned []int) {
	keep := make(map[int]bool, len(assigned))
	var added []*part
	for _, n := range assigned {
		keep[n] = true
		for len(r.parts) <= n {
			r.parts = append(r.parts, nil)
		}
		if r.parts[n] == nil {
			p := &part{number: n}
			r.parts[n] = p
			added = append(added, p)
		}
	}
	for n, p := range r.parts {
		if p != nil && !keep[n] {
			p.released.Store(true)
			r.parts[n] = nil
		}
	}
	if len(added) > 0 {
		r.catchUp(ctx, added, 0)
	}
}

// fold folds a batch of the feed into the live partitions.
func (r *runner) fold(ctx context.Context, events []es.Event) {
	r.moves, r.own = r.moves[:0], r.own[:0]
	touched := make(map[int]int, 16) // partition -> index of its move
	passed := 0
	for i := range events {
		e := &events[i]
		p := r.livePart(e.Partition)
		if p == nil || e.Position <= p.seen {
			continue
		}
		if !r.filter.wants(e.Type) {
			passed++
			continue
		}
		at, ok := touched[p.number]
		if !ok {
			at = len(r.moves)
			touched[p.number] = at
			r.moves = append(r.moves, p.stands())
		}
		r.moves[at].to = e.Position
		if r.moves[at].admits(e, p.parked) {
			r.own = append(r.own, *e)
		}
	}
	last := events[len(events)-1].Position
	if len(r.moves) > 0 {
		began := time.Now()
		err := r.commit(ctx, r.live, &r.picked, r.moves, r.own, false)
		if err == nil {
			r.pace.folded(time.Since(began))
		} else {
			if ctx.Err() == nil && !errors.Is(err, errMoved) {
				r.logger.WarnContext(ctx, "projection batch failed; its partitions catch up apart", "store", r.live.name(), "error", err)
			}
			r.demote(ctx, r.moves)
		}
	}
	for _, p := range r.parts {
		if p != nil && p.live {
			p.seen = max(p.seen, last)
		}
	}
	r.position = last
	if passed > 0 {
		r.meter.worked(r.projection, r.live.name(), passed, 0)
		if by := time.Now().Add(moveWithin); by.Before(r.nextCheck) {
			r.nextCheck = by
		}
	}
	for _, m := range r.moves {
		if p := r.livePart(m.partition); p != nil {
			r.moved(ctx, r.live.name(), p, m)
		}
	}
}

// moved notes that the mark of a partition has moved.
func (r *runner) moved(ctx context.Context, store string, p *part, m move) {
	if len(m.toHeld) > len(m.fromHeld) {
		for stream, position := range m.toHeld {
			if _, before := m.fromHeld[stream]; !before {
				r.logger.WarnContext(ctx, "event parked; its stream waits in this projection until it is retried",
					"store", store, "partition", p.number, "position", position, "stream", stream)
			}
		}
	}
	p.moved(m.after())
}

// reportStanding tells the metrics what needs an operator.
func (r *runner) reportStanding() {
	var stopped, parked int64
	for _, p := range r.parts {
		if p == nil {
			continue
		}
		if p.stopped.Load() {
			stopped++
		}
		parked += p.holding.Load()
	}
	r.metrics.standing(r.projection.Name, r.generation, r.live.name(), stopped, parked)
}

func (r *runner) livePart(n int) *part {
	if n < len(r.parts) {
		if p := r.parts[n]; p != nil && p.live {
			return p
		}
	}
	return nil
}

// commit folds the wanted ones of the events and moves the checkpoints.
func (r *runner) commit(ctx context.Context, s store, buffer *[]es.Event, moves []move, events []es.Event, bulk bool) error {
	picked, err := r.filter.pick((*buffer)[:0], events)
	*buffer = picked
	if err != nil {
		return err
	}
	start := time.Now()
	err = s.apply(ctx, moves, picked, bulk)
	took := time.Since(start)
	r.metrics.batch(r.projection.Name, s.name(), len(events), took, err)
	if err == nil {
		r.meter.worked(r.projection, s.name(), len(events), took)
	}
	return err
}

// demote sends partitions whose batch failed to catch up apart from the live ones.
func (r *runner) demote(ctx context.Context, moves []move) {
	var behind []*part
	past := int64(0)
	for _, m := range moves {
		past = max(past, m.to)
		if p := r.livePart(m.partition); p != nil {
			p.live = false
			behind = append(behind, p)
		}
	}
	if len(behind) > 0 {
		r.catchUp(ctx, behind, past)
	}
}

// check writes down how far live partitions have come that had no events for the projection, so that the next worker need not read
// that again, and finds out whether Redis has lost what it had.
func (r *runner) check(ctx context.Context) {
	r.moves = r.moves[:0]
	for _, p := range r.parts {
		if p == nil || !p.live {
			continue
		}
		if p.seen > p.mark.position || r.live.name() == storeRedis {
			m := p.stands()
			m.to = p.seen
			r.moves = append(r.moves, m)
		}
	}
	r.reportStanding()
	r.metrics.progress(r.projection.Name, r.generation, r.live.name(), r.position, r.anyLive())
	if len(r.moves) == 0 {
		return
	}
	known, err := r.withinLog(ctx, r.moves)
	if err == nil {
		err = r.live.apply(ctx, r.moves, nil, false)
	}
	if err != nil {
		if ctx.Err() == nil {
			r.logger.InfoContext(ctx, "projection checkpoints are not where they were left; catching up", "store", r.live.name(), "error", err)
		}
		r.demote(ctx, r.moves)
		return
	}
	for _, m := range r.moves {
		r.moved(ctx, r.live.name(), r.parts[m.partition], m)
	}
	if r.live.name() == storeRedis && known {
		r.records.remember(ctx, r.moves)
	}
}

// withinLog makes sure that the log, as PostgreSQL has it, reaches to where marks in Redis are to be moved without an event. Where it does not tell they are only
// compared. What moves marks in PostgreSQL looks itself: see queueEnd.
func (r *runner) withinLog(ctx context.Context, moves []move) (known bool, err error) {
	if r.live.name() != storeRedis {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, answerTimeout) // live partitions wait for it
	defer cancel()
	head, err := r.log.Head(ctx)
	for i := range moves {
		m := &moves[i]
		switch {
		case err != nil:
			m.to = m.from
		case m.to > head:
			return true, fmt.Errorf("%w: it ends at %d, and %d was seen", errLogWentBack, head, m.to)
		}
	}
	return err == nil, nil
}
