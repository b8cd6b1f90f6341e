package projector

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
)

// Need says what a query reads.
type Need struct {
	// Projections are the names of the models whose tables the query names.
	Projections []string
	// Streams are those whose events the query has to show: only their partitions are waited for. None: all. A read of one
	// stream that is parked is refused at a position that it would have to show and does not; what lists several
	// shows parked ones as they were, because an operator has decided to go on without them.
	Streams []string
}

// Query runs a statement that names tables as "<projection>.<table>", on a replica or, where none can answer, on the primary, and calls read with
// its rows. They show the models of the Need as they were at one moment, with all at least that had been recorded up to the position of ctx
// ([es.WithPosition]). Query waits for that, bounded, and returns an error wrapping [ErrStale] when it takes too long, and at once, as a
// [*ParkedError], when an operator has set aside what is asked for, or wrapping [ErrBeyond] too, when the log ends before the position. Read may be called again when a server was lost meanwhile (it must not have
// effects of its own); its other errors are returned as they are.
func (m *Models) Query(ctx context.Context, need Need, sql string, args []any, read func(pgx.Rows) error) error {
	q, err := m.newQuery(ctx, need, statement{sql, args, read})
	if err != nil {
		return err
	}
	if q.sources = sourcesFrom(ctx); q.sources != nil {
		if q.position = q.sources.wanted(); q.position > 0 {
			err := q.until(ctx, q.sources.until)
			if !errors.Is(err, ErrStale) {
				return err
			}
			q.sources.isLate()
			q = &query{Models: m, need: need, statement: q.statement, began: time.Now(), sources: q.sources}
		}
	}
	err = q.until(ctx, m.deadline(ctx, q.began))
	if q.position > 0 {
		q.observe(err)
	}
	return err
}

// newQuery returns a query at the position of ctx, or an error if it needs no model or one that there is not.
func (m *Models) newQuery(ctx context.Context, need Need, s statement) (*query, error) {
	if len(need.Projections) == 0 {
		return nil, errors.New("projector: a query needs a model")
	}
	for _, name := range need.Projections {
		if p := m.byName[name]; p == nil || p.Postgres == nil {
			return nil, fmt.Errorf("projector: there is no model %q in PostgreSQL", name)
		}
	}
	return &query{Models: m, need: need, statement: s, began: time.Now(), position: es.PositionFrom(ctx)}, nil
}

// until runs the query and waits for what it needs until then.
func (q *query) until(ctx context.Context, deadline time.Time) error {
	q.sparing = q.began.Add(deadline.Sub(q.began) / primaryShare)
	waiting, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	return q.run(ctx, waiting)
}

// deadline is until when a read waits that begins now. All reads for one position share the time: a query that reads several
// models, one after the other, is not to take the longer for each of them.
func (m *Models) deadline(ctx context.Context, now time.Time) time.Time {
	return since(ctx, now).Add(m.o.Wait)
}

// since is when a read that begins now was asked for: with its position, if it brings one.
func since(ctx context.Context, now time.Time) time.Time {
	if es.PositionFrom(ctx) > 0 {
		return es.PositionSince(ctx)
	}
	return now
}

// primaryShare is the part of a wait, a quarter, in which the primary is spared while a replica is only somewhat behind.
const primaryShare = 4

// query is one call of Query.
type query struct {
	*Models
	statement
	need     Need
	position int64
	required requirement
	began    time.Time
	sparing  time.Time // until then the primary is spared
	waited   time.Duration
	late     []string        // projections that were not as far as needed in the last snapshot
	unknown  int             // how often a table was not found
	sources  *Sources        // nil: nobody wants to know
	found    map[string]seen // what the snapshot of its rows showed
}

// statement is what a query runs.
type statement struct {
	sql  string
	args []any
	read func(pgx.Rows) error
}

// Why a server, or all of them, cannot answer.
var (
	// errBehind says that the server's snapshot does not show what is needed.
	errBehind = errors.New("it took too long")
	// errBuilding says that a model has no live generation in the server's snapshot.
	errBuilding = errors.New("it is still being built")
	// errStopped says that a partition that a list needs stands still.
	errStopped = errors.New("a partition has stopped")
	// errLogUnknown says that this process does not know the log up to the position.
	errLogUnknown = errors.New("the log is not known that far")
)

// ParkedError says that the stream that a read asks for is parked in a model: the model shows it as it was before Position,
// and the read has to show more. It wraps [ErrStale]; asking again does not help until an operator has retried it.
type ParkedError struct {
	Projection, Stream string
	Position           int64
}

func (e *ParkedError) Error() string {
	return fmt.Sprintf("projector: %s: stream %s is parked at position %d: %v", e.Projection, e.Stream, e.Position, ErrStale)
}

// Unwrap returns ErrStale.
func (e *ParkedError) Unwrap() error { return ErrStale }

// errRead wraps an error of what was asked, or of the caller's own, for which no server can be blamed.
type errRead struct{ err error }

