package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/migrations"
)

// measured gives a writer metrics of its own, and returns a function that reads one.
func measured() (option func(*WriterOptions), value func(t *testing.T, name string) float64) {
	registry := prometheus.NewRegistry()
	return func(o *WriterOptions) { o.Metrics = registry }, func(t *testing.T, name string) float64 {
		t.Helper()
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "millrace_writer_"+name {
				return f.GetMetric()[0].GetCounter().GetValue() + f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		t.Fatalf("there is no metric %s", name)
		return 0
	}
}

// fill makes the stream of an empty log so many events long, a unit each.
func (b *bundle) fill(t *testing.T, stream es.Stream[int], events int) {
	t.Helper()
	if _, err := b.pool.Exec(t.Context(), `
		INSERT INTO events (position, stream, version, type, data, metadata, occurred_at, recorded_at, partition, ordinal, batch)
		SELECT n, $1, n, 'units.put', '{"N":1}', '{}', now(), now(), $2, n, $3 FROM generate_series(1, $4::bigint) AS n`,
		stream.Name(), es.PartitionOf(stream.Name(), b.log.Info().Partitions), uuid.New(), events); err != nil {
		t.Fatal(err)
	}
}

// snapshotOf returns the state and version of a stream's snapshot, version 0 where there is none, or none that is a state.
func (b *bundle) snapshotOf(t *testing.T, stream es.Stream[int]) (state int, version int64) {
	t.Helper()
	var data []byte
	err := b.pool.QueryRow(t.Context(), `SELECT state, version FROM snapshots WHERE stream = $1 AND shape = 1`, stream.Name()).Scan(&data, &version)
	if err != nil && !errors.Is(err, pgx.ErrNoRows) {
		t.Fatal(err)
	}
	if json.Unmarshal(data, &state) != nil {
		return 0, 0
	}
	return state, version
}

// The first process reads all of a long stream and leaves a snapshot; another reads what is behind it.
func TestALongStreamIsReadFromItsSnapshot(t *testing.T) {
	t.Parallel()
	const length = 200_000
	b := setup(t)
	long := units.Stream("long")
	b.fill(t, long, length)
	began := time.Now()
	w := b.writer(t, connect(t, b.env.DatabaseURL), func(o *WriterOptions) { o.AppendTimeout = time.Minute }) // pages are long for a busy machine
	execute(t, w, takeUnits(length, "long"))
	whole := time.Since(began)
	await(t, "the snapshot of the whole stream", func() bool { _, version := b.snapshotOf(t, long); return version == length })
	for range 7 {
		execute(t, w, putUnits("long", 1))
	}

	began = time.Now()
	option, value := measured()
	fresh := b.writer(t, connect(t, b.env.DatabaseURL), option)
	if _, err := fresh.Execute(t.Context(), takeUnits(8, "long")); err == nil {
		t.Error("8 units were taken of 7")
	}
	execute(t, fresh, takeUnits(7, "long"))
	t.Logf("the first command took %s without a snapshot, %s with one", whole, time.Since(began))
	if read, snapshots := value(t, "events_read_total"), value(t, "snapshots_read_total"); read != 8 || snapshots != 1 {
		t.Errorf("%v events and %v snapshots were read, want 8 and 1", read, snapshots)
	}
}

// A stream that grows in memory gets its snapshots too, now and then, and a stream that is short none.
func TestSnapshotsFollowAHotStream(t *testing.T) {
	t.Parallel()
	b := setup(t)
	w := b.writer(t, b.pool, func(o *WriterOptions) { o.SnapshotEvery = 10 })
	for range 9 {
		execute(t, w, putUnits("short", 1))
	}
	for n := 1; n <= 35; n++ {
		execute(t, w, putUnits("hot", 2))
		if n%10 == 0 {
			await(t, fmt.Sprintf("the snapshot at version %d", n), func() bool {
				state, version := b.snapshotOf(t, units.Stream("hot"))
				return version == int64(n) && state == 2*n
			})
		}
	}
	if _, version := b.snapshotOf(t, units.Stream("short")); version != 0 {
		t.Errorf("a stream of 9 events has a snapshot at version %d", version)
	}
}

// What does not belong to the log, or is of another shape, or cannot be read, is as good as no snapshot, and makes room for a good one.
func TestASnapshotThatCannotBeBelieved(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]string{
		"of an event beyond the end of the log": `UPDATE snapshots SET version = 500, position = 500`,
		"of an event of another history":        `UPDATE snapshots SET batch = gen_random_uuid()`,
		"of another stream's event":             `UPDATE snapshots SET position = position - 1`,
		"of another version":                    `UPDATE snapshots SET version = version + 1`,
		"of a newer shape":                      `UPDATE snapshots SET shape = 2`,
		"that is no state":                      `UPDATE snapshots SET state = '"many"'`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			every := func(o *WriterOptions) { o.SnapshotEvery = 10 }
			w := b.writer(t, b.pool, every)
			a := units.Stream("a")
			for range 20 {
				execute(t, w, putUnits("b", 1))
				execute(t, w, putUnits("a", 1))
			}
			await(t, "the snapshot", func() bool { _, version := b.snapshotOf(t, a); return version == 20 })
			await(t, "the other one", func() bool { _, version := b.snapshotOf(t, units.Stream("b")); return version == 20 })
			for _, sql := range []string{`DELETE FROM snapshots WHERE stream = 'units-b'`, `UPDATE snapshots SET state = '1000'`, spoil} {
				if _, err := b.pool.Exec(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
			}
			fresh := b.writer(t, connect(t, b.env.DatabaseURL), every)
			if _, err := fresh.Execute(t.Context(), takeUnits(21, "a")); err == nil {
				t.Error("21 units were taken of 20")
			}
			execute(t, fresh, takeUnits(20, "a"))
			await(t, "a snapshot that is right", func() bool { state, version := b.snapshotOf(t, a); return version == 20 && state == 20 })
		})
	}
}

