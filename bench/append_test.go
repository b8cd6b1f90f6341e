package bench

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/devstack/stacktest"
)

func TestOptions(t *testing.T) {
	t.Parallel()
	var unknown *UnknownBenchError
	if err := (Options{Names: []string{"append-cold", "flight"}}).Check(); !errors.As(err, &unknown) || unknown.Name != "flight" {
		t.Errorf("an unknown bench gives %v", err)
	}
	if err := (Options{Duration: time.Millisecond}).Check(); err == nil || !strings.Contains(err.Error(), "1ms") {
		t.Errorf("a duration that is too short gives %v", err)
	}
	if err := (Options{File: "nowhere.csv"}).Check(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that is not there gives %v", err)
	}
	if err := (Options{Names: []string{"import", "replay"}, Duration: time.Minute}).Check(); err != nil {
		t.Error(err)
	}
}

// The append benches run on a real server; how fast they are is not for a test to say.
func TestAppendBenches(t *testing.T) {
	t.Parallel()
	env := stacktest.New(t, stacktest.WithoutNATS())
	report, err := Run(t.Context(), Options{
		Names: []string{"append-cold", "append-keyed", "append-hot", "append-rivals"}, PostgresURL: env.DatabaseURL, Dir: t.TempDir(), Duration: minDuration,
	})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range report.Figures {
		names = append(names, f.Name)
		if f.Value <= 0 || f.Name != "append-rivals-share" && (f.Baseline == nil || *f.Baseline <= 0 || f.Ratio == nil) {
			t.Errorf("%s has the value %v, the baseline %v and the ratio %v", f.Name, f.Value, f.Baseline, f.Ratio)
		}
	}
	if got := strings.Join(names, " "); got != "append-cold append-cold-p50 append-keyed append-keyed-p50 append-hot append-hot-p50 append-rivals append-rivals-p99 append-rivals-share" {
		t.Errorf("the figures are %s", got)
	}
	conn, err := pgx.Connect(t.Context(), env.AdminURL)
	if err != nil {
		t.Fatal(err)
	}
	var left int
	err = conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_database WHERE datname LIKE 'millrace_bench_%'`).Scan(&left)
	if err := errors.Join(err, conn.Close(t.Context())); err != nil {
		t.Fatal(err)
	}
	if left != 0 {
		t.Errorf("%d databases were left", left)
	}
}
