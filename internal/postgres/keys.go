package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/millrace/millrace/internal/es"
)

// keyRecord is what is stored with a used idempotency key.
type keyRecord struct {
	request es.Hash
	// streams is an array as PostgreSQL writes it. There may be hundreds of thousands of records in memory, and the garbage collector follows each pointer in them.
	streams  string
	position int64
	// until is when the record has to be looked up again: it is kept at least until then. Afterwards the key may be anybody's.
	until time.Time
}

// unusedKey is what is known of a key that nobody has used.
type unusedKey struct {
	position int64 // as of which it had not been used
	// expired says that there was a record, too old to count, which has to go first.
	expired bool
}

// keyRow is a record to be written.
type keyRow struct {
	key     es.Hash
	record  keyRecord
	expired bool
}

// foundKeys are the records of some keys, and those keys whose records are too old to count.
type foundKeys struct {
	records map[es.Hash]keyRecord
	expired map[es.Hash]bool
}

// The age of a record is always told by the server's clock, here and where an old one makes room.
const keysQuery = `SELECT key, request, streams::text, position, extract(epoch FROM now() - created_at)::float8 FROM idempotency WHERE key = ANY ($1)`

// queueKeys adds the reading of keys to a batch that is sent next.
func (w *Writer) queueKeys(b *pgx.Batch, keys []es.Hash) *foundKeys {
	f := &foundKeys{records: map[es.Hash]keyRecord{}, expired: map[es.Hash]bool{}}
	began := time.Now() // before the server looks at its clock
	b.Queue(keysQuery, asBytes(keys)).Query(func(rows pgx.Rows) error {
		var key, request []byte
		var k keyRecord
		var age float64
		_, err := pgx.ForEachRow(rows, []any{&key, &request, &k.streams, &k.position, &age}, func() error {
			k.request = es.Hash{}
			copy(k.request[:], request) // what is no hash is no request that anybody makes: a conflict
			if left := w.o.KeepKeys - time.Duration(age*float64(time.Second)); left > 0 {
				k.until = began.Add(left)
				f.records[es.Hash(key)] = k
			} else {
				f.expired[es.Hash(key)] = true
			}
			return nil
		})
		return err
	})
	return f
}

// recordKeys records keys as used. A record is as old as the statement, not as its transaction, which may have waited in line: what this process
// remembers of a key must not outlive the record. Each key's streams come as the text of an array: arrays of arrays would have to have one length.
const recordKeys = `
INSERT INTO idempotency (key, request, streams, position)
SELECT key, request, streams::text[], position
FROM unnest($1::bytea[], $2::bytea[], $3::text[], $4::bigint[]) AS used(key, request, streams, position)
WHERE `

const (
	// recordWithEvents records keys if the batch's first event is in the log.
	recordWithEvents = recordKeys + `EXISTS (SELECT FROM events WHERE position = $5 AND batch = $6)`
	// recordAtHead records keys if the log ended at the batch's head when the statement began. A rival that commits before it has the lock comes after the batch,
	// which appends nothing; a rival's use of a key is refused by the primary key, as always.
	recordAtHead = recordKeys + lockHeld + ` AND NOT EXISTS (SELECT FROM events WHERE position > $5)
  AND ($5 = 0 OR EXISTS (SELECT FROM events WHERE position = $5 AND batch = $6))`
	// makeRoomForKeys removes records that are too old, with the lock, as they are written with it: two transactions never wait for each other.
	makeRoomForKeys = `DELETE FROM idempotency WHERE ` + lockHeld + ` AND key = ANY ($1) AND created_at <= now() - $2::interval`
)

// recordStatements are those that write the batch's records in the transaction that appends its events. If it has none, the records are written
// where the log still ends at its head. All of them are written, or none.
func (w *Writer) recordStatements(b *batch) []statement {
	if len(b.keys) == 0 {
		return nil
	}
	n := len(b.keys)
	keys, requests, streams, positions := make([][]byte, n), make([][]byte, n), make([]string, n), make([]int64, n)
	for i := range b.keys {
		k := &b.keys[i]
		keys[i], requests[i], streams[i], positions[i] = k.key[:], k.record.request[:], k.record.streams, k.record.position
	}
	record := statement{sql: recordWithEvents, args: []any{keys, requests, streams, positions, b.head + 1, b.id}, writes: true}
	if len(b.rows.stream) == 0 {
		record.sql, record.args = recordAtHead, []any{keys, requests, streams, positions, b.head, b.headBatch}
	}
	return append(w.makingRoom(b), record)
}

// makingRoom is the statement that removes old records of the batch's keys, none if there are none.
func (w *Writer) makingRoom(b *batch) []statement {
	var expired [][]byte
	for i := range b.keys {
		if k := &b.keys[i]; k.expired {
			expired = append(expired, k.key[:])
		}
	}
	if len(expired) == 0 {
		return nil
	}
	return []statement{{sql: makeRoomForKeys, args: []any{expired, w.o.KeepKeys}}}
}

// arrayText returns the strings as PostgreSQL writes an array. w.mu is held.
func (w *Writer) arrayText(s []string) string {
	text, err := w.types.Encode(pgtype.TextArrayOID, pgtype.TextFormatCode, append([]string{}, s...), nil)
	if err != nil {
		panic(err) // strings always have an encoding
	}
	return string(text)
}

