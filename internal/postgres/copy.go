package postgres

import (
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"
)

// copyFrom is from how many rows on a batch is copied rather than inserted. PostgreSQL then puts the rows of a page into it at once: with 64 rows an append
// takes it three quarters of the time, with 8 as long, and with one, by the second statement, half as long again.
const copyFrom = 16

// copyMost is up to how many bytes it is copied: it has the append's lock while they are on their way, which an insertion takes when all are there.
const copyMost = 1 << 20

// copying are the statements that append the rows by copying them.
func (b *batch) copying() []statement {
	admit := statement{sql: admitCopy, args: []any{b.head, b.headBatch}}
	if len(b.presumed) > 0 {
		begins, elsewhere := b.presumptions()
		admit.sql, admit.args = admitPresuming, append(admit.args, len(b.rows.stream), begins, elsewhere)
	}
	return []statement{admit, {sql: copyStatement, data: b.copied(), writes: true}}
}

// copySize is how many bytes the rows are when they are copied, roughly.
func (r *eventRows) copySize() int {
	const frame, fixed = 32, 2 + 11*4 + 6*8 + 2 + 16
	size := frame
	for i := range r.stream {
		size += fixed + len(r.stream[i]) + len(r.typ[i]) + len(r.data[i]) + len(r.metadata[i])
	}
	return size
}

// copied returns the rows in COPY's binary format: https://www.postgresql.org/docs/15/sql-copy.html
func (b *batch) copied() []byte {
	const columns = 11
	r := &b.rows
	d := copyData(make([]byte, 0, r.copySize()))
	d = append(d, "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	for i := range r.stream {
		d = binary.BigEndian.AppendUint16(d, columns)
		d.number(b.head + int64(i) + 1)
		d.text(r.stream[i])
		d.number(r.version[i])
		d.text(r.typ[i])
		d.text(r.data[i])
		d.text(r.metadata[i])
		d.time(r.occurredAt[i])
		d.time(r.recordedAt)
		d = binary.BigEndian.AppendUint32(d, 2)
		d = binary.BigEndian.AppendUint16(d, uint16(r.partition[i]))
		d.number(r.ordinal[i])
		d.text(string(b.id[:]))
	}
	return binary.BigEndian.AppendUint16(d, 0xffff)
}

// copyData is what is copied, field by field: its length and its bytes.
type copyData []byte

func (d *copyData) number(n int64) {
	*d = binary.BigEndian.AppendUint32(*d, 8)
	*d = binary.BigEndian.AppendUint64(*d, uint64(n))
}

func (d *copyData) text(s string) {
	*d = binary.BigEndian.AppendUint32(*d, uint32(len(s)))
	*d = append(*d, s...)
}

// time appends a timestamptz, which [timeAt] reads.
func (d *copyData) time(t time.Time) { d.number(t.UnixMicro() - year2000) }

// copyRecords records keys in a transaction that copies events, where these have been admitted.
var copyRecords = `COPY idempotency (key, request, streams, position) FROM STDIN WHERE ` + admitted

// copyingRecords are [Writer.recordStatements] for a batch that is copied.
func (w *Writer) copyingRecords(b *batch) []statement {
	if len(b.keys) < copyFrom {
		return w.recordStatements(b)
	}
	return append(w.makingRoom(b), statement{sql: copyRecords, data: b.copiedRecords(), writes: true})
}

// copiedRecords returns the records in COPY's text format.
func (b *batch) copiedRecords() []byte {
	const fixed = 160
	d := make([]byte, 0, len(b.keys)*fixed)
	for i := range b.keys {
		k := &b.keys[i]
		d = hex.AppendEncode(append(d, `\\x`...), k.key[:])
		d = hex.AppendEncode(append(d, "\t"+`\\x`...), k.record.request[:])
		d = append(append(append(d, '\t'), textField.Replace(k.record.streams)...), '\t')
		d = append(strconv.AppendInt(d, k.record.position, 10), '\n')
	}
	return d
}

// textField writes what stands between two tabs.
var textField = strings.NewReplacer(`\`, `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`)
