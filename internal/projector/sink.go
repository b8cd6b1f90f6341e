package projector

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync/atomic"

	"github.com/millrace/millrace/internal/es"
)

// sink is a store of a generation that a rebuild fills.
type sink struct {
	projection  *Projection
	generation  int
	store       deferringStore
	log         Log
	filter      *filter
	partitions  []int   // those that are folded
	checkpoints []int64 // by partition: folded up to here, and perhaps not written yet; [closed] where it is not folded
	limits      []int64 // by partition: later events are left out; nil: none are
	held        []held  // by partition: what is left out, as folded up to the checkpoints
	parked      []map[string]parking
	position    atomic.Int64
	picked      []es.Event
	logger      *slog.Logger

	// isParked tells whether an event that cannot be applied may be parked; nil: none may. inherited are those that were.
	isParked  func(context.Context, *es.Event) (bool, error)
	inherited []ParkedEvent
}

// closed is the checkpoint of a partition that somebody else folds: behind every event.
const closed = math.MaxInt64

func newSink(o *ReplayOptions, p *Projection, number int, s deferringStore, partitions []int) *sink {
	added := &sink{
		projection: p, generation: number, store: s, log: o.Log, filter: newFilter(p, o.Codec), partitions: partitions,
		checkpoints: make([]int64, o.Info.Partitions),
		held:        make([]held, o.Info.Partitions), parked: make([]map[string]parking, o.Info.Partitions),
		logger: o.Logger.With("projection", p.Name, "generation", number, "store", s.name()),
	}
	for n := range added.checkpoints {
		if !slices.Contains(partitions, n) {
			added.checkpoints[n] = closed
		}
	}
	return added
}

// newSinks makes the sinks that fill a generation that nobody else fills.
func newSinks(o *ReplayOptions, p *Projection, number int, partitions []int) []*sink {
	var sinks []*sink
	if p.Postgres != nil {
		s := &bulkStore{postgresStore: newPostgresStore(o.Pool, p, number, o.Info.Partitions, func() {})}
		sinks = append(sinks, newSink(o, p, number, s, partitions))
	}
	if p.Redis != nil {
		s := &bulkDocuments{redisStore: newRedisStore(o.Redis, p, number, o.Info), shelf: p.Redis.newShelf()}
		sinks = append(sinks, newSink(o, p, number, s, partitions))
	}
	return sinks
}

// fold folds one page. A server that fails is tried again; what it had committed is not done twice.
func (s *sink) fold(ctx context.Context, page []es.Event) error {
	until := page[len(page)-1].Position
	moves, events := s.open(page)
	if len(moves) > 0 {
		if err := s.apply(ctx, s.store, moves, events); err != nil {
			if err := s.again(ctx, err, until); err != nil {
				return err
			}
		}
	}
	s.position.Store(until)
	return nil
}

// again folds, after an error, what is behind the checkpoints once more, up to a position.
func (s *sink) again(ctx context.Context, err error, until int64) error {
	pause := backoff{}
	for err != nil {
		// What is left of the batches before is folded once more too. It may also hold locks, for which others would wait.
		s.store.discard(ctx)
		if isFault(err) && !s.overtaken(ctx) {
			if err = s.locate(ctx, until); err == nil || !s.overtaken(ctx) {
				return err
			}
		}
		if ctx.Err() != nil || pause.attempts >= rebuildAttempts {
			return fmt.Errorf("projector: rebuilding %s: %w", s.projection.Name, err)
		}
		pause.pause(ctx)
		err = s.refold(ctx, s.store, until, s.apply)
		if err == nil {
			err = s.store.flush(ctx)
		}
	}
	return nil
}

// overtaken reports whether somebody else has folded more than this sink, or that cannot be told: what it read then need not be
// what it believed, and an event that it could not apply is not to blame.
func (s *sink) overtaken(ctx context.Context) bool {
	marks, err := s.store.load(ctx, s.partitions)
	if err != nil {
		return true
	}
	for i, m := range marks {
		if m.position > s.checkpoints[s.partitions[i]] {
			return true
		}
	}
	return false
}

// refold reads what is behind the checkpoints in the store, and folds it.
func (s *sink) refold(ctx context.Context, to store, until int64, apply func(context.Context, store, []move, []es.Event) error) error {
	if err := s.resume(ctx, to); err != nil {
		return err
	}
	for after := slices.Min(s.checkpoints); after < until; {
		page, err := s.log.ReadAll(ctx, after, int(min(rebuildPage, until-after)))
		if err != nil {
			return err
		}
		if len(page) == 0 {
			return fmt.Errorf("projector: the log ends at %d, before %d", after, until)
		}
		after = page[len(page)-1].Position
		if moves, events := s.open(page); len(moves) > 0 {
			if err := apply(ctx, to, moves, events); err != nil {
				return err
			}
		}
	}
	return nil
}

// resume lets the sink go on from where the store is.
func (s *sink) resume(ctx context.Context, from store) error {
	marks, err := from.load(ctx, s.partitions)
	if err != nil {
		return err
	}
	for i, m := range marks {
		s.checkpoints[s.partitions[i]], s.held[s.partitions[i]] = m.position, m.held
	}
	return nil
}

