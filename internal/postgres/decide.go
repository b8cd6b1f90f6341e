package postgres

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/millrace/millrace/internal/es"
)

// decision is what one command came to, kept for the case that the batch cannot be appended where it was to be: it still stands if
// nothing that it rests on has changed.
type decision struct {
	verdict  verdict
	reads    []string // streams whose states, or absence, it was taken on
	presumed []string // those of them that it takes for empty
	from, to int      // its rows
	changed  map[string]es.Versioned
}

// moved are the streams that other processes have appended to since the last batch was decided.
type moved struct {
	streams map[string]struct{}
	all     bool
}

// redecision says which decisions of an earlier attempt at a batch still stand.
type redecision struct {
	old     map[commandID]*decision
	rows    *eventRows
	touched map[string]struct{} // streams that are not what the earlier decisions saw
	all     bool
	lost    bool // there was an earlier attempt
	certain bool // and presumptions may be why it was lost: none may be made
}

type commandID struct {
	call  *call
	index int
}

// since returns what is left of the decisions of a batch, nil for none, now that rivals have moved streams. What it presumed does not stand
// if it was lost in a turn, or no rival has moved anything: what else could have been the reason?
func (m *moved) since(before *batch, inTurn bool) (r redecision) {
	if before == nil {
		clear(m.streams)
		m.all = false
		return r
	}
	r.touched, r.all, r.lost = m.streams, m.all, true
	r.certain = inTurn || !m.all && len(m.streams) == 0
	*m = moved{streams: map[string]struct{}{}}
	r.rows, r.old = &before.rows, make(map[commandID]*decision, len(before.decided))
	for i := range before.decided {
		d := &before.decided[i]
		if d.verdict.outcome.Replayed {
			continue // it rests on a key alone, which may not have been used after all
		}
		if r.certain && len(d.presumed) > 0 {
			for s := range d.changed {
				r.touched[s] = struct{}{}
			}
			continue
		}
		r.old[commandID{d.verdict.call, d.verdict.index}] = d
	}
	return r
}

// standing returns the command's earlier decision if it still stands. Otherwise what that changed is not what later ones saw.
func (r *redecision) standing(c *call, i int) *decision {
	d := r.old[commandID{c, i}]
	if d == nil {
		return nil
	}
	if !r.all && !slices.ContainsFunc(d.reads, func(s string) bool { _, ok := r.touched[s]; return ok }) {
		return d
	}
	r.touch(d.changed)
	return nil
}

// drop says that the call's commands from i on are not in the batch this time.
func (r *redecision) drop(c *call, i int) {
	for ; len(r.old) > 0 && i < len(c.commands); i++ {
		if d := r.old[commandID{c, i}]; d != nil {
			r.touch(d.changed)
		}
	}
}

func (r *redecision) touch(changed map[string]es.Versioned) {
	if len(r.old) == 0 {
		return
	}
	for s := range changed {
		r.touched[s] = struct{}{}
	}
}

// newBatch returns an empty batch. If on is not nil, it is that one, which has events and is on its way into the log, that it will be decided on.
func (w *Writer) newBatch(on *batch) *batch {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := &batch{
		id: uuid.New(), began: time.Now(), on: on, head: w.head, headBatch: w.headBatch,
		used: map[es.Hash]keyRecord{}, changed: map[string]changed{}, ordinals: map[int]int64{},
	}
	recordedAt := w.recordedAt
	if on != nil {
		b.head, b.headBatch, recordedAt = on.head+int64(len(on.rows.stream)), on.id, on.rows.recordedAt
	}
	b.rows.recordedAt = w.now()
	if b.rows.recordedAt.Before(recordedAt) {
		b.rows.recordedAt = recordedAt // it never decreases, whatever the clocks do
	}
	return b
}

// now returns the time as the log keeps it.
func (w *Writer) now() time.Time { return w.o.Now().UTC().Truncate(time.Microsecond) }

// writes reports whether the batch has something to write.
func (b *batch) writes() bool { return len(b.rows.stream) > 0 || len(b.keys) > 0 }

// decide adds the commands of the calls to the batch, running one after the other, each on what those before it have decided. What was decided before on
// states that are still those is not decided again; inTurn says that before was lost in a turn.
func (w *Writer) decide(b *batch, calls []*call, before *batch, inTurn bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	again := w.moved.since(before, inTurn)
	now := w.now()
	for _, c := range calls {
		if err := context.Cause(c.ctx); err != nil && c.next < len(c.commands) {
			again.drop(c, c.next)
			c.fail(err) // nobody waits for it any more, and nothing of what is left has been done
			continue
		}
		if len(b.rows.stream) >= w.o.MaxBatchEvents {
			again.drop(c, c.next)
			b.asking = append(b.asking, question{call: c}) // it goes into the next batch
			continue
		}
		for i := c.next; i < len(c.commands); i++ {
			d, missing := w.decideOne(b, &again, c, i, now)
			if missing != nil {
				again.drop(c, i)
				b.asking = append(b.asking, question{call: c, missing: missing})
				break
			}
			b.decided = append(b.decided, d)
			b.verdicts = append(b.verdicts, d.verdict)
			if len(b.rows.stream) >= w.o.MaxBatchEvents && i+1 < len(c.commands) {
				again.drop(c, i+1)
				b.asking = append(b.asking, question{call: c}) // the rest goes into the next batch
				break
			}
		}
	}
}

