package projector

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// table is a table of a read model, with the columns of its primary key.
type table struct {
	name string
	key  []string
}

// keyed is a query, in parentheses, for the rows of the table in a schema as jsonb: the primary key as an array, which is the whole
// row where there is none, and the row.
func (t *table) keyed(schema string) string {
	key := "to_jsonb(t)"
	if len(t.key) > 0 {
		columns := make([]string, len(t.key))
		for i, c := range t.key {
			columns[i] = "t." + pgx.Identifier{c}.Sanitize()
		}
		key = "jsonb_build_array(" + strings.Join(columns, ", ") + ")"
	}
	return `(SELECT ` + key + ` AS key, to_jsonb(t) AS row FROM ` + pgx.Identifier{schema, t.name}.Sanitize() + ` AS t)`
}

// tablesOf lists the tables of a schema, by name.
func tablesOf(ctx context.Context, pool *pgxpool.Pool, schema string) ([]table, error) {
	rows, err := pool.Query(ctx, `SELECT c.relname,
		  coalesce((SELECT array_agg(a.attname::text ORDER BY k.place) FROM pg_index i
		    CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(attnum, place)
		    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
		    WHERE i.indrelid = c.oid AND i.indisprimary), '{}')
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = $1 AND c.relkind = 'r' ORDER BY c.relname`, schema)
	if err != nil {
		return nil, fmt.Errorf("projector: listing the tables of %s: %w", schema, err)
	}
	tables, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t table, err error) {
		return t, row.Scan(&t.name, &t.key)
	})
	if err != nil {
		return nil, fmt.Errorf("projector: listing the tables of %s: %w", schema, err)
	}
	return tables, nil
}
