package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/es"
)

// ErrNoLog says that the database has no log yet: it has to be migrated first.
var ErrNoLog = errors.New("postgres: the database has no log yet; run millrace migrate")

// Log reads the log of one database.
type Log struct {
	pool  *pgxpool.Pool
	codec *es.Codec
	info  es.Log
}

// OpenLog returns the log in the pool's database. It returns [ErrNoLog] where there is none.
func OpenLog(ctx context.Context, pool *pgxpool.Pool, codec *es.Codec) (*Log, error) {
	l := &Log{pool: pool, codec: codec}
	err := pool.QueryRow(ctx, `SELECT id::text, epoch, partitions, currency, time_zone FROM log`).
		Scan(&l.info.ID, &l.info.Epoch, &l.info.Partitions, &l.info.Currency, &l.info.TimeZone)
	var pgErr *pgconn.PgError
	switch {
	case errors.Is(err, pgx.ErrNoRows), errors.As(err, &pgErr) && pgErr.Code == undefinedTable:
		return nil, ErrNoLog
	case err != nil:
		return nil, fmt.Errorf("postgres: opening the log: %w", err)
	}
	return l, nil
}

// Info returns what is fixed for the life of the log.
func (l *Log) Info() es.Log { return l.info }

// On returns the same log read through another pool, for example a replica's.
func (l *Log) On(pool *pgxpool.Pool) *Log { return &Log{pool: pool, codec: l.codec, info: l.info} }

// Undecoded returns the same log for readers who need no facts.
func (l *Log) Undecoded() *Log { return &Log{pool: l.pool, codec: es.NewCodec(), info: l.info} }

// Epoch returns the log's epoch; [Log.Info] has the one of when it was opened. It begins another one where the log has come to another server, or to another
// timeline: events that others have seen may be gone since, and their positions given to others.
func (l *Log) Epoch(ctx context.Context) (epoch int, err error) {
	var moved bool
	err = l.pool.QueryRow(ctx, `SELECT epoch, here IS NOT NULL AND server IS DISTINCT FROM here FROM log, log_server() AS here`).Scan(&epoch, &moved)
	if err == nil && moved {
		// Whoever comes second finds it done.
		err = pgx.BeginFunc(ctx, l.pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, `UPDATE log SET server = here, epoch = CASE WHEN server IS NULL THEN epoch ELSE next_epoch(epoch) END
				FROM log_server() AS here WHERE server IS DISTINCT FROM here`); err != nil {
				return err
			}
			return tx.QueryRow(ctx, `SELECT epoch FROM log`).Scan(&epoch)
		})
	}
	if err != nil {
		return 0, fmt.Errorf("postgres: reading the log's epoch: %w", err)
	}
	return epoch, nil
}

// NoticesFailovers reports whether the server tells what [Log.Epoch] finds out a failover, or a restore, by.
func (l *Log) NoticesFailovers(ctx context.Context) (notices bool, err error) {
	if err := l.pool.QueryRow(ctx, `SELECT pg_is_in_recovery() OR log_server() IS NOT NULL`).Scan(&notices); err != nil {
		return false, fmt.Errorf("postgres: asking which server has the log: %w", err)
	}
	return notices, nil
}

// RaiseEpoch begins another epoch, and returns it: nothing that was copied or derived from the log before is believed any more.
func (l *Log) RaiseEpoch(ctx context.Context) (epoch int, err error) {
	if err := l.pool.QueryRow(ctx, `UPDATE log SET epoch = next_epoch(epoch) RETURNING epoch`).Scan(&epoch); err != nil {
		return 0, fmt.Errorf("postgres: raising the log's epoch: %w", err)
	}
	return epoch, nil
}

const headQuery = `SELECT coalesce((SELECT position FROM events ORDER BY position DESC LIMIT 1), 0)`

// Head returns the position of the last event, 0 in an empty log.
func (l *Log) Head(ctx context.Context) (head int64, err error) {
	if err := l.pool.QueryRow(ctx, headQuery).Scan(&head); err != nil {
		return 0, fmt.Errorf("postgres: reading the head of the log: %w", err)
	}
	return head, nil
}

const eventColumns = `position, stream, version, type, data, metadata, occurred_at, recorded_at, partition, ordinal`

// ReadAll returns up to limit events behind a position, in the order of the log.
func (l *Log) ReadAll(ctx context.Context, after int64, limit int) ([]es.Event, error) {
	events, err := l.read(ctx, limit, `SELECT `+eventColumns+` FROM events WHERE position > $1 ORDER BY position LIMIT $2`, after, limit)
	if err != nil {
		return nil, fmt.Errorf("postgres: reading the log behind %d: %w", after, err)
	}
	return events, nil
}

// ReadPartitions is ReadAll for the events of some partitions only. It also returns up to where there are no others: the last of them if there are as many as the
// limit, and else the end of the log.
func (l *Log) ReadPartitions(ctx context.Context, partitions []int, after int64, limit int) (events []es.Event, until int64, err error) {
	var failed error
	b := &pgx.Batch{}
	b.Queue(headQuery).QueryRow(func(row pgx.Row) error { return row.Scan(&until) }) // first, and of the same server: what follows shows all up to there
	b.Queue(`SELECT `+eventColumns+` FROM events
		WHERE position > $1 AND partition = ANY ($2::smallint[]) ORDER BY position LIMIT $3`, after, partitions, limit).Query(func(rows pgx.Rows) error {
		events, failed = l.scan(rows, limit)
		return failed
	})
	if err := l.pool.SendBatch(ctx, b).Close(); failed == nil {
		failed = unavailable(err)
	}
	switch {
	case failed != nil:
		return nil, 0, fmt.Errorf("postgres: reading partitions %v behind %d: %w", partitions, after, failed)
	case len(events) == limit:
		until = events[limit-1].Position
	case len(events) > 0:
		until = max(until, events[len(events)-1].Position)
	}
	return events, until, nil
}

