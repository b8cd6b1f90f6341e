package postgres

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/migrations"
)

// ways are those to append.
var ways = map[string]func(*batch) []statement{"inserted": (*batch).inserting, "copied": (*batch).copying}

// senders are those who send statements, over a connection of theirs.
var senders = map[string]func(*bundle, *testing.T) sender{" in a pipeline": (*bundle).pipeline, " in a turn": (*bundle).exchange}

type sender func([]statement) (written int64, err error)

func (b *bundle) pipeline(t *testing.T) sender {
	p := newPipeline(b.pool)
	t.Cleanup(p.close)
	return func(statements []statement) (int64, error) {
		a := p.send(t.Context(), statements, time.Minute)
		<-a.answered
		return a.written, a.err
	}
}

func (b *bundle) exchange(t *testing.T) sender {
	conn := connect(t, b.env.DatabaseURL)
	return func(statements []statement) (written int64, err error) {
		return written, conn.AcquireFunc(t.Context(), func(c *pgxpool.Conn) error {
			written, err = exchange(t.Context(), c.Conn(), statements)
			return err
		})
	}
}

// rowsAt returns a batch of rows behind a head, which is 0 or the first event, of the stream "begun": each the first of a stream of its own.
func (b *bundle) rowsAt(head int64, headBatch uuid.UUID, streams ...string) *batch {
	rows, ordinals := &batch{id: uuid.New(), head: head, headBatch: headBatch}, map[int]int64{}
	if head > 0 {
		ordinals[es.PartitionOf("begun", b.log.info.Partitions)] = 1
	}
	rows.rows.recordedAt = time.Now()
	for _, stream := range streams {
		r, partition := &rows.rows, es.PartitionOf(stream, b.log.info.Partitions)
		ordinals[partition]++
		r.stream, r.version, r.typ = append(r.stream, stream), append(r.version, 1), append(r.typ, "units.put")
		r.data, r.metadata, r.occurredAt = append(r.data, `{"N":1}`), append(r.metadata, `{}`), append(r.occurredAt, time.Now())
		r.partition, r.ordinal = append(r.partition, int16(partition)), append(r.ordinal, ordinals[partition])
	}
	return rows
}

// write writes what the server may refuse.
func (send sender) write(t *testing.T, statements []statement) (int64, error) {
	t.Helper()
	written, err := send(statements)
	if err != nil { // the connection is as good as before
		if _, refused := errors.AsType[*pgconn.PgError](err); !refused {
			t.Fatal(err)
		}
		if n, err := send((&batch{head: -1}).copying()); n != 0 || err != nil {
			t.Fatalf("afterwards: %d rows, %v", n, err)
		}
	}
	return written, err
}

// What is copied stands in the log like what is inserted.
func TestRowsAreCopiedAsTheyAreInserted(t *testing.T) {
	t.Parallel()
	fill := func(b *batch) {
		r := &b.rows
		for i, moment := range []time.Time{
			{}, time.Unix(0, 0), time.Date(1999, 12, 31, 23, 59, 59, 999_999_999, time.FixedZone("", 7200)), time.Date(2026, 2, 28, 1, 2, 3, 456_789_012, time.UTC),
			time.Date(9999, 1, 1, 0, 0, 0, 1000, time.UTC),
		} {
			for _, text := range []string{"", "a", "ümlaut %_'\"\\N\t\r\n\x01", strings.Repeat("long ", 5000)} {
				encoded, err := json.Marshal(map[string]string{"text": text})
				if err != nil {
					t.Fatal(err)
				}
				r.stream, r.version, r.typ = append(r.stream, text), append(r.version, int64(len(r.stream))<<i), append(r.typ, "units."+text)
				r.data, r.metadata = append(r.data, " "+string(encoded)+"\n"), append(r.metadata, `{"a":  1, "a":2}`)
				r.occurredAt = append(r.occurredAt, moment)
				r.partition, r.ordinal = append(r.partition, int16(len(r.stream))), append(r.ordinal, int64(len(r.stream))<<(8*i))
			}
		}
		r.recordedAt = time.Date(2026, 11, 28, 9, 0, 0, 123_456_789, time.UTC)
	}
	found := map[string][]string{}
	for name, way := range ways {
		for by, sender := range senders {
			how := name + by
			b := setup(t)
			rows := b.rowsAt(0, uuid.Nil)
			fill(rows)
			if n, err := sender(b, t).write(t, way(rows)); err != nil || n != int64(len(rows.rows.stream)) {
				t.Fatalf("%s: %d rows of %d: %v", how, n, len(rows.rows.stream), err)
			}
			stored, err := b.pool.Query(t.Context(), `SELECT row(position, stream, version, type, data, metadata, occurred_at, recorded_at, partition, ordinal, batch = $1)::text
				FROM events ORDER BY position`, rows.id)
			if err != nil {
				t.Fatal(err)
			}
			if found[how], err = pgx.CollectRows(stored, pgx.RowTo[string]); err != nil {
				t.Fatal(err)
			}
			for _, row := range found[how] {
				if !strings.HasSuffix(row, ",t)") {
					t.Errorf("%s: not of its batch: %.200s", how, row)
				}
			}
		}
	}
	for how, rows := range found {
		if inserted := found["inserted in a pipeline"]; !slices.Equal(rows, inserted) {
			t.Errorf("inserted: %.3000q\n%s: %.3000q", inserted, how, rows)
		}
	}
}

