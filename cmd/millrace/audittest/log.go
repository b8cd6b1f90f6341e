package audittest

import (
	"context"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Event is a row of the log. Data is its JSON as it was stored, Fields the same taken apart.
type Event struct {
	Position, Version, Ordinal int64
	Stream, Type               string
	Data, Metadata             string
	Fields                     map[string]any
	OccurredAt, RecordedAt     time.Time
	Partition                  int
}

func (e *Event) fields() object { return e.Fields }

func (e *Event) category() string {
	category, _, _ := strings.Cut(e.Stream, "-")
	return category
}

func (e *Event) id() string {
	_, id, _ := strings.Cut(e.Stream, "-")
	return id
}

// eventLog is a log and its events by position.
type eventLog struct {
	id         string
	epoch      int
	partitions int
	events     []Event
}

func readLog(ctx context.Context, pool *pgxpool.Pool) (*eventLog, error) {
	l := &eventLog{}
	err := snapshot(ctx, pool, func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, `SELECT id::text, epoch, partitions FROM log`).Scan(&l.id, &l.epoch, &l.partitions); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, `SELECT position, version, ordinal, stream, type, data::text, metadata::text, occurred_at, recorded_at, partition
			FROM events ORDER BY position`)
		if err != nil {
			return err
		}
		l.events, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (e Event, err error) {
			err = row.Scan(&e.Position, &e.Version, &e.Ordinal, &e.Stream, &e.Type, &e.Data, &e.Metadata, &e.OccurredAt, &e.RecordedAt, &e.Partition)
			e.Fields = decodeObject([]byte(e.Data))
			return e, err
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the log: %w", err)
	}
	return l, nil
}

// known are the stored names that the audit folds, by category.
var known = map[string][]string{
	"product": {"created", "described", "slug_changed", "published", "unpublished", "archived", "price_changed"},
	"slug":    {"claimed", "released"},
	"stock":   {"opened", "received", "adjusted", "reserved", "released", "shipped", "sold", "returned"},
	"cart":    {"created", "line_added", "line_changed", "line_removed", "checked_out"},
	"order":   {"placed", "confirmed", "fulfilled", "cancelled", "returned"},
	"payment": {"authorised", "declined", "captured", "voided", "refunded"},
	"invoice": {"lines_imported"},
}

func knownTypes() map[string]bool {
	types := make(map[string]bool)
	for category, names := range known {
		for _, name := range names {
			types[category+"."+name] = true
		}
	}
	return types
}

// check holds the log against what it promises of itself: no gaps anywhere, and time that does not run backwards.
func (l *eventLog) check(f *findings) {
	types, versions, ordinals, last := knownTypes(), make(map[string]int64), make(map[int]int64), time.Time{}
	for i := range l.events {
		e := &l.events[i]
		wrong := func(format string, args ...any) { f.add(Log, fmt.Sprintf("position %d", e.Position), format, args...) }
		if want := int64(i) + 1; e.Position != want {
			wrong("it stands where position %d should", want)
		}
		if versions[e.Stream]++; e.Version != versions[e.Stream] {
			wrong("it is version %d of %s, want %d", e.Version, e.Stream, versions[e.Stream])
		}
		if ordinals[e.Partition]++; e.Ordinal != ordinals[e.Partition] {
			wrong("it is number %d of partition %d, want %d", e.Ordinal, e.Partition, ordinals[e.Partition])
		}
		hash := fnv.New64a()
		hash.Write([]byte(e.Stream))
		if want := int(hash.Sum64() % uint64(l.partitions)); e.Partition != want {
			wrong("%s is in partition %d, want %d", e.Stream, e.Partition, want)
		}
		if e.RecordedAt.Before(last) {
			wrong("it was recorded at %s, before the one before it", e.RecordedAt)
		}
		last = e.RecordedAt
		if !types[e.Type] || e.Fields == nil {
			wrong("the audit cannot read %s %s", e.Type, e.Data)
		}
	}
}
