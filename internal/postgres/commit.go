package postgres

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/internal/es"
)

// errHeadMoved says that nothing of a batch was written, nearly always because another process has appended since this one last looked.
var errHeadMoved = errors.New("postgres: the head of the log has moved")

// flight is a batch on its way into the log, from the calls that it is made of to the answer.
type flight struct {
	calls []*call
	batch *batch   // nil until it has been decided
	first *attempt // the first one to append it; nil while there was none
}

// batch is what one append will write, and what its calls will be told once it is written.
type batch struct {
	id        uuid.UUID
	on        *batch    // while it is decided: the one before it, which is not in the log yet; nil if that is
	began     time.Time // when it began to be decided; nothing of it was sent before
	head      int64     // expected
	headBatch uuid.UUID // and whose event stands there
	rows      eventRows
	keys      []keyRow
	used      map[es.Hash]keyRecord // keys, as of its end
	changed   map[string]changed
	ordinals  map[int]int64
	decided   []decision
	reads     []string // of all decisions
	presumed  []string // streams that decisions take for empty, which the append has to find out
	verdicts  []verdict
	asking    []question // calls that need streams read before they can go on
}

// changed is a stream that the batch appends to.
type changed struct {
	es.Versioned
	bytes int // of its events' data
	row   int // of its last event
}

// verdict is what a command will be told when the batch is committed or, where there is nothing to commit, confirmed.
type verdict struct {
	call    *call
	index   int
	outcome es.Outcome
	err     error
}

type question struct {
	call    *call
	missing []string // streams; empty but not nil where it is a key that has to be looked up
}

// commitLoop decides and appends what is ready until ctx ends.
func (w *Writer) commitLoop(ctx context.Context) error {
	if err := w.start(ctx); err != nil {
		return err
	}
	defer w.pipeline.close()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.readySignal:
		}
		var f *flight
		for answered := 0; ; {
			if f == nil {
				if w.crowded <= 0 { // who waits in line has time to gather
					w.gather(answered)
				}
				f = &flight{calls: w.take()}
			}
			if answered = len(f.calls); answered == 0 {
				break
			}
			var err error
			if f, err = w.commit(ctx, f); err != nil {
				return err
			}
		}
	}
}

// gatherPatience is how long a batch that has stopped growing is left open.
const gatherPatience = 20 * time.Microsecond

// gather lets those who have just been answered ask again before the next batch is taken: it yields to them for as long
// as that makes the batch grow. Otherwise two halves of the callers would wait for each other's commits. While streams
// are being read the readings are what makes batches, and nobody waits; nor does a single caller.
func (w *Writer) gather(answered int) {
	for most, since := 0, time.Now(); answered > 1; {
		w.mu.Lock()
		n, loads := len(w.ready), w.loads
		w.mu.Unlock()
		now := time.Now()
		switch {
		case loads != w.gathered:
			w.gathered = loads
			return
		case n > most:
			most, since = n, now
		case now.Sub(since) > gatherPatience:
			return
		}
		runtime.Gosched()
	}
}

// take returns the calls to decide next, or one alone if it has to be.
func (w *Writer) take() (calls []*call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { w.inHand = append(w.inHand, calls...) }()
	for i, c := range w.ready {
		if !c.alone {
			continue
		}
		if i == 0 {
			calls := w.ready[:1:1]
			w.ready = w.ready[1:]
			return calls
		}
		calls := w.ready[:i:i]
		w.ready = w.ready[i:]
		return calls
	}
	calls = w.ready
	w.ready = nil
	return calls
}

// join returns the calls and those that have become ready in the meantime.
func (w *Writer) join(calls []*call) []*call {
	w.mu.Lock()
	defer w.mu.Unlock()
	if calls[0].alone {
		return calls
	}
	n := slices.IndexFunc(w.ready, func(c *call) bool { return c.alone })
	if n < 0 {
		n = len(w.ready)
	}
	calls = append(calls, w.ready[:n]...)
	w.ready = slices.Delete(w.ready, 0, n)
	w.inHand = calls
	return calls
}