func (e *errRead) Error() string { return e.err.Error() }

func (q *query) stale(why error) error {
	return fmt.Errorf("projector: %s at position %d: %w: %w", strings.Join(q.need.Projections, ", "), q.position, why, ErrStale)
}

func (q *query) run(ctx, waiting context.Context) error {
	var err error
	if q.required, err = q.require(waiting, q.need.Projections, q.position, q.partitionsOf(q.need.Streams)); err != nil {
		q.waited = time.Since(q.began)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrBeyond):
			return q.stale(err)
		}
		return q.stale(errLogUnknown)
	}
	pause := backoff{first: time.Millisecond, most: 20 * time.Millisecond}
	for {
		err := q.ask(ctx)
		if !errors.Is(err, errBehind) && !errors.Is(err, errBuilding) {
			return err
		}
		pause.pause(waiting)
		if waiting.Err() != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return q.stale(err)
		}
	}
}

// ask asks one server after the other until one answers. It returns [errBehind] or [errBuilding] where it is worth to ask again.
func (q *query) ask(ctx context.Context) error {
	var behind, standing, failed error
	for _, s := range q.inTurn() {
		if s == q.primary && behind != nil && standing == nil && time.Now().Before(q.sparing) {
			return behind
		}
		if !s.breaker.Closed() { // it is tried by Run: of readers that try each server in turn, one always waits
			s.breaker.Refuse()
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, errLeftAlone))
			continue
		}
		err := q.attempt(ctx, s)
		var own *errRead
		switch {
		case err == nil:
			return nil
		case errors.As(err, &own):
			return own.err
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, ErrStale): // it stands still
			if s == q.primary {
				return err
			}
			standing = err // what a replica tells of the past may be mended: the primary knows
		case errors.Is(err, errBehind), errors.Is(err, errBuilding):
			if s == q.primary {
				return err // nobody has more
			}
			behind = err
		default:
			failed = errors.Join(failed, fmt.Errorf("%s: %w", s.name, err))
		}
	}
	switch { // the primary does not answer
	case standing != nil:
		return standing
	case behind != nil:
		return behind
	default:
		return fmt.Errorf("projector: reading %s: %w: %w", strings.Join(q.need.Projections, ", "), es.ErrUnavailable, failed)
	}
}

// observe tells the metrics how a read at a position has ended.
func (q *query) observe(err error) {
	switch {
	case err == nil:
	case errors.Is(err, ErrStale):
		q.waited = time.Since(q.began)
	default:
		return // of a read that was given up, or that no server answered, nothing is known
	}
	for _, name := range q.need.Projections {
		q.o.Metrics.waited(name, storePostgres, q.waited)
	}
	if err == nil {
		return
	}
	late := q.late
	if len(late) == 0 {
		late = q.need.Projections
	}
	for _, name := range late {
		q.o.Metrics.stale(name, storePostgres, reasonOf(err))
	}
}

// reasonOf is what metrics call the reason for an error that wraps ErrStale.
func reasonOf(err error) string {
	_, parked := errors.AsType[*ParkedError](err)
	switch {
	case parked:
		return reasonParked
	case errors.Is(err, errStopped):
		return reasonStopped
	case errors.Is(err, errLogUnknown):
		return reasonLog
	case errors.Is(err, ErrBeyond):
		return reasonBeyond
	default:
		return reasonBehind
	}
}

// attempt reads on one server, which its breaker has allowed, and tells the breaker whether the server answers.
func (q *query) attempt(ctx context.Context, s *server) error {
	beginning, cancel := bounded(ctx, answerTimeout)
	defer cancel()
	conn, err := s.pool.Acquire(beginning)
	if err != nil {
		s.ended(ctx, err)
		return err
	}
	defer conn.Release()
	reading, cancel := bounded(ctx, readTimeout)
	defer cancel()
	began := time.Now()
	defer s.watch(ctx, began, cancel)()
	verdict := s.breaker.Abandoned // also where the caller's own code panics
	defer func() { verdict() }()
	err = q.onConnection(reading, s, conn.Conn())
	closed, state := conn.Conn().IsClosed(), sqlState(err)
	switch {
	case ctx.Err() != nil, closed && reading.Err() != nil && s.answeredSince(began):
	case closed, serverAtFault(state):
		verdict = s.breaker.Failed
	default:
		verdict = s.succeeded
	}
	if closed {
		return err
	}
	if conn.Conn().PgConn().TxStatus() != idle {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
		defer cancel()
		_, _ = conn.Exec(ending, "rollback") // the pool looks at what has become of the connection
	}
	switch {
	case err == nil, errors.Is(err, errBehind), errors.Is(err, errBuilding), errors.Is(err, ErrStale), serverAtFault(state):
		return err
	case state != undefinedTable && state != undefinedSchema:
		return &errRead{err}
	}
	q.unknown++ // the generation was dropped between resolving it and reading it
	switch {
	case q.unknown <= 3:
		return errBehind
	case q.tablesLost(ctx):
		return &errRead{q.stale(errBuilding)} // workers build the model anew
	default:
		return &errRead{err}
	}
}

