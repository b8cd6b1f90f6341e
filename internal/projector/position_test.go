package projector_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// Clients append and read what they have appended, by row, document and list, each time through another process. Of the replicas one
// stands still, one is late and one is current: no read is older than its position, none is refused, and the one that stands still
// is asked no more once that was noticed.
func TestReadsAtPositionsThroughSeveralProcesses(t *testing.T) {
	t.Parallel()
	const paused, delayed = 0, 1
	f, stack := setupReplicas(t, 3)
	f.fill(500, 20)
	f.worker("one")
	f.worker("two")
	var readers []*projector.Models
	var standing []*pgxpool.Pool // of each process, to the replica that stands still
	for range 3 {
		readers = append(readers, f.process(func(o *projector.ModelsOptions) {
			o.Wait, standing = ample, append(standing, o.Replicas[paused])
		}))
	}
	f.expect(readers[0])
	must(t, stack.PauseReplay(t.Context(), paused))
	must(t, stack.DelayReplay(t.Context(), delayed, 300*time.Millisecond))

	var turn atomic.Int64
	round := func(client, i int) error {
		stream := fmt.Sprintf("tally-client-%d-%d", client, i%3) // nobody else's: what it has to show is known exactly
		f.append(stream, added{N: i}, added{N: 1})
		position := f.append(stream, added{N: 2}, noted{})
		m := readers[int(turn.Add(1))%len(readers)]
		return f.shows(m, position, stream)
	}
	clients := func(rounds int) {
		t.Helper()
		var group errgroup.Group
		for client := range 3 {
			group.Go(func() error {
				for i := range rounds {
					if err := round(client, i); err != nil {
						return err
					}
				}
				return nil
			})
		}
		must(t, group.Wait())
	}
	clients(40)
	asked := func() (n int64) {
		for _, pool := range standing {
			n += pool.Stat().AcquireCount()
		}
		return n
	}
	eventually(t, 2*patience, "the replica that stands still is left alone", func() bool {
		began, before := time.Now(), asked()
		clients(10) // 180 reads of rows and lists
		looks := int64(len(readers)) * int64(1+time.Since(began)/(400*time.Millisecond))
		return asked()-before <= looks
	})
	must(t, stack.ResumeReplay(t.Context(), paused))
	eventually(t, 2*patience, "the replica that goes on is asked again", func() bool {
		began, before := time.Now(), asked()
		clients(10)
		looks := int64(len(readers)) * int64(1+time.Since(began)/(400*time.Millisecond))
		return asked()-before > 2*looks
	})
	for replica := range f.replicas {
		must(t, stack.PauseReplay(t.Context(), replica))
	}
	clients(5) // there is still the primary
}

// Partitions that have nothing to show at a position are not waited for, however far behind it their checkpoints are.
func TestIdlePartitionsAreNotWaitedFor(t *testing.T) {
	t.Parallel()
	f := setup(t)
	stop := f.worker("one")
	m := f.modelsWith(withAmpleWait)
	f.append("tally-idle", added{N: 1})
	f.append("tally-ignored", noted{})
	f.appendAll(func(add func(string, es.Fact)) {
		for i := range 5_000 {
			add("tally-busy", added{N: i})
		}
	})
	f.expect(m)
	stop()
	// As they are when a worker has not yet written down that it has seen nothing more of them.
	_, err := f.pool.Exec(t.Context(), `UPDATE checkpoints c SET position = coalesce((SELECT max(position) FROM events e WHERE e.partition = c.partition), 0)`)
	must(t, err)
	began := time.Now()
	rows, err := f.rows(m, f.head)
	must(t, err)
	if len(rows) != 2 || rows["tally-busy"] != f.sums["tally-busy"] || rows["tally-idle"].Count != 1 {
		t.Errorf("the list is %+v", rows)
	}
	for _, stream := range []string{"tally-idle", "tally-ignored", "tally-never"} {
		row, err := f.row(m, f.head, stream)
		if must(t, err); row != f.sums[stream] {
			t.Errorf("%s is %+v, want %+v", stream, row, f.sums[stream])
		}
	}
	if took := time.Since(began); took > ample/2 {
		t.Errorf("it took %v", took)
	}
}

// waits are the metrics of a process's reads at positions, by the values of their labels in the order of these: how many there were, the
// seconds that they waited altogether, and how many gave up.
func waits(t *testing.T, registry *prometheus.Registry) (reads, seconds, failures map[string]float64) {
	t.Helper()
	families, err := registry.Gather()
	must(t, err)
	reads, seconds, failures = make(map[string]float64), make(map[string]float64), make(map[string]float64)
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			var labels []string
			for _, l := range metric.GetLabel() {
				labels = append(labels, l.GetValue())
			}
			key := strings.Join(labels, " ")
			switch family.GetName() {
			case "millrace_position_wait_seconds":
				reads[key], seconds[key] = float64(metric.GetHistogram().GetSampleCount()), metric.GetHistogram().GetSampleSum()
			case "millrace_position_wait_failures_total":
				failures[key] = metric.GetCounter().GetValue()
			}
		}
	}
	return reads, seconds, failures
}