// fromArrayText returns the strings of an [Writer.arrayText], nil for what is none: whoever expects streams misses them. w.mu is held.
func (w *Writer) fromArrayText(text string) (s []string) {
	if err := w.types.Scan(pgtype.TextArrayOID, pgtype.TextFormatCode, []byte(text), &s); err != nil {
		return nil
	}
	return s
}

// asBytes returns the hashes as PostgreSQL takes them.
func asBytes(hashes []es.Hash) [][]byte {
	b := make([][]byte, len(hashes))
	for i := range hashes {
		b[i] = hashes[i][:]
	}
	return b
}

// learn takes in what was found of a key at a position, and returns whether it had been used.
func (s *states) learn(key es.Hash, f *foundKeys, position int64) (used bool) {
	if record, used := f.records[key]; used {
		s.use(key, record)
		return true
	}
	if _, used := s.usedKey(key); used {
		return false // but since then, here
	}
	s.used.Remove(key)
	s.unused.Add(key, unusedKey{position: position, expired: f.expired[key]})
	return false
}

// usedKey returns the record of a key that is known to have been used, as long as it is known to be kept.
func (s *states) usedKey(key es.Hash) (keyRecord, bool) {
	record, ok := s.used.Get(key)
	return record, ok && time.Now().Before(record.until)
}

// knowsKey reports whether it is known if the key has been used.
func (s *states) knowsKey(key es.Hash) bool {
	if s.unused.Contains(key) {
		return true
	}
	_, used := s.usedKey(key)
	return used
}

// use records that a key has been used.
func (s *states) use(key es.Hash, record keyRecord) {
	s.unused.Remove(key)
	s.used.Add(key, record)
}

const (
	// cleanBatch is how many records are removed at a time.
	cleanBatch = 500
	// cleanPause lets others at the disk between two batches.
	cleanPause = 20 * time.Millisecond
)

// cleanStatement removes the oldest records that are too old, except those that another process is removing: nobody waits for it, and it
// waits for nobody.
const cleanStatement = `DELETE FROM idempotency WHERE key = ANY (ARRAY (
	SELECT key FROM idempotency WHERE created_at <= now() - $1::interval ORDER BY created_at LIMIT $2 FOR UPDATE SKIP LOCKED))`

// cleanKeys removes records that are too old until ctx ends. It may run in any number of processes.
func (w *Writer) cleanKeys(ctx context.Context) error {
	tick := time.NewTicker(w.o.CleanKeysEvery)
	defer tick.Stop()
	failing := false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		err := w.cleanOnce(ctx)
		if err != nil && ctx.Err() == nil && !failing {
			w.o.Log.Warn("old idempotency keys could not be removed; trying again", "every", w.o.CleanKeysEvery, "error", err)
		}
		failing = err != nil
	}
}

// cleanOnce removes, a batch after the other, what is too old now.
func (w *Writer) cleanOnce(ctx context.Context) error {
	for removed := int64(cleanBatch); removed == cleanBatch; {
		tag, err := w.log.pool.Exec(ctx, cleanStatement, w.o.KeepKeys, cleanBatch)
		if err != nil {
			return fmt.Errorf("postgres: removing old idempotency keys: %w", err)
		}
		removed = tag.RowsAffected()
		w.metrics.forgotten.Add(float64(removed))
		if removed == cleanBatch {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(cleanPause):
			}
		}
	}
	var age float64
	if err := w.log.pool.QueryRow(ctx, `SELECT coalesce(extract(epoch FROM now() - min(created_at)), 0)::float8 FROM idempotency`).Scan(&age); err != nil {
		return fmt.Errorf("postgres: reading the age of the oldest idempotency key: %w", err)
	}
	w.metrics.oldest.Set(age)
	return nil
}

// keyMetrics are about idempotency keys.
type keyMetrics struct {
	repeated, conflicts, forgotten prometheus.Counter
	oldest                         prometheus.Gauge
}

func newKeyMetrics(r prometheus.Registerer) keyMetrics {
	with := promauto.With(r)
	return keyMetrics{
		repeated: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_idempotency_repeated_total", Help: "Commands that were answered as before, since their idempotency key had been used for them.",
		}),
		conflicts: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_idempotency_conflicts_total", Help: "Commands that were refused since their idempotency key had been used for something else.",
		}),
		forgotten: with.NewCounter(prometheus.CounterOpts{
			Name: "millrace_idempotency_forgotten_total", Help: "Records of idempotency keys that this process removed since they were too old.",
		}),
		oldest: with.NewGauge(prometheus.GaugeOpts{
			Name: "millrace_idempotency_oldest_seconds", Help: "Age of the oldest record of an idempotency key.",
		}),
	}
}

// told counts what a command was told about its key.
func (m keyMetrics) told(v verdict) {
	if _, conflict := errors.AsType[*es.IdempotencyConflictError](v.err); conflict {
		m.conflicts.Inc()
	} else if v.err == nil && v.outcome.Replayed {
		m.repeated.Inc()
	}
}
