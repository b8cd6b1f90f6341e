package projector_test

import (
	"context"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
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

// texts is a model without documents, of a number and a text of that length for each stream, which no index packs.
func texts(index string) projector.Projection {
	return projector.Projection{Name: "tally", Version: 1, Events: []string{"tally.added"}, Postgres: &projector.Postgres{
		Schema: []string{`CREATE TABLE tally.texts (stream text COLLATE "C" PRIMARY KEY, n integer NOT NULL, text text NOT NULL)`, index},
		Apply: func(_ context.Context, tx *projector.Tx, events []es.Event) error {
			last := make(map[string]int)
			for i := range events {
				last[events[i].Stream] = events[i].Fact.(added).N
			}
			for stream, n := range last {
				random, text := rand.New(rand.NewPCG(1, 1)), make([]byte, max(0, n)/2)
				for i := range text {
					text[i] = byte(random.Uint32())
				}
				tx.Queue(`INSERT INTO tally.texts VALUES ($1, $2, $3) ON CONFLICT (stream) DO UPDATE SET n = excluded.n, text = excluded.text`,
					stream, n, hex.EncodeToString(text))
			}
			return nil
		},
	}}
}

// TestARowThatNoIndexTakes has a rebuild meet an event that live generations cannot apply because of an index, which the rebuild makes last: it goes without the
// event where that is parked, and names it where it is not.
func TestARowThatNoIndexTakes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		index, cause string
		n, before    int
		helped       bool
	}{
		"too long":             {`CREATE INDEX ON tally.texts (text)`, "index row requires 19", 20_000, 500, false},
		"without a value":      {`CREATE INDEX ON tally.texts ((1000 / (n + 1)))`, "division by zero", -1, 500, false},
		"too long, in a share": {`CREATE INDEX ON tally.texts (text)`, "index row requires 19", 20_000, 55_000, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			p := texts(c.index)
			if c.helped {
				f.helping("one", p)
			} else {
				f.worker("one", p)
			}
			m := f.models(p)
			eventually(t, patience, "the model is there", func() bool { return m.Ready(t.Context()) == nil })
			f.appendAll(func(add func(string, es.Fact)) {
				for n := range c.before {
					add(fmt.Sprintf("tally-%d", n%100), added{N: n % 10})
				}
			})
			bad := f.append("tally-bad", added{N: c.n})
			f.awaitStanding(bad, 1)
			o := f.replayOptions()
			o.Projections = []projector.Projection{p}
			want := fmt.Sprintf("event %d (tally.added, stream tally-bad) cannot be applied: ERROR: %s", bad, c.cause)
			_, err := projector.Replay(t.Context(), o)
			wantError(t, err, want)
			if !c.helped { // nobody helps with models of the past
				_, _, err = projector.Past(t.Context(), o, bad)
				wantError(t, err, want)
				_, _, err = projector.Past(t.Context(), o, bad-1)
				must(t, err)
			}

			must(t, m.Park(t.Context(), "tally", bad))
			f.awaitParked(m, bad)
			result, err := projector.Replay(t.Context(), o)
			must(t, err)
			number := result.Generations["tally"]
			if len(result.Parked) != 1 || result.Parked[0].Position != bad || result.Parked[0].Generation != number {
				t.Errorf("generation %d goes without %+v", number, result.Parked)
			}
			var rows, bads, indexes int
			must(t, f.pool.QueryRow(t.Context(), fmt.Sprintf(`SELECT count(*), count(*) FILTER (WHERE stream = 'tally-bad'),
				(SELECT count(*) FROM pg_indexes WHERE schemaname = 'tally_%[1]d') FROM tally_%[1]d.texts`, number)).Scan(&rows, &bads, &indexes))
			if rows != 100 || bads != 0 || indexes != 2 {
				t.Errorf("there are %d rows, %d of them of the parked stream, and %d indexes", rows, bads, indexes)
			}
			var left int
			must(t, f.pool.QueryRow(t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname ~ '^tally_[0-9]'`).Scan(&left))
			if left != 2 {
				t.Errorf("%d generations are left, want the one that is live and the one before", left)
			}
		})
	}
}