// The release before reads snapshots of its own shape while this one writes others; the shapes before that go.
func TestSnapshotsOfShapesThatNobodyReadsGo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if _, err := b.pool.Exec(t.Context(), `INSERT INTO snapshots (stream, shape, version, position, batch, state)
		SELECT 'counted-a', shape, 1, 1, gen_random_uuid(), '1' FROM unnest(ARRAY[1, 2, 4]) AS shape`); err != nil {
		t.Fatal(err)
	}
	counted := es.NewKind("counted", func(n int, _ put) int { return n + 1 }).Snapshotted(3)
	w := b.writer(t, b.pool, func(o *WriterOptions) { o.SnapshotEvery, o.Categories = 1, []*es.Category{counted.Category} })
	execute(t, w, es.Command{Name: "count", Decide: func(d *es.Decision) error {
		if _, err := es.State(d, counted.Stream("a")); err != nil {
			return err
		}
		es.Append(d, counted.Stream("a"), put{1})
		return nil
	}})
	await(t, "the shapes 2, 3 and 4", func() bool {
		var shapes []int
		if err := b.pool.QueryRow(t.Context(), `SELECT array_agg(shape ORDER BY shape) FROM snapshots`).Scan(&shapes); err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(shapes) == "[2 3 4]"
	})
}

// A stream that takes several pages is read between the others' readings, and has all of its events.
func TestALongStreamDoesNotHoldUpTheOthers(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.fill(t, units.Stream("long"), 500)
	w := NewWriter(b.log, WriterOptions{Categories: []*es.Category{units.Category}})
	w.pageEvents = 1 // 500 readings
	run(t, w)
	long := make(chan error, 1)
	go func() {
		_, err := w.Execute(t.Context(), takeUnits(500, "long"))
		long <- err
	}()
	await(t, "the long stream to be read", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.loads > 2 })
	execute(t, w, putUnits("other", 1))
	select {
	case err := <-long:
		t.Errorf("the command on the long stream came first (%v)", err)
	default:
	}
	if err := <-long; err != nil {
		t.Error(err)
	}
	b.readWhole(t)
}

// The pages of a stream do not end where the ranges of positions do.
func TestALongStreamIsReadAcrossRanges(t *testing.T) {
	t.Parallel()
	b := setup(t, stacktest.WithSettings(migrations.Settings{Currency: "GBP", TimeZone: "Europe/London", RangeSize: 50}))
	w := b.writer(t, b.pool, func(o *WriterOptions) { o.SnapshotEvery = 1000 })
	for range 150 {
		execute(t, w, putUnits("other", 1))
		execute(t, w, putUnits("long", 1))
	}
	if _, err := b.pool.Exec(t.Context(), `SELECT close_event_ranges()`); err != nil {
		t.Fatal(err)
	}
	fresh := NewWriter(b.log, WriterOptions{Categories: []*es.Category{units.Category}, SnapshotEvery: 40})
	fresh.pageEvents = 7
	run(t, fresh)
	if _, err := fresh.Execute(t.Context(), takeUnits(151, "long")); !errors.Is(err, errNotEnough) {
		t.Errorf("151 units of 150: %v", err)
	}
	execute(t, fresh, takeUnits(150, "long"))
	await(t, "a snapshot", func() bool { _, version := b.snapshotOf(t, units.Stream("long")); return version > 0 })
	execute(t, b.writer(t, connect(t, b.env.DatabaseURL)), putUnits("long", 3))
	if n := b.units(t, "long"); n != 3 {
		t.Errorf("%d units, want 3", n)
	}
}
