package audittest

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// generation is a build of a read model that workers feed: the one that readers see, or the one before it.
type generation struct {
	model  string
	number int
	status string
}

func (g generation) String() string { return fmt.Sprintf("%s_%d", g.model, g.number) }

func readGenerations(ctx context.Context, pool *pgxpool.Pool) ([]generation, error) {
	rows, err := pool.Query(ctx, `SELECT name, generation, status FROM projections WHERE status IN ('live', 'previous') AND owner IS NULL ORDER BY 1, 2`)
	if err != nil {
		return nil, fmt.Errorf("reading the generations: %w", err)
	}
	generations, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (g generation, err error) {
		return g, row.Scan(&g.model, &g.number, &g.status)
	})
	if err != nil {
		return nil, fmt.Errorf("reading the generations: %w", err)
	}
	return generations, nil
}

// checkGenerations sees to it that each read model is there once, and that the audit knows all there are.
func checkGenerations(generations []generation, f *findings) {
	live := make(map[string]int)
	for name := range models {
		live[name] = 0
	}
	for _, g := range generations {
		if g.status == "live" {
			live[g.model]++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(live)) {
		if models[name] == nil {
			f.add(Standing, "read model "+name, "the audit does not know it")
		}
		if live[name] != 1 {
			f.add(Standing, "read model "+name, "it has %d live generations", live[name])
		}
	}
}

// compareRows compares every table of the generations on one server.
func compareRows(ctx context.Context, pool *pgxpool.Pool, server string, generations []generation, want map[string]*model, f *findings) error {
	return snapshot(ctx, pool, func(tx pgx.Tx) error {
		for _, g := range generations {
			if want[g.model] == nil {
				continue
			}
			found, err := readTables(ctx, tx, g.String())
			if err != nil {
				return fmt.Errorf("%s: reading %s: %w", server, g, err)
			}
			compareTables(want[g.model].tables, found, g.String()+" on the "+server, f)
		}
		return nil
	})
}

func compareTables(want map[string]*table, found map[string][]object, where string, f *findings) {
	for name := range found {
		if want[name] == nil {
			f.add(Postgres, where, "there is a table %s, which the audit does not know", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		t, subject, seen := want[name], where+": table "+name, make(map[string]bool)
		for _, row := range found[name] {
			key := t.keyOf(row)
			seen[key] = true
			difference(Postgres, subject, key, t.rows[key], row, f)
		}
		for _, key := range slices.Sorted(maps.Keys(t.rows)) {
			if !seen[key] {
				difference(Postgres, subject, key, t.rows[key], nil, f)
			}
		}
	}
}

// difference notes what differs between what is wanted and what was found under a key; nil: nothing is.
func difference(area Area, subject, key string, want, found object, f *findings) {
	switch w, g := canonical(want), canonical(found); {
	case w == g:
	case want == nil:
		f.add(area, subject, "%s should not be there: %s", key, g)
	case found == nil:
		f.add(area, subject, "%s is missing: %s", key, w)
	default:
		f.add(area, subject, "%s differs\n  found %s\n  want  %s", key, g, w)
	}
}

// readTables reads every table of a schema. Documents are taken apart whatever the type of their column.
func readTables(ctx context.Context, tx pgx.Tx, schema string) (map[string][]object, error) {
	rows, err := tx.Query(ctx, `SELECT tablename FROM pg_tables WHERE schemaname = $1`, schema)
	if err != nil {
		return nil, err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, err
	}
	tables := make(map[string][]object)
	for _, name := range names {
		rows, err := tx.Query(ctx, `SELECT to_jsonb(r)::text FROM `+pgx.Identifier{schema, name}.Sanitize()+` AS r`)
		if err != nil {
			return nil, err
		}
		tables[name], err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (object, error) {
			var text string
			if err := row.Scan(&text); err != nil {
				return nil, err
			}
			o := decodeObject([]byte(text))
			if document, ok := o["document"].(string); ok {
				o["document"] = decodeObject([]byte(document))
			}
			return o, nil
		})
		if err != nil {
			return nil, err
		}
	}
	return tables, nil
}
