package projector

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// lag is what a store lacks of a partition: how many events, and for how many seconds the oldest of them has been in the log.
type lag struct {
	events  int64
	seconds float64
	unknown bool // a store did not tell
}

// arrivalWindow is the time over which is counted what comes into the log.
const arrivalWindow = 10 * time.Second

// arrivalQuery tells where the log ends, and how many of its events were recorded within the window $1. recorded_at never
// decreases with position, so that the first of them is found by halving: some 30 rows are looked at by their key in a log of a
// thousand million.
const arrivalQuery = `WITH RECURSIVE head AS MATERIALIZED (
	  SELECT coalesce((SELECT position FROM events ORDER BY position DESC LIMIT 1), 0) AS position
	), search (low, high) AS ( -- what is at or below low is too old; what is at or above high is not
	  SELECT 0::bigint, position + 1 FROM head
	  UNION ALL
	  SELECT CASE WHEN e.old THEN s.middle ELSE s.low END, CASE WHEN e.old THEN s.high ELSE s.middle END
	  FROM (SELECT low, high, (low + high) / 2 AS middle FROM search WHERE high - low > 1) AS s
	  CROSS JOIN LATERAL (SELECT recorded_at < now() - $1::interval AS old FROM events WHERE position = s.middle) AS e
	)
	SELECT position, position - (SELECT max(low) FROM search) FROM head`

// lagQuery has a row for each pair of a partition ($1) and a position ($2) behind which the partition has events; $3 is the number
// of partitions. An event's ordinal is its place among those of its partition, so that two looks at the index count what is
// between them, and where nothing is missing one look is enough.
const lagQuery = `WITH ends AS MATERIALIZED (
	  SELECT n AS partition, last.position, last.ordinal
	  FROM generate_series(0, $3::integer - 1) AS n
	  CROSS JOIN LATERAL (SELECT position, ordinal FROM events WHERE partition = n::smallint ORDER BY position DESC LIMIT 1) AS last
	)
	SELECT asked.place, ends.ordinal - missing.ordinal + 1,
	  greatest(0, extract(epoch FROM clock_timestamp() - missing.recorded_at))::double precision
	FROM unnest($1::smallint[], $2::bigint[]) WITH ORDINALITY AS asked(partition, position, place)
	JOIN ends ON ends.partition = asked.partition AND ends.position > asked.position
	CROSS JOIN LATERAL (
	  SELECT ordinal, recorded_at FROM events e WHERE e.partition = asked.partition AND e.position > asked.position
	  ORDER BY e.position LIMIT 1) AS missing`

// measure finds out what lacks behind the positions of the partitions, and what comes in.
func (i *inspection) measure(ctx context.Context, s *server) error {
	partitions, positions := make([]int16, 0, len(i.fed)+i.partitions), make([]int64, 0, len(i.fed)+i.partitions)
	for _, f := range i.fed {
		partitions, positions = append(partitions, int16(f.partition)), append(positions, f.position)
	}
	for n := range i.partitions {
		partitions, positions = append(partitions, int16(n)), append(positions, 0)
	}
	lags := make([]lag, len(partitions))
	var arrived int64
	b := &pgx.Batch{}
	b.Queue(arrivalQuery, arrivalWindow).QueryRow(func(row pgx.Row) error { return row.Scan(&i.head, &arrived) })
	b.Queue(lagQuery, partitions, positions, i.partitions).Query(func(rows pgx.Rows) error {
		var place int
		var l lag
		_, err := pgx.ForEachRow(rows, []any{&place, &l.events, &l.seconds}, func() error {
			lags[place-1] = l
			return nil
		})
		return err
	})
	if err := s.pool.SendBatch(ctx, b).Close(); err != nil {
		return err
	}
	i.arriving = float64(arrived) / arrivalWindow.Seconds()
	for n := range i.fed {
		i.fed[n].lag = lags[n]
	}
	i.whole = lags[len(i.fed):]
	return nil
}
