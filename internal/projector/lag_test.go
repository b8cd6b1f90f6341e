package projector_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
	"github.com/millrace/millrace/migrations"
)

// status returns how the tally stands.
func (f *fixture) status(m *projector.Models) projector.Status {
	f.t.Helper()
	all, err := m.Status(f.t.Context())
	must(f.t, err)
	return all[0]
}

// told returns what a process with these models tells a scraper, by name and labels.
func told(t *testing.T, m *projector.Models) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	must(t, registry.Register(projector.NewLagCollector(m)))
	families, err := registry.Gather()
	must(t, err)
	figures := make(map[string]float64)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, l := range metric.GetLabel() {
				labels = append(labels, l.GetName()+"="+l.GetValue())
			}
			figures[strings.TrimSpace(family.GetName()+" "+strings.Join(labels, " "))] = metric.GetGauge().GetValue()
		}
	}
	return figures
}

func lagFigure(generation int, status string, partition int) string {
	return fmt.Sprintf("millrace_projection_lag_events generation=%d partition=%d projection=tally status=%s", generation, partition, status)
}

// TestLagIsWhatIsMissing holds the lag of each partition against a count of the events behind its checkpoint, in a log of
// several ranges.
func TestLagIsWhatIsMissing(t *testing.T) {
	t.Parallel()
	env := stacktest.New(t, stacktest.WithoutNATS(), stacktest.WithSettings(migrations.Settings{Partitions: 16, Currency: "GBP", TimeZone: "Europe/London", RangeSize: 1_500}))
	f := setupOn(t, env.DatabaseURL, env.ReplicaURLs, env.RedisURL)
	for range 4 {
		_, err := f.pool.Exec(t.Context(), `SELECT add_event_range()`)
		must(t, err)
	}
	m := f.models()
	stop := f.worker("one")
	f.fill(2_000, 40)
	f.expect(m)
	if s := f.status(m); s.Lag != 0 || s.LagSeconds != 0 || s.Position != f.head || len(s.Partitions) != 16 || s.State != projector.Live {
		t.Errorf("when all is visible: %+v", s)
	}
	stop()
	f.append("tally-only", added{N: 1}, noted{})
	var missed time.Time
	must(t, f.pool.QueryRow(t.Context(), `SELECT recorded_at FROM events ORDER BY position DESC LIMIT 1`).Scan(&missed))
	f.fill(3_000, 7)
	s := f.status(m)
	var sum int64
	oldest := 0.0
	figures := told(t, m)
	for _, p := range s.Partitions {
		var want int64
		must(t, f.pool.QueryRow(t.Context(), `SELECT count(*) FROM events WHERE partition = $1 AND position > (SELECT position FROM checkpoints
			WHERE projection = 'tally' AND store = 'postgres' AND partition = $1)`, p.Number).Scan(&want))
		if p.Lag != want || (p.LagSeconds > 0) != (want > 0) {
			t.Errorf("partition %d lags %d events and %f s; %d are missing", p.Number, p.Lag, p.LagSeconds, want)
		}
		if got := figures[lagFigure(1, "live", p.Number)]; got != float64(want) {
			t.Errorf("partition %d is told to lag %v events; %d are missing", p.Number, got, want)
		}
		sum += want
		oldest = max(oldest, p.LagSeconds)
	}
	if s.Lag != sum || sum != 3_002 || s.LagSeconds != oldest || s.State != projector.Stopped {
		t.Errorf("all of it is %+v; %d are missing, the oldest for %f s", s, sum, oldest)
	}
	if age := time.Since(missed).Seconds(); s.LagSeconds > age || s.LagSeconds < age-5 {
		t.Errorf("the oldest event that is missing was recorded %f s ago, not %f", age, s.LagSeconds)
	}
	f.worker("heir")
	eventually(t, patience, "nothing lags", func() bool { s := f.status(m); return s.Lag == 0 && s.LagSeconds == 0 && s.Position == f.head })
}

