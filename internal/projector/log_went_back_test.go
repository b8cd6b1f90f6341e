package projector_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// lostFeed is a feed that has seen events that its log has lost, and does not know yet that they are: such as no model wants, behind kept up to seen.
type lostFeed struct {
	projector.Feed
	kept, seen int64
	hidden     atomic.Bool // it has not seen them yet
}

func (l *lostFeed) Head() int64 {
	if l.hidden.Load() {
		return l.Feed.Head()
	}
	return max(l.Feed.Head(), l.seen)
}

func (l *lostFeed) After(ctx context.Context, after int64, limit int) ([]es.Event, error) {
	if after < l.kept || after >= l.seen || l.hidden.Load() {
		return l.Feed.After(ctx, after, limit)
	}
	var events []es.Event
	for p := after + 1; p <= l.seen; p++ {
		events = append(events, es.Event{Position: p, Stream: "lost-1", Type: "tally.noted", Partition: int(p % 16), Fact: noted{}})
	}
	return events, nil
}

// countedLog counts the readings of partitions.
type countedLog struct {
	projector.Log
	readings atomic.Int64
}

func (l *countedLog) ReadPartitions(ctx context.Context, partitions []int, after int64, limit int) ([]es.Event, int64, error) {
	l.readings.Add(1)
	return l.Log.ReadPartitions(ctx, partitions, after, limit)
}

// beyond counts the partitions whose checkpoints are beyond a position, in both stores.
func (f *fixture) beyond(position int64) (n int) {
	f.t.Helper()
	must(f.t, f.pool.QueryRow(f.t.Context(), `SELECT count(*) FROM checkpoints WHERE store = 'postgres' AND position > $1`, position).Scan(&n))
	keys, err := f.redis.Keys(f.t.Context(), "mr:"+f.info.ID[:8]+".*").Result()
	must(f.t, err)
	for _, key := range keys {
		if at, err := f.redis.HGet(f.t.Context(), key, "checkpoint").Int64(); err == nil && at > position {
			n++
		}
	}
	return n
}

// A worker that has heard of events that the log has lost, because another server has taken over that lacked them, does not move its checkpoints past the end of the
// log: what takes their positions is folded.
func TestAWorkerDoesNotPassTheEndOfTheLog(t *testing.T) {
	t.Parallel()
	for name, live := range map[string]bool{"while it catches up": false, "while it is idle": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := setup(t)
			kept := f.fill(100, 40)
			follow := &lostFeed{Feed: f.feed, kept: kept, seen: kept + 5}
			follow.hidden.Store(live)
			o := f.workerOptions("one")
			log := &countedLog{Log: o.Log}
			o.Feed, o.Log, o.Logger = follow, log, slog.New(slog.DiscardHandler)
			w, err := projector.NewWorker(o)
			must(t, err)
			background(t, w.Run)
			m := f.models()
			if live {
				f.expect(m)
				follow.hidden.Store(false)
			}
			before := log.readings.Load()
			eventually(t, patience, "it has looked at the log again, or passed its end", func() bool {
				return log.readings.Load() >= before+4 || f.beyond(kept) > 0
			})
			if n := f.beyond(kept); n > 0 {
				t.Errorf("%d checkpoints are beyond the end of the log", n)
			}
			f.fill(20, 40)
			f.expect(m)
		})
	}
}

// A checkpoint that is beyond the end of the log, because the log has lost events that were folded, is seen, and its partition left alone.
func TestACheckpointBeyondTheEndOfTheLog(t *testing.T) {
	t.Parallel()
	f := setup(t)
	stop := f.worker("one")
	m := f.models()
	f.fill(100, 40)
	f.expect(m)
	stop()
	partition := es.PartitionOf("tally-3", f.info.Partitions)
	_, err := f.pool.Exec(t.Context(), `UPDATE checkpoints SET position = 1000 WHERE store = 'postgres' AND partition = $1`, partition)
	must(t, err)
	var told atomic.Int64
	o := f.workerOptions("two")
	o.Logger = slog.New(slog.NewTextHandler(writerFunc(func(line []byte) {
		if strings.Contains(string(line), "checkpoint beyond the end of the log") {
			told.Add(1)
		}
	}), nil))
	w, err := projector.NewWorker(o)
	must(t, err)
	background(t, w.Run)
	eventually(t, patience, "the worker says so", func() bool { return told.Load() > 0 })
	last := f.fill(100, 40)
	others := slices.DeleteFunc([]string{"tally-0", "tally-1", "tally-2", "tally-4"}, func(s string) bool {
		return es.PartitionOf(s, f.info.Partitions) == partition
	})
	for _, stream := range others {
		eventually(t, patience, "the other partitions go on", func() bool {
			row, err := f.row(m, last, stream)
			if err != nil && !errors.Is(err, projector.ErrStale) {
				t.Fatal(err)
			}
			return err == nil && row == f.sums[stream]
		})
	}
	status, err := m.Status(t.Context())
	must(t, err)
	const want = "checkpoint 1000 is beyond the end of the log, position 200: the log has lost events"
	if got := status[0].Partitions[partition].Error; got != want || status[0].State != projector.Failed {
		t.Errorf("the model is %s; of the partition is said %q, want %q", status[0].State, got, want)
	}
	if told.Load() != 1 {
		t.Errorf("the worker says so %d times", told.Load())
	}
}
