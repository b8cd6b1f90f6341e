package projector

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

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

// Snapshot is one state of the models of a Need: checkpoints and rows of one moment.
type Snapshot struct {
	conn  *pgx.Conn
	names *schemaNames
}

// Query runs a query that names tables as "<projection>.<table>".
func (s *Snapshot) Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error) {
	return s.conn.Query(ctx, s.names.rewrite(sql), args...)
}

// QueryRow is Query for at most one row; Scan returns pgx.ErrNoRows where there is none.
func (s *Snapshot) QueryRow(ctx context.Context, sql string, args ...any) pgx.Row {
	return s.conn.QueryRow(ctx, s.names.rewrite(sql), args...)
}

// Query calls read with a snapshot, on a replica or, where none can answer, on the primary. The snapshot shows at
// least what had been recorded up to the position of ctx ([es.WithPosition]). Query waits for that, bounded, and
// returns an error wrapping [ErrStale] when it takes too long, and at once, as a [*ParkedError], when an operator has set
// aside what is asked for. Read may be called again after it failed by a lost server
// (it must not have effects of its own); its other errors are returned as they are.
func (m *Models) Query(ctx context.Context, need Need, read func(ctx context.Context, s *Snapshot) error) error {
	for _, name := range need.Projections {
		if p := m.byName[name]; p == nil || p.Postgres == nil {
			return fmt.Errorf("projector: there is no model %q in PostgreSQL", name)
		}
	}
	now := time.Now()
	q := &query{Models: m, need: need, read: read, began: now, position: es.PositionFrom(ctx), sources: sourcesFrom(ctx)}
	if q.sources != nil {
		if q.position = q.sources.wanted(); q.position > 0 {
			err := q.until(ctx, q.sources.until)
			if !errors.Is(err, ErrStale) {
				return err
			}
			q.sources.isLate()
			q = &query{Models: m, need: need, read: read, began: time.Now(), sources: q.sources}
		}
	}
	err := q.until(ctx, m.deadline(ctx, now))
	if q.position > 0 {
		q.observe(err)
	}
	return err
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
	if es.PositionFrom(ctx) > 0 {
		now = es.PositionSince(ctx)
	}
	return now.Add(m.o.Wait)
}

// primaryShare is the part of a wait, a quarter, in which the primary is spared while a replica is only somewhat behind.
const primaryShare = 4

