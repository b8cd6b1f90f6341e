package projector_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// diary is a projection that uses every way of writing.
func diary() projector.Projection {
	return projector.Projection{
		Name: "diary", Version: 1, Events: []string{"tally.added"},
		Postgres: &projector.Postgres{
			Schema: []string{
				`CREATE TABLE diary.entries (position bigint PRIMARY KEY, partition integer NOT NULL, n bigint NOT NULL)`,
				`CREATE TABLE diary.totals (partition integer PRIMARY KEY, n bigint NOT NULL)`,
			},
			Apply: func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
				rows := make([][]any, len(events))
				for i := range events {
					partition := tx.Partition(events[i].Stream)
					n := events[i].Fact.(added).N
					rows[i] = []any{events[i].Position, partition, n}
					tx.Queue(`INSERT INTO diary.totals AS t VALUES ($1, $2) ON CONFLICT (partition) DO UPDATE SET n = t.n + excluded.n`, partition, n)
				}
				if err := tx.Copy(ctx, "diary.entries", []string{"position", "partition", "n"}, rows); err != nil {
					return err
				}
				n, err := tx.Exec(ctx, `UPDATE diary.entries SET n = n WHERE position = $1`, events[0].Position)
				if err != nil || n != 1 {
					return err
				}
				found, err := tx.Query(ctx, `SELECT count(*) FROM diary.entries WHERE position >= $1`, events[0].Position)
				if err != nil {
					return err
				}
				_, err = pgx.CollectExactlyOneRow(found, pgx.RowTo[int])
				return err
			},
		},
	}
}

func TestEveryWayOfWriting(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(3_000, 30)
	options := f.workerOptions("one", diary())
	registry := prometheus.NewRegistry()
	options.Metrics = projector.NewMetrics(registry)
	w, err := projector.NewWorker(options)
	must(t, err)
	background(t, w.Run)
	m := f.models(diary())
	check := func() {
		t.Helper()
		last := f.fill(1_000, 30)
		var entries, sum, total int64
		sql := `SELECT count(*), sum(n), (SELECT sum(n) FROM diary.totals) FROM diary.entries`
		eventually(t, patience, "it is caught up", func() bool {
			return m.Query(es.WithPosition(t.Context(), last), projector.Need{Projections: []string{"diary"}}, sql, nil, func(rows pgx.Rows) error {
				_, err := pgx.ForEachRow(rows, []any{&entries, &sum, &total}, func() error { return nil })
				return err
			}) == nil
		})
		if entries != last || sum != total {
			t.Errorf("%d entries of %d events, summing up to %d and %d", entries, last, sum, total)
		}
	}
	check()
	replay := f.replayOptions()
	replay.Projections = []projector.Projection{diary()}
	_, err = projector.Replay(t.Context(), replay)
	must(t, err)
	check()
	differences, err := projector.Verify(t.Context(), replay)
	must(t, err)
	if len(differences) > 0 {
		t.Errorf("differences: %+v", differences)
	}
	families, err := registry.Gather()
	must(t, err)
	names := make(map[string]bool)
	for _, family := range families {
		names[family.GetName()] = true
	}
	for _, want := range []string{"millrace_projection_batch_events", "millrace_projection_batch_seconds", "millrace_projection_partitions"} {
		if !names[want] {
			t.Errorf("no figure %s", want)
		}
	}
}

// TestARebuildSendsWhatItHasQueued has a rebuild fold events by a statement each: they do not pile up in memory until it commits, and what fails when they are
// sent is found.
func TestARebuildSendsWhatItHasQueued(t *testing.T) {
	t.Parallel()
	f := setup(t)
	last := f.fill(35_000, 30)
	for name, c := range map[string]struct{ check, want string }{
		"every event can be applied": {},
		"one cannot":                 {"CHECK (n <> 12345)", "event 12346 (tally.added, stream tally-15) cannot be applied"},
	} {
		t.Run(name, func(t *testing.T) {
			queued := 0
			o := f.replayOptions()
			o.Projections = []projector.Projection{{
				Name: "entries", Version: 1, Events: []string{"tally.added"},
				Postgres: &projector.Postgres{
					Schema: []string{`CREATE TABLE entries.entries (position bigint PRIMARY KEY, n bigint NOT NULL ` + c.check + `)`},
					Apply: func(_ context.Context, tx *projector.Tx, events []es.Event) error {
						queued = max(queued, tx.Queued())
						for i := range events {
							tx.Queue(`INSERT INTO entries.entries VALUES ($1, $2)`, events[i].Position, events[i].Fact.(added).N)
						}
						return nil
					},
				},
			}}
			result, err := projector.Replay(t.Context(), o)
			if queued >= projector.DeferredStatements {
				t.Errorf("%d statements were queued when a page was folded, want fewer than %d", queued, projector.DeferredStatements)
			}
			if c.want != "" {
				wantError(t, err, c.want)
				return
			}
			must(t, err)
			var n int64
			must(t, f.pool.QueryRow(t.Context(), fmt.Sprintf(`SELECT count(*) FROM entries_%d.entries`, result.Generations["entries"])).Scan(&n))
			if n != last {
				t.Errorf("there are %d rows, want %d", n, last)
			}
		})
	}
}
