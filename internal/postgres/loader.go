package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
)

// loadRequest is what has to be read before some calls can be decided.
type loadRequest struct {
	streams map[string]struct{}
	keys    map[es.Hash]struct{}
	calls   []*call
}

func (r *loadRequest) addStream(s string) {
	if r.streams == nil {
		r.streams = map[string]struct{}{}
	}
	r.streams[s] = struct{}{}
}

func (r *loadRequest) addKey(k es.Hash) {
	if r.keys == nil {
		r.keys = map[es.Hash]struct{}{}
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

// part is a stream as far as it has been read.
type part struct {
	kept
	position int64     // of its last event
	batch    uuid.UUID // and what that came with
	pending  int       // bytes of events since the size was last told
	rows     int       // of the last page
	folded   bool      // its snapshot could not be restored: it is folded from its first event,
	again    bool      // which the page that has just been read does not hold
}

// reading is what a load found: states as they were at head, or later.
type reading struct {
	head    int64
	streams map[string]*part
	broken  map[string]error // streams that this binary cannot fold
	keys    *foundKeys
}

// load reads, while the committer commits, what calls need, for all that are waiting at once. A long stream is read in pages, so that
// the others wait for a page of it at most; what has been read of it is kept until it is whole, whether or not somebody still waits.
func (w *Writer) load(ctx context.Context) error {
	parts := map[string]*part{} // of streams that are not whole yet
	var resets uint64
	for {
		if len(parts) == 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-w.loadSignal:
			}
		}
		// Those who were answered together ask together: let the others come in before reading for the first.
		runtime.Gosched()
		w.mu.Lock()
		request := w.loading
		w.loading, w.beingRead = loadRequest{}, request.calls
		w.loads++
		if resets != w.states.resets {
			clear(parts) // of a log that is not ours any more
			resets = w.states.resets
		}
		w.mu.Unlock()
		for s := range parts {
			request.addStream(s)
		}
		if request.empty() {
			continue
		}
		found, err := w.read(ctx, request, parts)
		if err != nil {
			clear(parts)
			w.mu.Lock()
			w.beingRead = nil
			w.mu.Unlock()
			for _, c := range request.calls {
				c.fail(fmt.Errorf("%w: %w", es.ErrUnavailable, err))
			}
			continue
		}
		w.mu.Lock()
		if resets == w.states.resets {
			w.install(request, found, parts)
		}
		for _, c := range request.calls {
			if err := found.brokenFor(c); err != nil {
				c.fail(err)
				continue
			}
			w.dispatch(c, nil)
		}
		w.beingRead = nil
		w.makeRoom()
		w.mu.Unlock()
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

// pageEvents is how many events of a stream are read at once.
const pageEvents = 20_000

// behindEach finds the events of the streams wanted, behind a version and its position, as streamQuery does: at most $4 of each in each range of
// positions.
const behindEach = `
CROSS JOIN LATERAL (
  SELECT first_position, last_position FROM event_ranges WHERE NOT closed AND last_position > wanted.position
  UNION ALL
  SELECT r.first_position, r.last_position
  FROM stream_ranges d JOIN event_ranges r USING (first_position)
  WHERE d.stream = wanted.name AND r.closed AND r.last_position > wanted.position
) AS within
CROSS JOIN LATERAL (
  SELECT ` + eventColumns + `, batch FROM events e
  WHERE e.stream = wanted.name AND e.version > wanted.version
    AND e.position BETWEEN greatest(within.first_position, wanted.position + 1) AND within.last_position
  ORDER BY e.version
  LIMIT $4
) AS found
ORDER BY position`

// loadQuery reads streams: $1 are their names, $2 and $3 the versions and positions behind which to read.
const loadQuery = `SELECT found.* FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS wanted(name, version, position)` + behindEach

// snapshotLoadQuery is loadQuery for streams some of which may have snapshots of the shapes $5, which come first, as rows without a type. They are looked
// for where nothing of the stream has been read yet. A snapshot is believed only if the event that it was taken at stands in the log, as after a failover or
// a restore it might not. Snapshots and events are of one moment, so that they fit together.
const snapshotLoadQuery = `
WITH wanted AS MATERIALIZED (
  SELECT name, coalesce(s.version, asked.version) AS version, coalesce(s.position, asked.position) AS position, s.batch, s.state
  FROM unnest($1::text[], $2::bigint[], $3::bigint[], $5::integer[]) AS asked(name, version, position, shape)
  LEFT JOIN LATERAL (
    SELECT * FROM snapshots
    WHERE stream = asked.name AND shape = asked.shape AND asked.version = 0 AND EXISTS (
      SELECT FROM events e WHERE e.position = snapshots.position AND e.batch = snapshots.batch
        AND e.stream = snapshots.stream AND e.version = snapshots.version)
  ) AS s ON true
)
SELECT position, name AS stream, version, '' AS type, state AS data, '{}'::json AS metadata, 'epoch'::timestamptz AS occurred_at,
  'epoch'::timestamptz AS recorded_at, 0::smallint AS partition, 0::bigint AS ordinal, batch
FROM wanted WHERE state IS NOT NULL
UNION ALL
SELECT found.* FROM wanted` + behindEach

// read asks for the head first: what is read after it is at least as new.
func (w *Writer) read(ctx context.Context, r loadRequest, parts map[string]*part) (*reading, error) {
	ctx, cancel := context.WithTimeout(ctx, w.o.AppendTimeout)
	defer cancel()
	n := len(r.streams)
	streams, versions, positions, shapes := make([]string, 0, n), make([]int64, 0, n), make([]int64, 0, n), make([]int, 0, n)
	f := &reading{streams: make(map[string]*part, n), broken: map[string]error{}}
	for s := range r.streams {
		category, ok := w.categories[es.CategoryOf(s)]
		if !ok {
			return nil, fmt.Errorf("postgres: stream %s is of no kind that commands may name", s)
		}
		p := parts[s]
		if p == nil {
			p = &part{kept: kept{Versioned: es.Versioned{State: category.Zero()}}}
		}
		p.rows, p.again = 0, false
		f.streams[s] = p
		shape := category.Shape()
		if p.folded {
			shape = 0
		}
		streams, versions, positions, shapes = append(streams, s), append(versions, p.Version), append(positions, p.position), append(shapes, shape)
	}
	b := &pgx.Batch{}
	b.Queue(headQuery).QueryRow(func(row pgx.Row) error { return row.Scan(&f.head) })
	if len(r.keys) > 0 {
		f.keys = w.queueKeys(b, slices.Collect(maps.Keys(r.keys)))
	}
	if len(streams) > 0 {
		query, args := loadQuery, []any{streams, versions, positions, w.pageEvents}
		if slices.Max(shapes) > 0 {
			query, args = snapshotLoadQuery, append(args, shapes)
		}
		b.Queue(withoutBitmaps)
		b.Queue(query, args...).Query(func(rows pgx.Rows) error { return w.foldRows(rows, f) })
	}
	if err := w.log.pool.SendBatch(ctx, b).Close(); err != nil {
		return nil, fmt.Errorf("postgres: reading %d streams: %w", len(streams), err)
	}
	return f, nil
}

func (w *Writer) foldRows(rows pgx.Rows, f *reading) error {
	defer rows.Close()
	read, restored := 0, 0
	for rows.Next() {
		var e es.Event
		if err := w.log.scanEvent(rows, &e); err != nil {
			return err
		}
		p := f.streams[e.Stream]
		if p == nil {
			continue // broken
		}
		if e.Type == "" {
			restored++
			w.restore(p, &e)
			continue
		}
		read++
		p.rows++
		if p.again || p.rows > w.pageEvents && e.Version > p.Version+1 {
			continue // the page ended before this range of positions
		}
		next, err := w.fold(p.Versioned, &e)
		if err != nil {
			f.broken[e.Stream] = err
			delete(f.streams, e.Stream)
			continue
		}
		p.Versioned, p.position = next, e.Position
		copy(p.batch[:], rows.RawValues()[len(eventWidths)])
		p.pending += len(e.Data)
	}
	w.metrics.eventsRead.Add(float64(read))
	w.metrics.snapshotsRead.Add(float64(restored))
	return rows.Err()
}

// restore begins a stream with its snapshot. One that cannot be read is no reason to do without the stream.
func (w *Writer) restore(p *part, e *es.Event) {
	state, err := w.categories[e.Category()].Restore(e.Data)
	if err != nil {
		w.o.Log.Warn("a snapshot cannot be restored; the stream is read from its beginning", "stream", e.Stream, "error", err)
		p.folded, p.again = true, true
		return
	}
	p.Versioned, p.position, p.snapshot = es.Versioned{State: state, Version: e.Version}, e.Position, e.Version
	p.size = size{measured: len(e.Data)}
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

// install puts what was read into the cache, brought up to the writer's head: events that were committed between the reading and now are
// in the tail. What is not whole, or older than the tail, stays among the parts: it is read on from where it ends. w.mu is held.
func (w *Writer) install(r loadRequest, f *reading, parts map[string]*part) {
	later, known := w.states.since(f.head)
	for s, p := range f.streams {
		p.size, p.pending = p.size.after(p.pending, p.State), 0
		w.wantSnapshot(s, &p.kept, p.position, p.batch)
		if known && p.rows < w.pageEvents && !p.again {
			delete(parts, s)
		} else {
			parts[s] = p
		}
	}
	for s := range f.broken {
		delete(parts, s)
	}
	for i := range later {
		e := &later[i]
		p, ok := f.streams[e.Stream]
		if !ok || parts[e.Stream] != nil {
			continue
		}
		next, err := w.fold(p.Versioned, e)
		if err != nil {
			f.broken[e.Stream] = err
			delete(f.streams, e.Stream)
			continue
		}
		p.Versioned = next
	}
	for s, p := range f.streams {
		if parts[s] != nil {
			continue
		}
		// What is cached is at the head already and may be newer than what was read.
		if cached, ok := w.states.streams.Peek(s); !ok || cached.Version < p.Version {
			w.states.put(s, p.kept)
		}
	}
	for k := range r.keys {
		w.states.learn(k, f.keys, f.head)
	}
}