// idle is what a server says of a connection without a transaction.
const idle = 'I'

// onConnection reads from the generations that are expected to be live, if others are from those. It first looks which they are, and how far, where the last
// reading came to nothing: what is asked for may take long, and would be asked in vain.
func (q *query) onConnection(ctx context.Context, s *server, conn *pgx.Conn) (err error) {
	expected := q.expected(q.need.Projections)
	schemas := expected
	if len(q.late) > 0 || q.unknown > 0 || s.otherwise.Load() {
		schemas = nil
	}
	defer func() {
		s.otherwise.Store(errors.Is(err, errBehind) || errors.Is(err, errBuilding) || err == nil && !maps.Equal(schemas, expected))
	}()
	for range 3 { // a look, a reading, and one more if a switch came between
		var live map[string]string
		if live, err = q.exchange(ctx, conn, schemas); err != nil || live == nil {
			return err
		}
		schemas = live
	}
	return errBehind
}

// exchange looks which generations are live and reads from the schemas, if there are any, in one snapshot and one round trip. It returns nil when it has
// read, or the schemas of the live generations.
func (q *query) exchange(ctx context.Context, conn *pgx.Conn, schemas map[string]string) (live map[string]string, err error) {
	b := &pgx.Batch{}
	b.Queue(beginSnapshot)
	q.queueLookUps(b, q.need.Projections)
	if schemas != nil {
		b.Queue(q.namesOf(schemas).rewrite(q.sql), q.args...)
	}
	b.Queue(endSnapshot)
	waited := time.Since(q.began)
	results := conn.SendBatch(ctx, b)
	live, err = q.take(results, schemas)
	if closeErr := results.Close(); err == nil {
		err = closeErr
	}
	if live == nil && err == nil {
		q.waited = waited
	}
	if schemas == nil && sqlState(err) == undefinedTable {
		err = errBuilding // a replica that has not heard of the control tables yet
	}
	return live, err
}

// take takes the answers of an exchange.
func (q *query) take(results pgx.BatchResults, schemas map[string]string) (live map[string]string, err error) {
	if _, err := results.Exec(); err != nil {
		return nil, err
	}
	found, err := collectSeen(results, q.need.Projections)
	if err != nil {
		return nil, err
	}
	if live, err = q.judge(found); err != nil || !maps.Equal(live, schemas) {
		return live, err
	}
	rows, err := results.Query()
	if err != nil {
		return nil, err
	}
	err = q.read(rows)
	rows.Close()
	if err == nil {
		err = rows.Err()
	}
	if q.found = found; err == nil && q.sources != nil {
		for name, g := range found {
			if slices.ContainsFunc(q.need.Streams, func(s string) bool { return g.parkedAt(s) > 0 }) {
				q.sources.isLate() // a retry changes its row, and no event says so
			}
			q.sources.note(name, g.Part, q.need.Streams)
		}
	}
	return nil, err
}

// judge returns the schemas of the live generations, or why they cannot be read.
func (q *query) judge(found map[string]seen) (live map[string]string, err error) {
	q.late = nil
	live = make(map[string]string, len(found))
	for name, g := range found {
		live[name] = schemaName(name, g.Generation)
		if len(q.need.Streams) == 1 {
			if at := g.parkedAt(q.need.Streams[0]); at > 0 && at <= q.position {
				q.late = append(q.late, name)
				return nil, &ParkedError{Projection: name, Stream: q.need.Streams[0], Position: at}
			}
		}
	}
	stopped := false
	for i, name := range q.required.projections {
		g, ok := found[name]
		if !ok {
			continue
		}
		if partition := q.required.partitions[i]; g.positions[partition] < q.required.positions[i] {
			stopped = stopped || g.failures[partition] > g.positions[partition]
			if !slices.Contains(q.late, name) {
				q.late = append(q.late, name)
			}
		}
	}
	for _, name := range q.need.Projections {
		if _, ok := found[name]; !ok {
			q.late = append(q.late, name)
		}
	}
	switch {
	case stopped && len(q.need.Streams) == 0:
		return nil, q.stale(errStopped)
	case len(found) < len(q.need.Projections):
		return nil, errBuilding
	case len(q.late) > 0:
		return nil, errBehind
	}
	return live, nil
}

// tablesLost reports whether somebody has deleted tables of a generation that is read.
func (q *query) tablesLost(ctx context.Context) (lost bool) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	err := q.primary.pool.QueryRow(ctx, `SELECT EXISTS (SELECT FROM unnest($1::text[], $2::integer[]) AS needed(name, version)
		JOIN projections p ON p.name = needed.name AND p.version = needed.version AND p.status = 'live'
		  AND EXISTS (SELECT FROM unnest(p.tables) AS t WHERE to_regclass(t) IS NULL))`,
		q.need.Projections, q.versions(q.need.Projections)).Scan(&lost)
	return err == nil && lost
}