// TestIdlePartitionsDoNotLag leaves partitions without events for long, and lets the log grow beside them.
func TestIdlePartitionsDoNotLag(t *testing.T) {
	t.Parallel()
	f := setup(t)
	m := f.models()
	stop := f.worker("one")
	f.fill(100, 40)
	f.expect(m)
	stop()
	busy := es.PartitionOf("tally-3", f.info.Partitions)
	for range 500 {
		f.append("tally-3", added{N: 1})
	}
	s := f.status(m)
	for _, p := range s.Partitions {
		want := projector.PartitionStatus{Number: p.Number, Position: f.head}
		if p.Number == busy {
			want.Position, want.Lag, want.LagSeconds = p.Position, 500, p.LagSeconds
		}
		if p != want || p.Number == busy && p.LagSeconds <= 0 {
			t.Errorf("%+v, want %+v", p, want)
		}
	}
	if s.Lag != 500 {
		t.Errorf("all lag %d", s.Lag)
	}
}

// TestLagOfAWorkerThatStandsStill stops the only worker, whose process looks healthy, and kills it then: what others tell of the
// lag grows, in events as they come and in seconds by itself.
func TestLagOfAWorkerThatStandsStill(t *testing.T) {
	t.Parallel()
	f := setup(t)
	m := f.models()
	cmd, _ := f.startChild()
	f.fill(500, 40)
	f.expect(m)
	seconds := func() float64 {
		worst := 0.0
		for name, value := range told(t, m) {
			if strings.HasPrefix(name, "millrace_projection_lag_seconds") {
				worst = max(worst, value)
			}
		}
		return worst
	}
	must(t, cmd.Process.Signal(syscall.SIGSTOP))
	f.fill(160, 40)
	if s := f.status(m); s.Lag != 160 || s.LagSeconds <= 0 || s.Partitions[0].Worker == "" {
		t.Errorf("a moment later, while it is taken for a worker: %+v", s)
	}
	before := seconds()
	eventually(t, patience, "the lag in seconds grows", func() bool { return seconds() > before+1 })
	must(t, cmd.Process.Kill())
	f.fill(40, 40)
	eventually(t, patience, "it is known to have no worker", func() bool { return f.status(m).State == projector.Stopped })
	before = seconds()
	eventually(t, patience, "the lag in seconds still grows", func() bool { return seconds() > before+1 })
	if s := f.status(m); s.Lag != 200 || s.WorkersWanted < 1 {
		t.Errorf("without a worker: %+v", s)
	}
	f.worker("heir")
	eventually(t, patience, "nothing lags", func() bool { return f.status(m).Lag == 0 && seconds() == 0 })
}

// TestLagWithoutAnyWorker asks for a model that nobody has ever folded.
func TestLagWithoutAnyWorker(t *testing.T) {
	t.Parallel()
	f := setup(t)
	m := f.models()
	f.fill(300, 40)
	s := f.status(m)
	if s.Lag != 300 || s.LagSeconds <= 0 || s.WorkersWanted != 1 || s.State != projector.Rebuilding || s.Position != 0 {
		t.Errorf("%+v", s)
	}
	figures := told(t, m)
	sum := 0.0
	for n := range 16 {
		sum += figures[lagFigure(0, "none", n)]
	}
	if sum != 300 || figures["millrace_workers_wanted"] != 1 || figures["millrace_projection_workers_wanted projection=tally"] != 1 {
		t.Errorf("%v", figures)
	}
}

// TestLagOfWhatRedisLost takes the documents away while the rows have everything: the worse store counts.
func TestLagOfWhatRedisLost(t *testing.T) {
	t.Parallel()
	stack := stacktest.Private(t)
	f := setupOn(t, stack.PostgresURL(), stack.ReplicaURLs(), stack.RedisURL())
	m := f.models()
	stop := f.worker("one")
	f.fill(1_000, 40)
	f.expect(m)
	eventually(t, patience, "nothing lags", func() bool { return f.status(m).Lag == 0 })
	stop()
	must(t, f.redis.FlushAll(t.Context()).Err())
	s := f.status(m)
	if s.Lag != 1_000 || s.LagSeconds <= 0 || s.Position != 0 {
		t.Errorf("when Redis has lost everything: %+v", s)
	}
	// Away is not lost: what Redis was known to have counts, and what comes is missing.
	f.worker("two")
	eventually(t, patience, "nothing lags again", func() bool { return f.status(m).Lag == 0 })
	f.expect(m)
	eventually(t, patience, "PostgreSQL remembers it", func() bool {
		var n int
		must(t, f.pool.QueryRow(t.Context(), `SELECT count(*) FROM checkpoints WHERE store = 'redis' AND position < $1`, f.head).Scan(&n))
		return n == 0
	})
	must(t, stack.Redis().Kill())
	f.fill(80, 40)
	eventually(t, patience, "the rows have them", func() bool { _, err := f.rows(m, f.head); return err == nil })
	if s := f.status(m); s.Lag != 80 || s.LagSeconds <= 0 {
		t.Errorf("while Redis is away: %+v", s)
	}
}

