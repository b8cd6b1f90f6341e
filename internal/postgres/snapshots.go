package postgres

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
)

// snapshot is a stream's state as of an event that is committed.
type snapshot struct {
	shape    int
	state    any
	version  int64
	position int64     // of the event
	batch    uuid.UUID // and what it came with
}

const (
	// snapshotPause is how long a hot stream's next snapshot waits at least.
	snapshotPause = 250 * time.Millisecond
	// pendingSnapshots bounds how many streams wait for theirs. One that finds no place is asked for again later.
	pendingSnapshots = 1024
)

// wantSnapshot asks for a snapshot if the stream has grown enough since its last one. w.mu is held.
func (w *Writer) wantSnapshot(stream string, k *kept, position int64, batch uuid.UUID) {
	shape := w.categories[es.CategoryOf(stream)].Shape()
	if shape == 0 || k.Version-k.snapshot < int64(w.o.SnapshotEvery) {
		return
	}
	if _, waits := w.snapshots[stream]; !waits && len(w.snapshots) >= pendingSnapshots {
		return
	}
	k.snapshot = k.Version
	w.snapshots[stream] = snapshot{shape: shape, state: k.State, version: k.Version, position: position, batch: batch}
	signal(w.snapshotSignal)
}

// takeSnapshots writes the snapshots that are wanted, beside the appends and apart from them: a snapshot that cannot be written is no
// command's concern, and the stream's next one takes its place.
func (w *Writer) takeSnapshots(ctx context.Context) error {
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-w.snapshotSignal:
		}
		w.mu.Lock()
		wanted := w.snapshots
		w.snapshots = map[string]snapshot{}
		w.mu.Unlock()
		if err := w.writeSnapshots(ctx, wanted); err != nil && ctx.Err() == nil {
			w.o.Log.Warn("snapshots could not be written; long streams take longer to read", "streams", len(wanted), "error", err)
		}
		pause.Reset(snapshotPause)
	}
}

// snapshotStatement stores snapshots. One whose event is not in the log, because the log is another by now, is not stored, and takes the place of no
// other; a later one stays, unless its event is not in the log.
const snapshotStatement = `
INSERT INTO snapshots AS s (stream, shape, version, position, batch, state)
SELECT stream, shape, version, position, batch, state::json
FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[], $5::uuid[], $6::text[]) AS new(stream, shape, version, position, batch, state)
WHERE EXISTS (SELECT FROM events e WHERE e.position = new.position AND e.batch = new.batch)
ON CONFLICT (stream, shape) DO UPDATE
SET version = excluded.version, position = excluded.position, batch = excluded.batch, state = excluded.state, taken_at = now()
WHERE excluded.version >= s.version OR NOT EXISTS (
  SELECT FROM events e WHERE e.position = s.position AND e.batch = s.batch AND e.stream = s.stream AND e.version = s.version)`

func (w *Writer) writeSnapshots(ctx context.Context, wanted map[string]snapshot) error {
	ctx, cancel := context.WithTimeout(ctx, w.o.AppendTimeout)
	defer cancel()
	var streams, states []string
	var shapes []int
	var versions, positions []int64
	var batches []uuid.UUID
	// In the order of their names: two processes that lock the rows in different orders would wait for each other.
	for _, stream := range slices.Sorted(maps.Keys(wanted)) {
		s := wanted[stream]
		state, err := json.Marshal(s.state)
		if err != nil {
			w.o.Log.Error("a state cannot be written as a snapshot", "stream", stream, "error", err)
			continue
		}
		streams, states, shapes = append(streams, stream), append(states, string(state)), append(shapes, s.shape)
		versions, positions, batches = append(versions, s.version), append(positions, s.position), append(batches, s.batch)
	}
	b := &pgx.Batch{}
	// They need not reach the disk at once: what is lost is taken again.
	b.Queue(`SELECT set_config('synchronous_commit', 'off', true)`)
	b.Queue(snapshotStatement, streams, shapes, versions, positions, batches, states)
	// The release before may still run, and reads its own; those before that are gone.
	b.Queue(`DELETE FROM snapshots s USING unnest($1::text[], $2::integer[]) AS new(stream, shape) WHERE s.stream = new.stream AND s.shape < new.shape - 1`,
		streams, shapes)
	if err := w.log.pool.SendBatch(ctx, b).Close(); err != nil {
		return err
	}
	w.metrics.snapshotsWritten.Add(float64(len(streams)))
	return nil
}