// decideOne decides command i of the call, or finds that it has been decided. missing, if not nil, names what has to be read first.
func (w *Writer) decideOne(b *batch, again *redecision, c *call, i int, now time.Time) (d decision, missing []string) {
	command := &c.commands[i]
	id := command.Idempotency
	var lookedUp unusedKey
	known := false
	d.verdict = verdict{call: c, index: i}
	if id != nil {
		record, used := b.usedKey(id.Key)
		if !used {
			record, used = w.states.usedKey(id.Key)
		}
		if used {
			again.drop(c, i)
			if record.request != id.Request {
				d.verdict.err = &es.IdempotencyConflictError{}
			}
			d.verdict.outcome = es.Outcome{Position: record.position, Replayed: true, Streams: w.fromArrayText(record.streams)}
			return d, nil
		}
		// A key that nobody has looked up is taken for a new one, as nearly all are: if it is not, its record refuses the batch, and in the turn
		// that follows it is known. Only who has lost a round already is not to lose another one by it.
		lookedUp, known = w.states.unused.Peek(id.Key)
		if !known && (c.keysFirst || again.lost) {
			c.keysFirst = true
			return d, []string{}
		}
	}
	d.from = len(b.rows.stream)
	if old := again.standing(c, i); old != nil {
		d.reads, d.presumed, d.changed, d.verdict.err = old.reads, old.presumed, old.changed, old.verdict.err
		b.presumed = append(b.presumed, d.presumed...)
		b.rows.addAgain(w, b, again.rows, old.from, old.to)
	} else if missing = w.run(b, &d, command, c.metadata, now, again.certain); missing != nil {
		return d, missing
	} else {
		again.touch(d.changed)
	}
	d.to = len(b.rows.stream)
	if id != nil && d.to == d.from && (!known || lookedUp.position < w.states.lastRival) {
		// The key may have been used, by a rival since it was looked up, and this be the consequence.
		w.states.unused.Remove(id.Key)
		c.keysFirst = true
		return d, []string{}
	}
	if d.verdict.err != nil {
		return d, nil
	}
	for s, state := range d.changed {
		change := b.changed[s]
		change.Versioned = state
		b.changed[s] = change
	}
	d.verdict.outcome = es.Outcome{Position: b.head + int64(d.to), Events: d.to - d.from}
	if id != nil { // also where there was nothing to do: a repetition must not find something
		record := keyRecord{request: id.Request, streams: w.arrayText(id.Streams), position: d.verdict.outcome.Position, until: b.began.Add(w.o.KeepKeys)}
		b.used[id.Key] = record
		b.keys = append(b.keys, keyRow{key: id.Key, record: record, expired: lookedUp.expired})
	}
	return d, nil
}

// run runs a command's decision on what the batch has come to; certain says that it may presume nothing. missing is as with decideOne.
func (w *Writer) run(b *batch, d *decision, command *es.Command, metadata json.RawMessage, now time.Time, certain bool) (missing []string) {
	w.metrics.decisions.Inc()
	first := len(b.reads)
	taken := es.NewDecision(now, command.OccurredAt, func(stream string) (es.Versioned, bool) {
		b.reads = append(b.reads, stream)
		if s, ok := b.state(stream); ok {
			return s, true
		}
		k, ok := w.states.streams.Get(stream)
		return k.Versioned, ok
	})
	if certain {
		taken.PresumeNothing()
	}
	err := command.Decide(taken)
	missing, presumed := taken.Missing(), taken.Presumptions()
	if len(missing) == 0 && (err != nil || len(taken.Appended()) == 0) {
		missing = presumed // a refusal has no append that would find out
	}
	if len(missing) > 0 {
		command.Streams = append(command.Streams[:len(command.Streams):len(command.Streams)], missing...)
		return missing
	}
	d.reads = b.reads[first:len(b.reads):len(b.reads)]
	d.presumed = presumed
	b.presumed = append(b.presumed, presumed...)
	if err == nil {
		err = taken.Err()
	}
	if err == nil {
		err = b.rows.add(w, b, taken, metadata)
	}
	if d.verdict.err = err; err == nil {
		d.changed = taken.Changed()
	}
	return nil
}

// dryRun decides a dry run on the states in memory and ends it. missing is as with decideOne. w.mu is held.
func (w *Writer) dryRun(c *call) (missing []string) {
	command := &c.commands[0]
	end := func(err error) []string {
		c.errs[0], c.next = err, 1
		close(c.done)
		return nil
	}
	if id := command.Idempotency; id != nil {
		switch record, used := w.states.usedKey(id.Key); {
		case used && record.request != id.Request:
			return end(&es.IdempotencyConflictError{})
		case used:
			return end(nil)
		}
	}
	taken := es.NewDecision(w.now(), command.OccurredAt, func(stream string) (es.Versioned, bool) {
		k, ok := w.states.streams.Get(stream)
		return k.Versioned, ok
	})
	err := command.Decide(taken)
	if missing = taken.Missing(); len(missing) > 0 {
		command.Streams = append(command.Streams[:len(command.Streams):len(command.Streams)], missing...)
		return missing
	}
	if err == nil {
		err = taken.Err()
	}
	return end(err)
}

// usedKey returns what the batch, or the one that it is decided on, has recorded of a key.
func (b *batch) usedKey(key es.Hash) (record keyRecord, ok bool) {
	if record, ok = b.used[key]; !ok && b.on != nil {
		record, ok = b.on.used[key]
	}
	return record, ok
}

// state returns what the batch, or the one that it is decided on, has made of a stream.
func (b *batch) state(stream string) (es.Versioned, bool) {
	change, ok := b.changed[stream]
	if !ok && b.on != nil {
		change, ok = b.on.changed[stream]
	}
	return change.Versioned, ok
}
