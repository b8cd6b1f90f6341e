package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/internal/es"
)

// errHeadMoved says that another process has appended since this one last looked.
var errHeadMoved = errors.New("postgres: the head of the log has moved")

// batch is what one append will write, and what its calls will be told once it is written.
type batch struct {
	id        uuid.UUID
	head      int64     // expected
	headBatch uuid.UUID // and whose event stands there
	rows      eventRows
	keys      []keyRow
	changed   map[string]changed
	ordinals  map[int]int64
	verdicts  []verdict
	asking    []question // calls that need streams read before they can go on
}

// changed is a stream that the batch appends to.
type changed struct {
	es.Versioned
	bytes int // of its events' data
	row   int // of its last event
}

// verdict is what a command will be told when the batch is committed or, without rows, confirmed.
type verdict struct {
	call    *call
	index   int
	outcome es.Outcome
	err     error
}

type question struct {
	call    *call
	missing []string
}

type keyRow struct {
	key    string
	record keyRecord
}

// commitLoop decides and appends what is ready until ctx ends.
func (w *Writer) commitLoop(ctx context.Context) error {
	if err := w.start(ctx); err != nil {
		return err
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.readySignal:
		}
		for answered := 0; ; {
			w.gather(answered)
			calls := w.take()
			answered = len(calls)
			if len(calls) == 0 {
				break
			}
			if err := w.commit(ctx, calls); err != nil {
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
	defer func() { w.inHand = calls }()
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

// commit decides the calls and appends until each has a verdict, waits for a reading, or has failed. The
// only errors are those that end the writer.
func (w *Writer) commit(ctx context.Context, calls []*call) error {
	for {
		if ctx.Err() != nil {
			for _, c := range calls {
				c.fail(fmt.Errorf("%w: the process is stopping", es.ErrUnavailable))
			}
			return ctx.Err()
		}
		b := w.decide(calls)
		var err error
		switch {
		case len(b.rows.stream) > 0:
			err = w.append(ctx, b)
		case len(b.verdicts) > 0:
			err = w.confirm(ctx, b)
		}
		switch {
		case err == nil:
			w.settle(b)
			return nil
		case errors.Is(err, errHeadMoved):
			// Decide again what is left on the states as they are now.
		case errors.Is(err, errRefusedRows) && len(calls) > 1:
			// One of them cannot be stored: each goes alone, so that only that one hears of it.
			w.requeueAlone(calls)
			return nil
		case errors.Is(err, errRefusedRows):
			calls[0].fail(err)
			return nil
		case ctx.Err() != nil:
			for _, c := range calls {
				c.fail(fmt.Errorf("%w: %w: the process is stopping", es.ErrUnavailable, es.ErrOutcomeUnknown))
			}
			return ctx.Err()
		default:
			return err
		}
	}
}

// decide runs the commands of the calls one after the other, each on what those before it have decided.
func (w *Writer) decide(calls []*call) *batch {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := &batch{id: uuid.New(), head: w.head, headBatch: w.headBatch, changed: map[string]changed{}, ordinals: map[int]int64{}}
	usedNow := map[string]keyRecord{}
	now := w.o.Now().UTC().Truncate(time.Microsecond) // what the log keeps
	b.rows.recordedAt = now
	if now.Before(w.recordedAt) {
		b.rows.recordedAt = w.recordedAt // it never decreases, whatever the clocks do
	}
	for _, c := range calls {
		if err := context.Cause(c.ctx); err != nil && c.next < len(c.commands) {
			c.fail(err) // nobody waits for it any more, and nothing of what is left has been done
			continue
		}
		if len(b.rows.stream) >= w.o.MaxBatchEvents {
			b.asking = append(b.asking, question{call: c}) // it goes into the next batch
			continue
		}
		for i := c.next; i < len(c.commands); i++ {
			v, missing := w.decideOne(b, usedNow, c, i, now)
			if missing != nil {
				b.asking = append(b.asking, question{call: c, missing: missing})
				break
			}
			b.verdicts = append(b.verdicts, v)
			if len(b.rows.stream) >= w.o.MaxBatchEvents && i+1 < len(c.commands) {
				b.asking = append(b.asking, question{call: c}) // the rest goes into the next batch
				break
			}
		}
	}
	return b
}

// decideOne runs command i of the call. missing, if not nil, names what has to be read first.
func (w *Writer) decideOne(b *batch, usedNow map[string]keyRecord, c *call, i int, now time.Time) (v verdict, missing []string) {
	command := &c.commands[i]
	v = verdict{call: c, index: i}
	if id := command.Idempotency; id != nil {
		record, used := usedNow[string(id.Key)]
		if !used {
			record, used = w.states.used.Get(string(id.Key))
		}
		if used {
			if !bytes.Equal(record.request, id.Request) {
				v.err = &es.IdempotencyConflictError{}
			}
			v.outcome = es.Outcome{Position: record.position, Replayed: true, Streams: record.streams}
			return v, nil
		}
		if !w.states.unused.Contains(string(id.Key)) {
			return v, []string{} // the dispatcher sees that the key is not known
		}
	}
	d := es.NewDecision(now, command.OccurredAt, func(stream string) (es.Versioned, bool) {
		if s, ok := b.changed[stream]; ok {
			return s.Versioned, true
		}
		k, ok := w.states.streams.Get(stream)
		return k.Versioned, ok
	})
	err := command.Decide(d)
	if missing := d.Missing(); len(missing) > 0 {
		command.Streams = append(command.Streams[:len(command.Streams):len(command.Streams)], missing...)
		return v, missing
	}
	if err == nil {
		err = d.Err()
	}
	if id := command.Idempotency; id != nil && (err != nil || len(d.Appended()) == 0) &&
		w.lookedUpAt(id) < w.states.lastRival {
		// A rival may have used the key since it was looked up, and this be the consequence.
		w.states.unused.Remove(string(id.Key))
		return v, []string{}
	}
	if err != nil {
		v.err = err
		return v, nil
	}
	first := len(b.rows.stream)
	if err := b.rows.add(w, b, d, c.metadata); err != nil {
		v.err = err
		return v, nil
	}
	for s, state := range d.Changed() {
		change := b.changed[s]
		change.Versioned = state
		b.changed[s] = change
	}
	for i := first; i < len(b.rows.stream); i++ {
		change := b.changed[b.rows.stream[i]]
		change.bytes += len(b.rows.data[i])
		change.row = i
		b.changed[b.rows.stream[i]] = change
	}
	v.outcome = es.Outcome{Position: b.head + int64(len(b.rows.stream)), Events: len(d.Appended())}
	if id := command.Idempotency; id != nil && len(d.Appended()) > 0 {
		record := keyRecord{request: id.Request, streams: id.Streams, position: v.outcome.Position}
		usedNow[string(id.Key)] = record
		b.keys = append(b.keys, keyRow{key: string(id.Key), record: record})
	}
	return v, nil
}

// lookedUpAt returns the position as of which the key was known not to have been used.
func (w *Writer) lookedUpAt(id *es.Idempotency) int64 {
	position, _ := w.states.unused.Peek(string(id.Key))
	return position
}

// settle makes the batch's effects those of the cache, answers its commands, and sends on who has to wait.
func (w *Writer) settle(b *batch) {
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
			w.states.unused.Remove(string(id.Key))
		}
	}
	for _, q := range b.asking {
		w.dispatch(q.call, q.missing)
	}
	w.inHand = nil
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

func (w *Writer) requeueAlone(calls []*call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range calls {
		c.alone = true
	}
	w.ready = append(calls[:len(calls):len(calls)], w.ready...)
	signal(w.readySignal)
}
