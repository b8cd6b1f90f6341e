package projector

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// Stored is a row or a document of a model.
type Stored struct {
	// Table is the table's name; "" says that it is a document.
	Table string
	// Key is the primary key of the row as a JSON array, or the document's key.
	Key string
	// Partition is that of a document.
	Partition int
	// JSON is the row or the document.
	JSON string
}

// Contents returns all that the live generation of a projection holds, in no particular order. It is meant for models that fit into
// memory many times, as those of tests do.
func Contents(ctx context.Context, o ReplayOptions, p *Projection) ([]Stored, error) {
	number, err := liveGeneration(ctx, o.Pool, o.Info, p)
	if err != nil {
		return nil, err
	}
	rows, err := storedRows(ctx, o, schemaName(p.Name, number))
	if err != nil {
		return nil, fmt.Errorf("projector: reading the tables of %s: %w", p.Name, err)
	}
	if p.Redis == nil {
		return rows, nil
	}
	documents, err := storedDocuments(ctx, o, newRedisKeys(o.Info, p.Name, number))
	if err != nil {
		return nil, fmt.Errorf("projector: reading the documents of %s: %w", p.Name, err)
	}
	return append(rows, documents...), nil
}

func storedRows(ctx context.Context, o ReplayOptions, schema string) ([]Stored, error) {
	tables, err := tablesOf(ctx, o.Pool, schema)
	if err != nil {
		return nil, err
	}
	var all []Stored
	for _, t := range tables {
		rows, err := o.Pool.Query(ctx, `SELECT key::text, row::text FROM `+t.keyed(schema)+` AS keyed`)
		if err != nil {
			return nil, err
		}
		found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Stored, error) {
			s := Stored{Table: t.name}
			return s, row.Scan(&s.Key, &s.JSON)
		})
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

func storedDocuments(ctx context.Context, o ReplayOptions, keys redisKeys) ([]Stored, error) {
	hashes := make([]*redis.MapStringStringCmd, o.Info.Partitions)
	_, err := o.Redis.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := range hashes {
			hashes[n] = p.HGetAll(ctx, keys.partition(n))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var all []Stored
	for n, hash := range hashes {
		for field, document := range hash.Val() {
			if key, is := strings.CutPrefix(field, documentPrefix); is {
				all = append(all, Stored{Key: key, Partition: n, JSON: document})
			}
		}
	}
	return all, nil
}