// commit decides the calls, unless that has been done, and appends until each has a verdict, waits for a reading, or has failed. It returns the
// next batch if that was decided meanwhile, and probably sent. A round is lost once at most while everything answers: the next one is a turn, which only
// a wrong presumption can lose; and once more with a batch that it was decided on. The only errors are those that end the writer.
func (w *Writer) commit(ctx context.Context, f *flight) (next *flight, err error) {
	stopping := func(doubt error) (*flight, error) {
		w.failAll(f.calls, fmt.Errorf("%w: the process is stopping", doubt))
		return nil, ctx.Err()
	}
	var before *batch
	inTurn := false // whether it was in a turn that before was lost
	for {
		if ctx.Err() != nil && f.first == nil {
			return stopping(es.ErrUnavailable)
		}
		var t *turn
		if f.batch == nil {
			if w.crowded > 0 {
				if t, err = w.takeTurn(ctx, f.calls); err != nil {
					return stopping(es.ErrUnavailable)
				}
				f.calls = w.join(f.calls)
			}
			f.batch = w.newBatch(nil)
			w.decide(f.batch, f.calls, before, inTurn)
		}
		b := f.batch
		switch {
		case b.writes():
			next, err = w.append(ctx, f, t)
		case len(b.verdicts) > 0 || t != nil:
			err = w.confirm(ctx, f, t)
		}
		if err == nil {
			w.settle(b, next)
			return next, nil
		}
		if next != nil {
			w.callBack(ctx, next, err)
			next = nil
		}
		switch {
		case errors.Is(err, errHeadMoved):
			// What it touches is decided again, on the states as they are then.
			before, inTurn, w.crowded = b, t != nil, crowdedFor
			f.batch, f.first = nil, nil
			w.metrics.lostRounds.Inc()
		case errors.Is(err, errRefusedRows) && len(f.calls) > 1:
			// One of them cannot be stored: each goes alone, so that only that one hears of it.
			for _, c := range f.calls {
				c.alone = true
			}
			w.putBack(f.calls)
			return nil, nil
		case errors.Is(err, errRefusedRows):
			w.failAll(f.calls, err)
			return nil, nil
		case ctx.Err() != nil:
			return stopping(fmt.Errorf("%w: %w", es.ErrUnavailable, es.ErrOutcomeUnknown))
		default:
			return nil, err
		}
	}
}

// callBack has the calls of a batch decided anew that was decided on one which is not in the log, so that it is not there either, and will not
// be; err says why. Where that is not known, since the process is stopping, it fails them.
func (w *Writer) callBack(ctx context.Context, f *flight, err error) {
	if f.first != nil {
		w.await(ctx, f.first)
	}
	if !errors.Is(err, errHeadMoved) && !errors.Is(err, errRefusedRows) {
		w.failAll(f.calls, fmt.Errorf("%w: %w: the process is stopping", es.ErrUnavailable, es.ErrOutcomeUnknown))
		return
	}
	w.metrics.lostRounds.Inc()
	w.putBack(f.calls)
}

// sendOff begins the first attempt to append the batch without a turn.
func (w *Writer) sendOff(ctx context.Context, f *flight) {
	f.first = w.pipeline.send(ctx, w.statements(f.batch), w.attemptTimeout(0))
}

// await waits until the attempt has been answered, or ctx ends it.
func (w *Writer) await(ctx context.Context, a *attempt) {
	select {
	case <-a.answered:
	case <-ctx.Done():
		w.pipeline.close()
		<-a.answered
	}
}

// firstAttempt makes the first attempt to append the batch, unless that is under way, and returns what came of it, and the next batch if that was
// decided meanwhile.
func (w *Writer) firstAttempt(ctx context.Context, f *flight) (next *flight, err error) {
	if f.first == nil {
		w.sendOff(ctx, f)
	}
	defer w.fence(ctx, w.pipeline.pid())()
	if len(f.batch.rows.stream) > 0 && !f.calls[0].alone {
		next = w.lookAhead(ctx, f)
	}
	w.await(ctx, f.first)
	return next, didWrite(f.first.written, f.first.err)
}

