package projector_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// TestARebuildMakesIndexesLast has a rebuild, and a model of the past, fill tables that have nothing but what rows are found by and are unique in; when they are
// done they have all the indexes of the generation that workers feed.
func TestARebuildMakesIndexesLast(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := tallyProjection(f.info, 1)
	p.Postgres.Schema = append(p.Postgres.Schema,
		`CREATE UNIQUE INDEX ON tally.streams (last)`,
		`
			create index ON tally.streams (sum, stream) WHERE sum > 3`,
		`CREATE INDEX ON tally.streams (count)`)
	indexes := func(schema string) []string {
		rows, err := f.pool.Query(t.Context(), `SELECT indexdef FROM pg_indexes WHERE schemaname = $1`, schema)
		must(t, err)
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		must(t, err)
		for i := range all {
			all[i] = strings.ReplaceAll(all[i], schema+".", "")
		}
		slices.Sort(all)
		return all
	}
	f.worker("one", p)
	last := f.fill(2_000, 50)
	m := f.models(p)
	f.expect(m)
	want := indexes("tally_1")
	if len(want) != 4 {
		t.Fatalf("the workers' generation has %d indexes", len(want))
	}
	var mu sync.Mutex
	filling := map[string]int{} // schema -> the most indexes that it had
	o := f.replayOptions()
	rebuilt := p
	postgres := *p.Postgres
	postgres.Apply = func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
		rows, err := tx.Query(ctx, `SELECT split_part(pg_typeof(NULL::tally.streams)::text, '.', 1)`)
		if err != nil {
			return err
		}
		schema, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		mu.Lock()
		filling[schema] = max(filling[schema], len(indexes(schema)))
		mu.Unlock()
		return p.Postgres.Apply(ctx, tx, events)
	}
	rebuilt.Postgres = &postgres
	o.Projections = []projector.Projection{rebuilt}
	_, err := projector.Replay(t.Context(), o)
	must(t, err)
	past, _, err := projector.Past(t.Context(), o, last)
	must(t, err)
	for _, schema := range []string{"tally_2", past[0].Schema} {
		if got := indexes(schema); !slices.Equal(got, want) {
			t.Errorf("%s has %q, want %q", schema, got, want)
		}
		if filling[schema] != 2 {
			t.Errorf("%s had %d indexes while it was filled, want the primary key and the unique one", schema, filling[schema])
		}
	}
	f.fill(100, 50)
	f.expect(m)
}
