package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
)

// Fault is something that must not be in a log.
type Fault struct {
	// Position is that of the event, 0 for a fault of a whole stream.
	Position int64  `json:"position,omitzero"`
	Stream   string `json:"stream,omitzero"`
	Text     string `json:"text"`
}

func (f Fault) String() string {
	if f.Position == 0 {
		return fmt.Sprintf("stream %s: %s", f.Stream, f.Text)
	}
	return fmt.Sprintf("position %d (stream %s): %s", f.Position, f.Stream, f.Text)
}

// maxFaults bounds what Verify returns: the first ones tell.
const maxFaults = 100

// Verify reads the whole log, in one snapshot, and returns what is wrong with it: gaps and repetitions among
// positions, versions and ordinals, wrong partitions, and times that go back. It returns at most 100 faults,
// and the position up to which it has looked.
func (l *Log) Verify(ctx context.Context) (faults []Fault, head int64, err error) {
	err = pgx.BeginTxFunc(ctx, l.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, `SELECT position, stream, partition, ordinal, recorded_at FROM events ORDER BY position`)
		if err != nil {
			return err
		}
		ordinals := make([]int64, l.info.Partitions)
		var e es.Event
		var before time.Time
		_, err = pgx.ForEachRow(rows, []any{&e.Position, &e.Stream, &e.Partition, &e.Ordinal, &e.RecordedAt}, func() error {
			for _, text := range l.faults(&e, head, ordinals, before) {
				faults = append(faults, Fault{Position: e.Position, Stream: e.Stream, Text: text})
			}
			head, before = e.Position, e.RecordedAt
			if len(faults) >= maxFaults {
				return errEnough
			}
			return nil
		})
		if err != nil {
			return err
		}
		streams, err := tx.Query(ctx, `SELECT stream, count(*), min(version), max(version), count(DISTINCT version)
			FROM events GROUP BY stream HAVING min(version) <> 1 OR max(version) <> count(*) OR count(DISTINCT version) <> count(*) LIMIT $1`, maxFaults)
		if err != nil {
			return err
		}
		var stream string
		var count, low, high, distinct int64
		_, err = pgx.ForEachRow(streams, []any{&stream, &count, &low, &high, &distinct}, func() error {
			faults = append(faults, Fault{Stream: stream, Text: fmt.Sprintf("%d events have %d different versions from %d to %d", count, distinct, low, high)})
			return nil
		})
		return err
	})
	if err != nil && len(faults) < maxFaults {
		return faults, head, fmt.Errorf("postgres: verifying the log: %w", err)
	}
	return faults, head, nil
}

// errEnough ends a reading that has found enough.
var errEnough = fmt.Errorf("postgres: %d faults are enough", maxFaults)

func (l *Log) faults(e *es.Event, head int64, ordinals []int64, before time.Time) (texts []string) {
	if e.Position != head+1 {
		texts = append(texts, fmt.Sprintf("follows position %d", head))
	}
	if e.RecordedAt.Before(before) {
		texts = append(texts, "was recorded before its predecessor")
	}
	if want := es.PartitionOf(e.Stream, l.info.Partitions); e.Partition != want {
		return append(texts, fmt.Sprintf("is in partition %d instead of %d", e.Partition, want))
	}
	if e.Ordinal != ordinals[e.Partition]+1 {
		texts = append(texts, fmt.Sprintf("has ordinal %d behind %d in partition %d", e.Ordinal, ordinals[e.Partition], e.Partition))
	}
	ordinals[e.Partition] = e.Ordinal
	return texts
}