// lookAhead waits until the attempt to append the batch has ended. Meanwhile it decides the next batch on what this one will have changed, if
// enough calls come for it, and sends it after it: PostgreSQL has work while answers are on their way. The next batch names the event that it
// follows, as any, so that it is appended behind this one or not at all.
func (w *Writer) lookAhead(ctx context.Context, f *flight) (next *flight) {
	for {
		select {
		case <-f.first.answered:
			return nil
		case <-ctx.Done():
			return nil
		case <-w.readySignal:
		}
		w.gather(len(f.calls))
		select {
		case <-f.first.answered: // and it may have been lost
			return nil
		default:
		}
		calls := w.takeAhead(max(1, len(f.calls)/aheadPart))
		if calls == nil {
			continue
		}
		next = &flight{calls: calls, batch: w.newBatch(f.batch)}
		w.decide(next.batch, calls, nil, false)
		if len(next.batch.rows.stream) > 0 {
			w.sendOff(ctx, next)
		}
		return next
	}
}

// aheadPart is how many times smaller than the batch on its way the next one may be: many small ones cost more than a few large ones.
const aheadPart = 2

// takeAhead is take for a batch that is decided while another one is on its way; it returns nil if fewer are ready than least, or one has to go alone.
func (w *Writer) takeAhead(least int) (calls []*call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.ready) < least || slices.ContainsFunc(w.ready, func(c *call) bool { return c.alone }) {
		return nil
	}
	calls, w.ready = w.ready, nil
	w.inHand = append(w.inHand, calls...)
	return calls
}

// settle makes the batch's effects those of the cache, answers its commands, and sends on who has to wait; next, if not nil, is in hand from now on.
func (w *Writer) settle(b *batch, next *flight) {
	events := b.rows.events(b)
	w.mu.Lock()
	for s, change := range b.changed {
		old, _ := w.states.streams.Peek(s)
		k := kept{Versioned: change.Versioned, snapshot: old.snapshot, size: old.size.after(change.bytes, change.State)}
		if change.bytes > 0 {
			w.wantSnapshot(s, &k, b.head+int64(change.row)+1, b.id)
		}
		w.states.put(s, k)
	}
	for i := range events {
		w.states.remember(events[i])
	}
	for _, k := range b.keys {
		w.states.use(k.key, k.record)
	}
	w.head = b.head + int64(len(events))
	for p, ordinal := range b.ordinals {
		w.ordinals[p] = ordinal
	}
	if len(events) > 0 {
		w.headBatch = b.id
		w.recordedAt = b.rows.recordedAt
	}
	for _, v := range b.verdicts {
		v.call.outcomes[v.index], v.call.errs[v.index] = v.outcome, v.err
		v.call.next = v.index + 1
		if id := v.call.commands[v.index].Idempotency; id != nil {
			w.states.unused.Remove(id.Key)
			w.metrics.told(v)
		}
	}
	for _, q := range b.asking {
		if w.crowded > 0 && q.missing != nil && len(q.missing) == 0 {
			w.ready = append(w.ready, q.call) // the next turn looks its key up, as of then
			signal(w.readySignal)
			continue
		}
		w.dispatch(q.call, q.missing)
	}
	w.inHand = nil
	if next != nil {
		w.inHand = slices.Clone(next.calls)
		next.batch.on = nil // which has become what is in memory
	}
	w.repeated = max(0, w.repeated-1)
	w.makeRoom()
	w.mu.Unlock()
	if len(events) > 0 && w.o.OnAppend != nil {
		w.o.OnAppend(events)
	}
	for _, v := range b.verdicts {
		if v.index == len(v.call.commands)-1 {
			close(v.call.done)
		}
	}
}

// putBack has calls that were in hand decided anew, before all others.
func (w *Writer) putBack(calls []*call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ready = append(calls[:len(calls):len(calls)], w.ready...)
	signal(w.readySignal)
}