// TestLagOfAGenerationThatIsBuilt tells the lag of what readers see apart from that of what is being built: by the
// number, so that neither stands for the other.
func TestLagOfAGenerationThatIsBuilt(t *testing.T) {
	t.Parallel()
	f := setup(t)
	old := f.models()
	stop := f.worker("old")
	f.fill(400, 40)
	f.expect(old)
	stop()
	next := slow(tallyProjection(f.info, 2), 2*time.Millisecond)
	f.poison(true)
	at := f.append("tally-3", added{N: 1, Poison: true})
	f.worker("new", next)
	m := f.models(next)
	partition := es.PartitionOf("tally-3", f.info.Partitions)
	eventually(t, patience, "it is seen while it is built", func() bool { return told(t, m)[lagFigure(2, "building", partition)] > 0 })
	if s := f.status(m); s.State != projector.Rebuilding || s.Generation != 0 || s.Lag != at || s.LagSeconds <= 0 {
		t.Errorf("while it is built: %+v", s)
	}
	eventually(t, patience, "the new one stands still at the event", func() bool { return f.status(m).State == projector.Failed })
	f.append("tally-3", added{N: 1})
	s := f.status(m)
	if p := s.Partitions[partition]; s.Lag != 2 || p.Lag != 2 || p.LagSeconds <= 0 || p.Position >= at || s.WorkersWanted != 1 {
		t.Errorf("the new one: %+v", s)
	}
	if got := told(t, m)[lagFigure(2, "live", partition)]; got != 2 {
		t.Errorf("the new one is told to lag %v", got)
	}
	if got := told(t, old)[lagFigure(1, "live", partition)]; got != 2 {
		t.Errorf("the old one is told to lag %v", got)
	}
}

// TestLagThatCannotBeKnown cuts a process off from its database: it does not go on telling what it saw.
func TestLagThatCannotBeKnown(t *testing.T) {
	t.Parallel()
	f := setup(t)
	proxy, through := stacktest.ProxyURL(t, f.url)
	f.worker("one")
	f.fill(100, 40)
	m, err := projector.NewModels(projector.ModelsOptions{
		Primary: connect(t, through), Redis: f.redis, Info: f.info, Projections: []projector.Projection{tallyProjection(f.info, 1)}, Logger: testLogger(t),
	})
	must(t, err)
	eventually(t, patience, "all is visible", func() bool { return f.status(m).Lag == 0 })
	if figures := told(t, m); figures["millrace_projection_lag_known"] != 1 || len(figures) != 35 {
		t.Errorf("%v", figures)
	}
	proxy.Stall()
	began := time.Now()
	if figures := told(t, m); !maps.Equal(figures, map[string]float64{"millrace_projection_lag_known": 0}) {
		t.Errorf("%v", figures)
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	proxy.Heal()
}

// slow makes a projection take some time for each event.
func slow(p projector.Projection, each time.Duration) projector.Projection {
	apply := p.Postgres.Apply
	p.Redis = nil
	p.Postgres = &projector.Postgres{Schema: p.Postgres.Schema, Apply: func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
		timer := time.NewTimer(time.Duration(len(events)) * each)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		return apply(ctx, tx, events)
	}}
	return p
}