// presume has the batch take streams for new: those that it begins, and others.
func (b *batch) presume(streams ...string) {
	b.changed = map[string]changed{}
	for _, s := range b.rows.stream {
		b.changed[s] = changed{Versioned: es.Versioned{Version: 1}}
	}
	b.presumed = streams
}

// A copy appends all its rows or none, where an insertion would.
func TestRowsAreCopiedWhereTheyWouldBeInserted(t *testing.T) {
	t.Parallel()
	three := []string{"a", "b", "c"}
	many := func(n int) (streams []string) {
		for i := range n {
			streams = append(streams, fmt.Sprint("stream-", i))
		}
		return streams
	}
	for name, c := range map[string]struct {
		streams []string
		change  func(b *batch)
		held    bool // somebody else has the lock
		written int64
		code    string
	}{
		"at the head":                     {streams: three, written: 3},
		"over the ends of ranges":         {streams: many(25), written: 25},
		"beyond the ranges":               {streams: many(200), code: checkViolation},
		"behind another batch":            {streams: three, change: func(b *batch) { b.headBatch = uuid.New() }},
		"behind what is not there":        {streams: three, change: func(b *batch) { b.head++ }},
		"not in their turn":               {streams: three, held: true},
		"where something stands":          {streams: three, change: func(b *batch) { b.head, b.headBatch = 0, uuid.Nil }, code: uniqueViolation},
		"new streams":                     {streams: three, change: func(b *batch) { b.presume("b", "else") }, written: 3},
		"a stream that has begun":         {streams: three, change: func(b *batch) { b.presume("b", "begun") }},
		"a stream that they begin twice":  {streams: []string{"a", "b", "b"}, change: func(b *batch) { b.presume("b") }, code: uniqueViolation},
		"a stream that another has begun": {streams: []string{"a", "begun"}, change: func(b *batch) { b.presume("begun") }, code: uniqueViolation},
		"what is no text":                 {streams: three, change: func(b *batch) { b.rows.typ[2] = "\x00" }, code: "22021"},
		"what is no JSON":                 {streams: three, change: func(b *batch) { b.rows.data[2] = "{" }, code: "22P02"},
	} {
		for how, way := range ways {
			for by, sender := range senders {
				t.Run(name+" "+how+by, func(t *testing.T) {
					t.Parallel()
					b := setup(t, stacktest.WithSettings(migrations.Settings{Currency: "GBP", TimeZone: "Europe/London", RangeSize: 20}))
					first := b.rowsAt(0, uuid.Nil, "begun")
					if _, err := b.exchange(t).write(t, first.inserting()); err != nil {
						t.Fatal(err)
					}
					if _, err := b.pool.Exec(t.Context(), `SELECT add_event_range()`); err != nil {
						t.Fatal(err)
					}
					rows := b.rowsAt(1, first.id, c.streams...)
					if c.change != nil {
						c.change(rows)
					}
					if c.held {
						holder, err := b.pool.Acquire(t.Context())
						if err != nil {
							t.Fatal(err)
						}
						defer holder.Release()
						if _, err := holder.Exec(t.Context(), `SELECT pg_advisory_lock(`+appendLock+`)`); err != nil {
							t.Fatal(err)
						}
						defer func() {
							if _, err := holder.Exec(t.Context(), `SELECT pg_advisory_unlock(`+appendLock+`)`); err != nil {
								t.Error(err)
							}
						}()
					}
					n, err := sender(b, t).write(t, way(rows))
					pgErr := new(pgconn.PgError)
					if _ = errors.As(err, &pgErr); n != c.written || pgErr.Code != c.code {
						t.Errorf("%d rows, %v; want %d, %q", n, err, c.written, c.code)
					}
					if events := b.readWhole(t); int64(len(events)) != 1+c.written {
						t.Errorf("the log has %d events", len(events))
					}
				})
			}
		}
	}
}