// open returns what of a page is still to be folded.
func (s *sink) open(page []es.Event) ([]move, []es.Event) {
	at := make([]int, len(s.checkpoints)) // by partition: 1 + index of its move
	moves := make([]move, 0, len(s.checkpoints))
	whole := true
	for i := range page {
		e := &page[i]
		if !s.isOpen(e) {
			whole = false
			continue
		}
		if at[e.Partition] == 0 {
			moves = append(moves, s.stands(e.Partition))
			at[e.Partition] = len(moves)
		}
		m := &moves[at[e.Partition]-1]
		m.to = e.Position
		whole = m.admits(e, s.parked[e.Partition]) && whole
	}
	if whole {
		return moves, page
	}
	var events []es.Event
	for i := range page {
		e := &page[i]
		if !s.isOpen(e) {
			continue
		}
		if from, held := moves[at[e.Partition]-1].toHeld[e.Stream]; !held || e.Position < from {
			events = append(events, *e)
		}
	}
	return moves, events
}

// stands is the move of a partition that goes nowhere yet.
func (s *sink) stands(n int) move {
	return move{partition: n, from: s.checkpoints[n], to: s.checkpoints[n], fromHeld: s.held[n], toHeld: s.held[n]}
}

func (s *sink) isOpen(e *es.Event) bool {
	return e.Position > s.checkpoints[e.Partition] && (s.limits == nil || e.Position <= s.limits[e.Partition])
}

func (s *sink) apply(ctx context.Context, to store, moves []move, events []es.Event) error {
	var err error
	if s.picked, err = s.filter.pick(s.picked[:0], events); err != nil {
		return err
	}
	if err := to.apply(ctx, moves, s.picked, true); err != nil {
		return err
	}
	for _, m := range moves {
		s.checkpoints[m.partition], s.held[m.partition] = m.to, m.toHeld
	}
	return nil
}

// finish moves the checkpoints of partitions without late events to the end, and writes what is left to be written.
func (s *sink) finish(ctx context.Context, until int64) error {
	var moves []move
	for n, at := range s.checkpoints {
		to := until
		if s.limits != nil {
			to = min(until, s.limits[n])
		}
		if at < to {
			m := s.stands(n)
			m.to = to
			moves = append(moves, m)
		}
	}
	var err error
	if len(moves) > 0 {
		err = s.apply(ctx, s.store, moves, nil)
	}
	if err == nil {
		err = s.store.flush(ctx)
	}
	if err != nil {
		if err := s.again(ctx, err, until); err != nil {
			return err
		}
		return s.finish(ctx, until)
	}
	s.position.Store(until)
	return nil
}

// locate finds the event that cannot be applied, and returns an error that names it; if it may be parked it does that, and
// folds what is behind it. There is none if somebody else had written what the batch was to write.
func (s *sink) locate(ctx context.Context, until int64) error {
	before := len(s.inherited)
	err := s.refold(ctx, s.store.direct(), until, s.bisect)
	if err != nil {
		return fmt.Errorf("projector: rebuilding %s: %w", s.projection.Name, err)
	}
	if len(s.inherited) == before {
		s.logger.WarnContext(ctx, "a batch of a rebuild failed whose events could be applied in smaller ones", "position", until)
	}
	return nil
}

// bisect folds events in ever smaller batches.
func (s *sink) bisect(ctx context.Context, to store, _ []move, events []es.Event) error {
	for size := len(events); len(events) > 0; {
		size = min(size, len(events))
		moves, part := s.open(events[:size])
		err := error(nil)
		if len(moves) > 0 {
			err = s.apply(ctx, to, moves, part)
		}
		switch {
		case err == nil:
			events = events[size:]
		case !isFault(err):
			return err
		case size > 1:
			size /= 2
		default:
			if err := s.park(ctx, &events[0], err); err != nil {
				return err
			}
			size = len(events)
		}
	}
	return nil
}

// park parks an event that cannot be applied, if an operator has done so in the generation before. Otherwise its error names
// the event.
func (s *sink) park(ctx context.Context, e *es.Event, cause error) error {
	allowed := false
	if s.isParked != nil {
		var err error
		if allowed, err = s.isParked(ctx, e); err != nil {
			return err
		}
	}
	if !allowed {
		return fmt.Errorf("event %d (%s, stream %s) cannot be applied: %w", e.Position, e.Type, e.Stream, cause)
	}
	if s.parked[e.Partition] == nil {
		s.parked[e.Partition] = make(map[string]parking)
	}
	s.parked[e.Partition][e.Stream] = parking{position: e.Position}
	s.inherited = append(s.inherited, ParkedEvent{
		Projection: s.projection.Name, Generation: s.generation, Store: s.store.name(), Partition: e.Partition,
		Position: e.Position, Stream: e.Stream, Type: e.Type, Error: errorText(cause), Attempts: 1,
	})
	return nil
}