// TestWorkersWanted follows the number through a backlog: it is known from what was measured, also when the worker that was
// measured is gone.
func TestWorkersWanted(t *testing.T) {
	t.Parallel()
	f := setup(t)
	p := slow(tallyProjection(f.info, 1), time.Millisecond)
	m, err := projector.NewModels(projector.ModelsOptions{
		Primary: f.pool, Info: f.info, Projections: []projector.Projection{p}, LagTarget: time.Second, Logger: testLogger(t),
	})
	must(t, err)
	stop := f.worker("one", p)
	f.fill(1_500, 40)
	throughput := func() (perSecond float64) {
		_ = f.pool.QueryRow(t.Context(), `SELECT events / busy_seconds FROM throughput`).Scan(&perSecond) // 0: there is none yet
		return perSecond
	}
	eventually(t, patience, "it is caught up and measured", func() bool { s := f.status(m); return s.Lag == 0 && throughput() > 0 })
	if s := f.status(m); s.WorkersWanted != 1 {
		t.Errorf("without a backlog %d are wanted", s.WorkersWanted)
	}
	measured := throughput()
	if measured > 1_000 || measured < 100 {
		t.Errorf("a worker that takes a millisecond an event was measured to fold %f/s", measured)
	}
	stop()
	if s := f.status(m); s.WorkersWanted != 1 {
		t.Errorf("without a worker and a backlog %d are wanted", s.WorkersWanted)
	}
	f.fill(4_000, 40)
	s := f.status(m)
	if s.Lag != 4_000 || s.WorkersWanted < 4 || s.WorkersWanted > 16 {
		t.Errorf("for 4,000 events at %f/s in a second %d are wanted: %+v", measured, s.WorkersWanted, s)
	}
	if figures := told(t, m); figures["millrace_workers_wanted"] < 4 || figures["millrace_projection_workers_wanted projection=tally"] < 4 {
		t.Errorf("%v", figures)
	}
	most := s.WorkersWanted
	began := time.Now()
	for i := range most {
		f.worker(fmt.Sprint("more", i), p)
	}
	eventually(t, 2*patience, "they have drained it", func() bool { return f.status(m).Lag == 0 })
	t.Logf("%d workers at %.0f events/s drained 4,000 events in %v", most, measured, time.Since(began))
	eventually(t, 2*patience, "one is enough again", func() bool { return f.status(m).WorkersWanted == 1 })
}

// TestLookingForLagDoesNotReadTheLog counts the pages that a look takes while everything is missing, in a log of several ranges without
// statistics and with.
func TestLookingForLagDoesNotReadTheLog(t *testing.T) {
	t.Parallel()
	env := stacktest.New(t, stacktest.WithoutNATS(), stacktest.WithSettings(migrations.Settings{Partitions: 16, Currency: "GBP", TimeZone: "Europe/London", RangeSize: 20_000}))
	f := setupOn(t, env.DatabaseURL, env.ReplicaURLs, env.RedisURL)
	for range 4 {
		_, err := f.pool.Exec(t.Context(), `SELECT add_event_range()`)
		must(t, err)
	}
	// A partition that was busy once and then no more, and one that is new.
	for range 200 {
		f.append("tally-old", added{N: 1})
	}
	f.fill(80_000, 1_000)
	for range 2 {
		for name, look := range map[string]struct {
			sql  string
			args []any
		}{
			"arrivals":               {projector.ArrivalQuery, []any{10 * time.Second}},
			"lag from the beginning": {projector.LagQuery, []any{everyPartition(), make([]int64, 16), 16}},
			"lag from the middle":    {projector.LagQuery, []any{everyPartition(), slices.Repeat([]int64{41_234}, 16), 16}},
		} {
			var plan string
			must(t, f.pool.QueryRow(t.Context(), `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) `+look.sql, look.args...).Scan(&plan))
			var explained []struct {
				Plan struct {
					Hit  int `json:"Shared Hit Blocks"`
					Read int `json:"Shared Read Blocks"`
				}
			}
			must(t, json.Unmarshal([]byte(plan), &explained))
			pages := explained[0].Plan.Hit + explained[0].Plan.Read
			t.Logf("%s: %d pages", name, pages)
			if pages > 1_000 {
				t.Errorf("%s takes %d pages:\n%s", name, pages, plan)
			}
		}
		_, err := f.pool.Exec(t.Context(), `ANALYZE events`)
		must(t, err)
	}
}

func everyPartition() []int16 {
	all := make([]int16, 16)
	for n := range all {
		all[n] = int16(n)
	}
	return all
}