// The keys of a batch that is copied are recorded like those of one that is inserted: with its events, or not at all.
func TestRecordsAreCopiedAsTheyAreInserted(t *testing.T) {
	t.Parallel()
	w := &Writer{types: pgtype.NewMap()}
	ways := map[string]func(*batch) []statement{
		"inserted": func(b *batch) []statement { return append(b.inserting(), w.recordStatements(b)...) },
		"copied":   func(b *batch) []statement { return append(b.copying(), w.copyingRecords(b)...) },
	}
	streams := [][]string{nil, {""}, {"units-a"}, {"units-a", "b c", `"q" \ {,}`}, {"tab\there", "line\nand\r\n", "\\N", "ümlaut"}}
	for len(streams) < copyFrom {
		streams = append(streams, []string{fmt.Sprint("units-", len(streams))})
	}
	keyed := func(rows *batch) *batch {
		for i, s := range streams {
			k := keyRow{record: keyRecord{request: sha256.Sum256([]byte{byte(i), 1}), streams: w.arrayText(s), position: rows.head + 1}}
			k.key = sha256.Sum256([]byte{byte(i)})
			rows.keys = append(rows.keys, k)
		}
		return rows
	}
	found := map[string][]string{}
	for name, way := range ways {
		for by, sender := range senders {
			how := name + by
			b := setup(t)
			send := sender(b, t)
			recorded := func() (records []string) {
				t.Helper()
				rows, err := b.pool.Query(t.Context(), `SELECT row(key, request, streams, position)::text FROM idempotency WHERE created_at <= clock_timestamp() ORDER BY key`)
				if err != nil {
					t.Fatal(err)
				}
				if records, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
					t.Fatal(err)
				}
				return records
			}
			if n, err := send.write(t, way(keyed(b.rowsAt(7, uuid.New(), "a")))); err != nil || n != 0 || len(recorded()) != 0 {
				t.Errorf("%s behind what is not there: %d rows, %v, %d keys", how, n, err, len(recorded()))
			}
			rows := keyed(b.rowsAt(0, uuid.Nil, "begun"))
			if n, err := send.write(t, way(rows)); err != nil || n != int64(1+len(streams)) {
				t.Fatalf("%s: %d rows: %v", how, n, err)
			}
			found[how] = recorded()
			_, err := send.write(t, way(keyed(b.rowsAt(1, rows.id, "a"))))
			pgErr := new(pgconn.PgError)
			if _ = errors.As(err, &pgErr); pgErr.Code != uniqueViolation || pgErr.ConstraintName != "idempotency_pkey" {
				t.Errorf("%s, of keys that were used: %v", how, err)
			}
			if events := b.readWhole(t); len(events) != 1 {
				t.Errorf("%s: the log has %d events", how, len(events))
			}
		}
	}
	for how, records := range found {
		if inserted := found["inserted in a pipeline"]; len(records) != len(streams) || !slices.Equal(records, inserted) {
			t.Errorf("inserted: %q\n%s: %q", inserted, how, records)
		}
	}
}