// query is one call of Query.
type query struct {
	*Models
	need     Need
	read     func(ctx context.Context, s *Snapshot) error
	position int64
	required requirement
	began    time.Time
	sparing  time.Time // until then the primary is spared
	waited   time.Duration
	late     []string // projections that were not as far as needed in the last snapshot
	unknown  int      // how often a table was not found
	sources  *Sources // nil: nobody wants to know
	parts    map[string]Part
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

// errRead wraps an error of the caller's own.
type errRead struct{ err error }

func (e *errRead) Error() string { return e.err.Error() }

func (q *query) stale(why error) error {
	return fmt.Errorf("projector: %s at position %d: %w: %w", strings.Join(q.need.Projections, ", "), q.position, why, ErrStale)
}

func (q *query) run(ctx, waiting context.Context) error {
	var err error
	if q.required, err = q.require(waiting, q.need.Projections, q.position, q.partitionsOf(q.need.Streams)); err != nil {
		q.waited = time.Since(q.began)
		if ctx.Err() != nil {
			return ctx.Err()
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
			s.failed()
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
	default:
		return reasonBehind
	}
}

// attempt reads on one server.
func (q *query) attempt(ctx context.Context, s *server) error {
	beginning, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	conn, err := s.pool.Acquire(beginning)
	if err != nil {
		return err
	}
	defer conn.Release()
	schemas, err := q.begin(beginning, conn)
	if err == nil {
		q.waited = time.Since(q.began)
		err = q.read(ctx, &Snapshot{conn: conn.Conn(), names: q.namesOf(schemas)})
		switch state := sqlState(err); {
		case err == nil:
			if q.sources != nil {
				for name, p := range q.parts {
					q.sources.note(name, p, q.need.Streams)
				}
			}
		case conn.Conn().IsClosed() || serverAtFault(state):
		case state == undefinedTable || state == undefinedSchema:
			q.unknown++ // the generation was dropped between resolving it and reading it
			switch {
			case q.unknown <= 3:
				err = errBehind
			case q.tablesLost(ctx):
				err = &errRead{q.stale(errBuilding)} // workers build the model anew
			default:
				err = &errRead{err}
			}
		default:
			err = &errRead{err}
		}
	}
	if conn.Conn().IsClosed() {
		return err
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTimeout)
	defer cancel()
	if _, endErr := conn.Exec(ending, "rollback"); err == nil && endErr != nil {
		q.o.Logger.WarnContext(ctx, "read transaction not ended", "server", s.name, "error", endErr) // it has answered
	}
	return err
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

const (
	beginSnapshot = `BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY`
	resolve       = `SELECT p.name, p.generation, false, false, 0, ''
		FROM unnest($1::text[], $2::integer[]) AS needed(name, version)
		JOIN projections p ON p.name = needed.name AND p.version = needed.version AND p.status = 'live'
		WHERE (p.log_id, p.log_epoch) = ($3::uuid, $4)`
	// $5, $6 and $7 are a requirement; $8 is the stream of a read that asks for one alone, '' for others.
	resolveAt = `SELECT p.name, p.generation, behind.some, behind.stopped, coalesce((SELECT min((c.held ->> $8::text)::bigint)
		  FROM checkpoints c WHERE c.projection = p.name AND c.generation = p.generation AND c.store = 'postgres'
		  AND c.partition = ANY ($6::smallint[])), 0), ` + heldStreams + `
		FROM unnest($1::text[], $2::integer[]) AS needed(name, version)
		JOIN projections p ON p.name = needed.name AND p.version = needed.version AND p.status = 'live'
		CROSS JOIN LATERAL (
		  SELECT count(*) > 0 AS some, count(f.partition) > 0 AS stopped
		  FROM unnest($5::text[], $6::smallint[], $7::bigint[]) AS wanted(name, partition, position)
		  LEFT JOIN checkpoints c ON c.projection = p.name AND c.generation = p.generation AND c.store = 'postgres'
		    AND c.partition = wanted.partition
		  LEFT JOIN projection_failures f ON f.projection = p.name AND f.generation = p.generation AND f.store = 'postgres'
		    AND f.partition = wanted.partition AND f.position > coalesce(c.position, 0)
		  WHERE wanted.name = p.name AND (c.position IS NULL OR c.position < wanted.position)
		) AS behind
		WHERE (p.log_id, p.log_epoch) = ($3::uuid, $4)`
)

// begin opens the snapshot and finds the schemas in it, in one round trip.
func (q *query) begin(ctx context.Context, conn *pgxpool.Conn) (map[string]string, error) {
	schemas := make(map[string]string, len(q.need.Projections))
	stopped := false
	var parked *ParkedError
	q.late, q.parts = nil, make(map[string]Part, len(q.need.Projections))
	b := &pgx.Batch{}
	b.Queue(beginSnapshot)
	args := []any{q.need.Projections, q.versions(q.need.Projections), q.o.Info.ID, q.o.Info.Epoch}
	sql := resolve
	if !q.required.empty() {
		sql = resolveAt
		stream := ""
		if len(q.need.Streams) == 1 {
			stream = q.need.Streams[0]
		}
		args = append(args, q.required.projections, q.required.partitions, q.required.positions, stream)
	}
	b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		var name, heldNow string
		var number int
		var isBehind, isStopped bool
		var parkedAt int64
		_, err := pgx.ForEachRow(rows, []any{&name, &number, &isBehind, &isStopped, &parkedAt, &heldNow}, func() error {
			if parkedAt > 0 && parkedAt <= q.position {
				parked = &ParkedError{Projection: name, Stream: q.need.Streams[0], Position: parkedAt}
				isBehind = true
			}
			schemas[name], q.parts[name] = schemaName(name, number), Part{Generation: number, Held: heldNow}
			stopped = stopped || isStopped
			if isBehind {
				q.late = append(q.late, name)
			}
			return nil
		})
		return err
	})
	if err := conn.SendBatch(ctx, b).Close(); err != nil {
		if sqlState(err) == undefinedTable { // a replica that has not heard of the control tables yet
			return nil, errBuilding
		}
		return nil, err
	}
	for _, name := range q.need.Projections {
		if _, live := schemas[name]; !live {
			q.late = append(q.late, name)
		}
	}
	switch {
	case parked != nil:
		return nil, parked
	case stopped && len(q.need.Streams) == 0:
		return nil, q.stale(errStopped)
	case len(schemas) < len(q.need.Projections):
		return nil, errBuilding
	case len(q.late) > 0:
		return nil, errBehind
	}
	return schemas, nil
}
