package postgres

import (
	"context"
	"errors"
	"fmt"
	"runtime"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
)

// loadRequest is what has to be read before some calls can be decided.
type loadRequest struct {
	streams map[string]struct{}
	keys    map[string]struct{}
	calls   []*call
}

func (r *loadRequest) addStream(s string) {
	if r.streams == nil {
		r.streams = map[string]struct{}{}
	}
	r.streams[s] = struct{}{}
}

func (r *loadRequest) addKey(k string) {
	if r.keys == nil {
		r.keys = map[string]struct{}{}
	}
	r.keys[k] = struct{}{}
}

func (r *loadRequest) empty() bool { return len(r.streams) == 0 && len(r.keys) == 0 }

func (r *loadRequest) merge(o loadRequest) {
	for s := range o.streams {
		r.addStream(s)
	}
	for k := range o.keys {
		r.addKey(k)
	}
}

// reading is what a load found: states at least as new as head.
type reading struct {
	head    int64
	streams map[string]es.Versioned
	broken  map[string]error // streams that this binary cannot fold
	keys    *foundKeys
}

// load reads, while the committer commits, what calls need, for all that are waiting at once.
func (w *Writer) load(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.loadSignal:
		}
		// Those who were answered together ask together: let the others come in before reading for the first.
		runtime.Gosched()
		w.mu.Lock()
		request := w.loading
		w.loading = loadRequest{}
		w.loads++
		w.mu.Unlock()
		if len(request.calls) == 0 {
			continue
		}
		found, err := w.read(ctx, request)
		if err != nil {
			for _, c := range request.calls {
				c.fail(fmt.Errorf("%w: %w", es.ErrUnavailable, err))
			}
			continue
		}
		w.mu.Lock()
		w.install(request, found)
		for _, c := range request.calls {
			if err := found.brokenFor(c); err != nil {
				c.fail(err)
				continue
			}
			w.ready = append(w.ready, c)
		}
		w.mu.Unlock()
		signal(w.readySignal)
	}
}

// brokenFor returns why the call's first undecided command cannot be decided by this binary.
func (f *reading) brokenFor(c *call) error {
	if len(f.broken) == 0 || c.next >= len(c.commands) {
		return nil
	}
	for _, s := range c.commands[c.next].Streams {
		if err := f.broken[s]; err != nil {
			return fmt.Errorf("%w: %w", es.ErrUnavailable, err)
		}
	}
	return nil
}

// read asks for the head first: what is read after it is at least as new.
func (w *Writer) read(ctx context.Context, r loadRequest) (*reading, error) {
	ctx, cancel := context.WithTimeout(ctx, w.o.AppendTimeout)
	defer cancel()
	streams, after, keys := make([]string, 0, len(r.streams)), make([]int64, len(r.streams)), make([][]byte, 0, len(r.keys))
	for s := range r.streams {
		streams = append(streams, s)
	}
	for k := range r.keys {
		keys = append(keys, []byte(k))
	}
	f := &reading{streams: make(map[string]es.Versioned, len(streams)), broken: map[string]error{}}
	b := &pgx.Batch{}
	b.Queue(headQuery).QueryRow(func(row pgx.Row) error { return row.Scan(&f.head) })
	if len(keys) > 0 {
		f.keys = w.queueKeys(b, keys)
	}
	if len(streams) > 0 {
		for _, s := range streams {
			category, ok := w.categories[es.CategoryOf(s)]
			if !ok {
				return nil, fmt.Errorf("postgres: stream %s is of no kind that commands may name", s)
			}
			f.streams[s] = es.Versioned{State: category.Zero()}
		}
		queueStreams(b, streams, after, nil, func(rows pgx.Rows) error { return w.foldRows(rows, f) })
	}
	if err := w.log.pool.SendBatch(ctx, b).Close(); err != nil {
		return nil, fmt.Errorf("postgres: reading %d streams: %w", len(streams), err)
	}
	return f, nil
}

func (w *Writer) foldRows(rows pgx.Rows, f *reading) error {
	defer rows.Close()
	for rows.Next() {
		var e es.Event
		if err := w.log.scanEvent(rows, &e); err != nil {
			return err
		}
		if f.broken[e.Stream] != nil {
			continue
		}
		if err := w.evolve(f.streams, &e); err != nil {
			f.broken[e.Stream] = err
			delete(f.streams, e.Stream)
		}
	}
	return rows.Err()
}

// evolve brings the stream's state in the map to the event.
func (w *Writer) evolve(streams map[string]es.Versioned, e *es.Event) error {
	v := streams[e.Stream]
	next, err := w.fold(v, e)
	if err != nil {
		return err
	}
	streams[e.Stream] = next
	return nil
}

var errVersionGap = errors.New("postgres: an event does not follow its stream's state")

// fold returns the state after the event: the same one if it is contained already.
func (w *Writer) fold(v es.Versioned, e *es.Event) (es.Versioned, error) {
	switch {
	case e.Version <= v.Version:
		return v, nil
	case e.Version > v.Version+1:
		return v, fmt.Errorf("%w: %s is at version %d, the event at position %d is version %d", errVersionGap, e.Stream, v.Version, e.Position, e.Version)
	}
	if err := w.log.codec.Decode(e); err != nil {
		return v, fmt.Errorf("postgres: stream %s cannot be folded: %w", e.Stream, err)
	}
	state, err := w.categories[e.Category()].Fold(v.State, e.Fact, e.OccurredAt)
	if err != nil {
		return v, fmt.Errorf("postgres: stream %s cannot be folded: %w", e.Stream, err)
	}
	return es.Versioned{State: state, Version: e.Version}, nil
}

// install puts what was read into the cache, brought up to the writer's head: events that were committed
// between the reading and now are in the tail. What cannot be brought up to date is left out; whoever
// needs it asks again. w.mu is held.
func (w *Writer) install(r loadRequest, f *reading) {
	later, known := w.states.since(f.head)
	if !known {
		return
	}
	for i := range later {
		e := &later[i]
		if _, ok := f.streams[e.Stream]; !ok {
			continue
		}
		if err := w.evolve(f.streams, e); err != nil {
			delete(f.streams, e.Stream)
		}
	}
	for s, v := range f.streams {
		// What is cached is at the head already and may be newer than what was read.
		if cached, ok := w.states.streams.Peek(s); !ok || cached.Version < v.Version {
			w.states.streams.Add(s, v)
		}
	}
	for k := range r.keys {
		w.states.learn(k, f.keys, f.head)
	}
}