// unanswered is a feed that does not hear where the log ends.
type unanswered struct{ projector.Feed }

func (u unanswered) WaitFor(ctx context.Context, position int64, _ time.Time) (bool, error) {
	return u.Feed.WaitFor(ctx, position, time.Now().Add(time.Hour))
}

// A position that is not reached is waited for as long as is allowed, once for all that a query reads, Redis taking its share of it, and one that the log
// does not have is not waited for; and the metrics tell for how long, of which model, and why in vain.
func TestWaitsAreBoundedAndCounted(t *testing.T) {
	t.Parallel()
	const wait = 4 * time.Second
	f := setup(t)
	stop := f.worker("one")
	registry, others := prometheus.NewPedanticRegistry(), prometheus.NewPedanticRegistry()
	m := f.modelsWith(func(o *projector.ModelsOptions) { o.Wait, o.Metrics = wait, projector.NewMetrics(registry) })
	alone := f.modelsWith(func(o *projector.ModelsOptions) {
		o.Wait, o.Metrics, o.Feed = wait, projector.NewMetrics(others), unanswered{o.Feed}
	})
	f.fill(100, 10)
	f.expect(m)
	if reads, _, failures := waits(t, registry); reads["tally postgres"] == 0 || reads["tally redis"] == 0 || len(failures) > 0 {
		t.Errorf("before: %v reads, %v failures", reads, failures)
	}
	stop()
	lacking := f.fill(100, 10) // which nobody folds
	for reason, c := range map[string]struct {
		m        *projector.Models
		registry *prometheus.Registry
		position int64
		waits    bool
	}{
		"behind": {m, registry, lacking, true}, "log": {alone, others, lacking + 1_000_000, true}, "beyond": {m, registry, lacking + 1_000_000, false},
	} {
		m, registry, position := c.m, c.registry, c.position
		readsBefore, before, failuresBefore := waits(t, registry)
		ctx, began := es.WithPosition(t.Context(), position), time.Now()
		// One query that reads one model, and then another two, or the same again.
		for i := range 3 {
			documents, err := m.Documents(ctx, "tally", []projector.DocKey{{Stream: "tally-3", Key: "3"}})
			must(t, err)
			if documents[0] != nil {
				t.Errorf("%s: there is a document at position %d", reason, position)
			}
			if took := time.Since(began); c.waits && i == 0 && (took < wait/8 || took > wait*3/4) {
				t.Errorf("%s: Redis took %v of %v", reason, took, wait)
			}
			err = m.Query(ctx, projector.Need{Projections: []string{"tally"}, Streams: []string{"tally-3"}}, `SELECT 1`, nil, nil)
			if !errors.Is(err, projector.ErrStale) || errors.Is(err, projector.ErrBeyond) == c.waits {
				t.Errorf("%s: %v, want ErrStale", reason, err)
			}
		}
		if took := time.Since(began); c.waits && (took < wait*3/4 || took > 2*wait) {
			t.Errorf("%s: the query took %v, and may wait %v", reason, took, wait)
		}
		reads, seconds, failures := waits(t, registry)
		for _, store := range []string{"postgres", "redis"} {
			of, why := "tally "+store, "tally "+reason+" "+store
			if n := failures[why] - failuresBefore[why]; n != 3 {
				t.Errorf("%s: %v failures of %s, want 3", reason, n, store)
			}
			if n := reads[of] - readsBefore[of]; n != 3 {
				t.Errorf("%s: %v reads of %s, want 3", reason, n, store)
			}
		}
		if waited := seconds["tally postgres"] - before["tally postgres"]; c.waits && waited < wait.Seconds()/2 {
			t.Errorf("%s: the metrics tell of %v s waited for PostgreSQL", reason, waited)
		}
		if waited := seconds["tally redis"] - before["tally redis"]; c.waits && waited < wait.Seconds()/8 {
			t.Errorf("%s: the metrics tell of %v s waited for Redis", reason, waited)
		}
	}
}