// streamQuery finds streams in the ranges that may hold them: those not closed yet, and those that the
// directory of closed ranges names. $1 are the streams, $2 the versions behind which to read, $3 how many events.
const streamQuery = `
SELECT ` + eventColumns + `
FROM unnest($1::text[], $2::bigint[]) AS wanted(name, after)
CROSS JOIN LATERAL (
  SELECT first_position, last_position FROM event_ranges WHERE NOT closed
  UNION ALL
  SELECT r.first_position, r.last_position
  FROM stream_ranges d JOIN event_ranges r USING (first_position) WHERE d.stream = wanted.name AND r.closed
) AS within
CROSS JOIN LATERAL (
  SELECT * FROM events e
  WHERE e.stream = wanted.name AND e.version > wanted.after
    AND e.position BETWEEN within.first_position AND within.last_position
  ORDER BY e.version
  LIMIT $3
) AS found
ORDER BY position
LIMIT $3`

// withoutBitmaps goes before what finds streams in a batch, and is in force until that ends. Before a range has statistics the planner takes the
// condition on the position, which is there to leave ranges out, for one that leaves few events: it would combine the stream's index with a
// bitmap of the whole range, once for each stream.
const withoutBitmaps = `SELECT set_config('enable_bitmapscan', 'off', true)`

// ReadStream returns up to limit events of a stream behind a version, in the stream's order.
func (l *Log) ReadStream(ctx context.Context, stream string, afterVersion int64, limit int) ([]es.Event, error) {
	var events []es.Event
	var failed error
	b := &pgx.Batch{}
	b.Queue(withoutBitmaps)
	b.Queue(streamQuery, []string{stream}, []int64{afterVersion}, limit).Query(func(rows pgx.Rows) error {
		events, failed = l.scan(rows, min(limit, 64))
		return failed
	})
	if err := l.pool.SendBatch(ctx, b).Close(); failed == nil {
		failed = unavailable(err)
	}
	if failed != nil {
		return nil, fmt.Errorf("postgres: reading stream %s: %w", stream, failed)
	}
	return events, nil
}

// PartitionEnd is the last event of a partition; zero values mean that it has none.
type PartitionEnd struct{ Position, Ordinal int64 }

// PartitionEnds returns the head of the log and the last event of each partition, seen in one snapshot.
func (l *Log) PartitionEnds(ctx context.Context) (head int64, ends []PartitionEnd, err error) {
	ends = make([]PartitionEnd, l.info.Partitions)
	rows, err := l.pool.Query(ctx, `
		SELECT p, found.position, found.ordinal
		FROM generate_series(0, $1::integer - 1) AS p
		CROSS JOIN LATERAL (
		  SELECT position, ordinal FROM events WHERE partition = p::smallint ORDER BY position DESC LIMIT 1
		) AS found`, l.info.Partitions)
	if err != nil {
		return 0, nil, fmt.Errorf("postgres: reading the ends of the partitions: %w", err)
	}
	var p int
	var end PartitionEnd
	_, err = pgx.ForEachRow(rows, []any{&p, &end.Position, &end.Ordinal}, func() error {
		ends[p] = end
		head = max(head, end.Position)
		return nil
	})
	if err != nil {
		return 0, nil, fmt.Errorf("postgres: reading the ends of the partitions: %w", err)
	}
	return head, ends, nil
}

// read returns the events that a query of eventColumns finds.
func (l *Log) read(ctx context.Context, sizeHint int, sql string, args ...any) ([]es.Event, error) {
	rows, err := l.pool.Query(ctx, sql, args...)
	if err != nil {
		return nil, unavailable(err)
	}
	return l.scan(rows, sizeHint)
}

// scan returns the events of the rows, which it closes.
func (l *Log) scan(rows pgx.Rows, sizeHint int) ([]es.Event, error) {
	defer rows.Close()
	events := make([]es.Event, 0, min(sizeHint, 20_000))
	for rows.Next() {
		events = append(events, es.Event{})
		e := &events[len(events)-1]
		if err := l.scanEvent(rows, e); err != nil {
			return nil, err
		}
		// What this binary cannot decode stays undecoded; whoever needs it decodes again and gets the error.
		_ = l.codec.Decode(e)
	}
	return events, unavailable(rows.Err())
}

// unavailable marks errors that say that the log cannot be read now: those of the connection, and those of a server that goes down
// or comes up, or has no room. What a server has against the query stays as it is, and so does the end of the context.
func unavailable(err error) error {
	var pgErr *pgconn.PgError
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &pgErr):
		switch pgErr.Code[:2] {
		case "08", "53", "57", "58": // connection, resources, operator intervention, system: appendix A of the manual
		default:
			return err
		}
	}
	return fmt.Errorf("%w: %w", es.ErrUnavailable, err)
}

// headBatch returns the position of the last event and the batch that it came with.
func (l *Log) headBatch(ctx context.Context) (head int64, batch uuid.UUID, err error) {
	err = l.pool.QueryRow(ctx, `SELECT position, batch FROM events ORDER BY position DESC LIMIT 1`).Scan(&head, &batch)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, uuid.Nil, nil
	}
	if err != nil {
		return 0, uuid.Nil, fmt.Errorf("postgres: reading the head of the log: %w", err)
	}
	return head, batch, nil
}
