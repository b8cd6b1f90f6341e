package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
)

// partitions is the number of partitions of the baselines' events.
const partitions = 16

// preparePlain connects every caller of the baselines and makes what they need besides the events table.
func (s *appendServer) preparePlain(ctx context.Context, databaseURL string) (err error) {
	if s.plain, err = newPool(ctx, databaseURL, callers); err != nil {
		return err
	}
	for _, statement := range []string{
		`CREATE SEQUENCE plain_position`,
		`CREATE TABLE plain_streams (stream text COLLATE "C" PRIMARY KEY, version bigint NOT NULL) WITH (fillfactor = 50)`,
	} {
		if _, err := s.plain.Exec(ctx, statement); err != nil {
			return fmt.Errorf("bench: preparing the baseline: %w", err)
		}
	}
	return nil
}

func (s *appendServer) makeStreamRow(ctx context.Context, stream string) error {
	if _, err := s.plain.Exec(ctx, `INSERT INTO plain_streams (stream, version) VALUES ($1, 0)`, stream); err != nil {
		return fmt.Errorf("bench: preparing the baseline: %w", err)
	}
	return nil
}

// appendPlainly is what one writes who has a table of events and no machinery: read the stream's version, insert behind it,
// commit. The unique index refuses a rival's version.
func (s *appendServer) appendPlainly(ctx context.Context, stream string) error {
	return pgx.BeginFunc(ctx, s.plain, func(tx pgx.Tx) error {
		var version int64
		if err := tx.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM events WHERE stream = $1`, stream).Scan(&version); err != nil {
			return err
		}
		return insertPlainly(ctx, tx, stream, version+1)
	})
}

// appendKeyed is the same with the idempotency key in the same transaction: its primary key refuses a second use.
func (s *appendServer) appendKeyed(ctx context.Context, stream string, key *es.Idempotency) error {
	return pgx.BeginFunc(ctx, s.plain, func(tx pgx.Tx) error {
		var version int64
		if err := tx.QueryRow(ctx, `SELECT coalesce(max(version), 0) FROM events WHERE stream = $1`, stream).Scan(&version); err != nil {
			return err
		}
		if err := insertPlainly(ctx, tx, stream, version+1); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO idempotency (key, request, streams, position) VALUES ($1, $2, $3, currval('plain_position'))`,
			key.Key[:], key.Request[:], key.Streams)
		return err
	})
}

// appendLocking is the same for a stream that many want at once: whoever holds its row decides alone.
func (s *appendServer) appendLocking(ctx context.Context, stream string) error {
	return pgx.BeginFunc(ctx, s.plain, func(tx pgx.Tx) error {
		var version int64
		if err := tx.QueryRow(ctx, `SELECT version FROM plain_streams WHERE stream = $1 FOR UPDATE`, stream).Scan(&version); err != nil {
			return err
		}
		if err := insertPlainly(ctx, tx, stream, version+1); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `UPDATE plain_streams SET version = $2 WHERE stream = $1`, stream, version+1)
		return err
	})
}

// insertPlainly inserts a row of the same content and size as the writer's. A sequence gives the position and, standing in
// for what only the writer knows, the ordinal.
func insertPlainly(ctx context.Context, tx pgx.Tx, stream string, version int64) error {
	data, err := json.Marshal(note)
	if err != nil {
		return err
	}
	now := time.Now()
	_, err = tx.Exec(ctx, `
		INSERT INTO events (position, stream, version, type, data, metadata, occurred_at, recorded_at, partition, ordinal, batch)
		VALUES (nextval('plain_position'), $1, $2, $3, $4, '{}', $5, $5, $6, currval('plain_position'), $7)`,
		stream, version, note.EventType(), json.RawMessage(data), now, es.PartitionOf(stream, partitions), uuid.New())
	return err
}