// A partition that stands still refuses lists that need it, at once, and nobody else: neither reads of other partitions, nor of its
// own at a position before the event that it stands at.
func TestReadsBesideAPartitionThatHasStopped(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.worker("one")
	registry := prometheus.NewPedanticRegistry()
	m := f.modelsWith(func(o *projector.ModelsOptions) { o.Wait, o.Metrics = ample, projector.NewMetrics(registry) })
	f.fill(100, 10)
	f.poison(true)
	last := f.append("tally-bad", added{N: 1})
	before := f.append(f.elsewhere("tally-bad"), added{N: 1})
	bad := f.append("tally-bad", added{N: 2, Poison: true})
	f.awaitStanding(bad, 2)
	after := f.append(f.elsewhere("tally-bad"), added{N: 3})
	began := time.Now()
	for what, err := range map[string]error{
		"a list":              func() error { _, err := f.rows(m, after); return err }(),
		"a list at the event": func() error { _, err := f.rows(m, bad); return err }(),
	} {
		if !errors.Is(err, projector.ErrStale) {
			t.Errorf("%s: %v, want ErrStale", what, err)
		}
	}
	if _, _, failures := waits(t, registry); failures["tally stopped postgres"] != 2 {
		t.Errorf("the metrics tell of %v", failures)
	}
	row, err := f.row(m, after, f.elsewhere("tally-bad"))
	if must(t, err); row.Last != after {
		t.Errorf("another partition: %+v", row)
	}
	rows, err := f.rows(m, before)
	if must(t, err); rows["tally-bad"].Last != last || rows[f.elsewhere("tally-bad")].Last < before {
		t.Errorf("before the event the list is %+v", rows)
	}
	row, err = f.row(m, before, "tally-bad")
	if must(t, err); row.Last != last {
		t.Errorf("its own stream, before the event: %+v", row)
	}
	if took := time.Since(began); took > ample/2 {
		t.Errorf("it took %v", took)
	}
	f.poison(false)
	f.expect(m)
}

// What a replica holds against a read may have been mended since: the primary is asked.
func TestAReplicaIsNotBelievedThatAStreamIsParked(t *testing.T) {
	t.Parallel()
	f, stack := setupReplicas(t, 1)
	f.poison(true)
	f.worker("one")
	m := f.modelsWith(withAmpleWait)
	bad := f.append("tally-bad", added{N: 1, Poison: true})
	f.awaitStanding(bad, 2)
	must(t, m.Park(t.Context(), "tally", bad))
	f.awaitParked(m, bad)
	var parked *projector.ParkedError
	eventually(t, patience, "the replica says that it is parked", func() bool {
		var held bool
		must(t, f.replicas[0].QueryRow(t.Context(), `SELECT EXISTS (SELECT FROM checkpoints WHERE store = 'postgres' AND held IS NOT NULL)`).Scan(&held))
		return held
	})
	if _, err := f.row(m, bad, "tally-bad"); !errors.As(err, &parked) {
		t.Errorf("while it is parked: %v", err)
	}
	must(t, stack.PauseReplay(t.Context(), 0))
	f.poison(false)
	must(t, m.Retry(t.Context(), "tally", bad))
	f.awaitParked(m, bad)
	row, err := f.row(m, bad, "tally-bad")
	if must(t, err); row.Last != bad {
		t.Errorf("after the retry the row is %+v", row)
	}
}

// A replica that does not answer costs readers nothing once that was noticed: who tries it again is not one of them.
func TestAReplicaThatHangsIsLeftAlone(t *testing.T) {
	t.Parallel()
	f, stack := setupReplicas(t, 2)
	f.worker("one")
	var hanging *pgxpool.Pool
	m := f.process(func(o *projector.ModelsOptions) { o.Wait, hanging = ample, o.Replicas[0] })
	position := f.fill(100, 10)
	f.expect(m)
	must(t, stack.Replica(0).Pause())
	asked := func() int64 { return hanging.Stat().AcquireCount() + hanging.Stat().CanceledAcquireCount() }
	eventually(t, 3*patience, "readers leave the replica alone", func() bool {
		before := asked()
		window, cancel := context.WithTimeout(t.Context(), 3*answerTimeout)
		defer cancel()
		var group errgroup.Group
		for client := range 10 {
			group.Go(func() error {
				for window.Err() == nil {
					// A machine that is busy with other tests has the others answer late at times.
					if _, err := f.row(m, position, fmt.Sprintf("tally-%d", client)); err != nil && !errors.Is(err, es.ErrUnavailable) {
						return err
					}
				}
				return nil
			})
		}
		must(t, group.Wait())
		return asked()-before <= 5 // looks, of which each takes answerTimeout or longer
	})
	must(t, stack.Replica(0).Resume())
	eventually(t, 2*patience, "the replica is asked again", func() bool {
		before := asked()
		for range 100 {
			_, err := f.row(m, position, "tally-3")
			must(t, err)
		}
		return asked()-before > 20
	})
}

// answerTimeout is how long the engine waits for a server.
const answerTimeout = time.Second
