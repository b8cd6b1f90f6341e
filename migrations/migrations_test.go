package migrations_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/migrations"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

func empty(t *testing.T) (string, *pgxpool.Pool) {
	t.Helper()
	e := stacktest.New(t, stacktest.WithEmptyDatabase(), stacktest.WithoutNATS())
	pool, err := pgxpool.New(t.Context(), e.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return e.DatabaseURL, pool
}

// schema lists every column, index and function of the database, but for the migrations' own table.
func schema(t *testing.T, pool *pgxpool.Pool) string {
	t.Helper()
	rows, err := pool.Query(t.Context(), `
		SELECT table_name || '.' || column_name || ' ' || data_type FROM information_schema.columns WHERE table_schema = 'public' AND table_name <> 'schema_migrations'
		UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'schema_migrations'
		UNION ALL SELECT proname || pg_get_functiondef(p.oid) FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = 'public'
		ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprint(lines)
}

func TestSeveralProcessesMigrateAtOnce(t *testing.T) {
	t.Parallel()
	url, pool := empty(t)
	settings := migrations.Settings{Currency: "GBP", TimeZone: "Europe/London"}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := errors.Join(migrations.Up(t.Context(), url), migrations.Init(t.Context(), url, settings)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	var logs, ranges int
	if err := pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM log), (SELECT count(*) FROM event_ranges)`).Scan(&logs, &ranges); err != nil || logs != 1 || ranges != 1 {
		t.Fatalf("%d logs and %d ranges (%v), want one each", logs, ranges, err)
	}
	if err := migrations.Check(t.Context(), pool); err != nil {
		t.Error(err)
	}
}

// A migration that was killed leaves its version marked as begun, either before or after its one transaction.
func TestAKilledMigrationIsResumed(t *testing.T) {
	t.Parallel()
	whole, wholePool := empty(t)
	if err := migrations.Up(t.Context(), whole); err != nil {
		t.Fatal(err)
	}
	want := schema(t, wholePool)
	for version := 1; version <= migrations.Version; version++ {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprintf("version %d applied %v", version, applied), func(t *testing.T) {
				t.Parallel()
				url, pool := empty(t)
				upTo := version
				if !applied {
					upTo--
				}
				if err := migrations.UpTo(t.Context(), url, upTo); err != nil {
					t.Fatal(err)
				}
				if _, err := pool.Exec(t.Context(), `CREATE TABLE IF NOT EXISTS schema_migrations (version bigint NOT NULL PRIMARY KEY, dirty boolean NOT NULL)`); err != nil {
					t.Fatal(err)
				}
				if _, err := pool.Exec(t.Context(), `TRUNCATE schema_migrations`); err != nil {
					t.Fatal(err)
				}
				if _, err := pool.Exec(t.Context(), `INSERT INTO schema_migrations VALUES ($1, true)`, version); err != nil {
					t.Fatal(err)
				}
				if version == migrations.Version {
					if err := migrations.Check(t.Context(), pool); !errors.Is(err, migrations.ErrOldSchema) {
						t.Errorf("a half-done schema was taken for good: %v", err)
					}
				}
				if err := migrations.Up(t.Context(), url); err != nil {
					t.Fatal(err)
				}
				if got := schema(t, pool); got != want {
					t.Errorf("the schema is\n%s\nwant\n%s", got, want)
				}
			})
		}
	}
}

func TestWhatIsFixedWithTheLogIsKept(t *testing.T) {
	t.Parallel()
	url, _ := empty(t)
	if err := migrations.Up(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	first := migrations.Settings{Currency: "EUR", TimeZone: "Europe/Berlin"}
	if err := migrations.Init(t.Context(), url, first); err != nil {
		t.Fatal(err)
	}
	for _, s := range []migrations.Settings{first, {}, {DefaultCurrency: "GBP", DefaultTimeZone: "Europe/London"}} {
		if err := migrations.Init(t.Context(), url, s); err != nil {
			t.Errorf("%+v: %v", s, err)
		}
	}
	var changed *migrations.SettingsError
	if err := migrations.Init(t.Context(), url, migrations.Settings{Currency: "GBP"}); !errors.As(err, &changed) || changed.Log != "EUR" {
		t.Errorf("another currency: %v", err)
	}
	if err := migrations.Init(t.Context(), url, migrations.Settings{TimeZone: "Europe/London"}); !errors.As(err, &changed) || changed.Setting != "time zone" {
		t.Errorf("another time zone: %v", err)
	}
}
