package postgres

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
)

// scanEvent reads a row of eventColumns. Rebuilds read the whole log through it, so it takes the values as they come over
// the wire: whole numbers and times in binary, texts and JSON as they are.
func (l *Log) scanEvent(rows pgx.Rows, e *es.Event) error {
	raw := rows.RawValues()
	for i, field := range rows.FieldDescriptions()[:len(eventWidths)] {
		if width := eventWidths[i]; width > 0 && (field.Format != pgx.BinaryFormatCode || len(raw[i]) != width) {
			return fmt.Errorf("postgres: column %s came as %d bytes in format %d", field.Name, len(raw[i]), field.Format)
		}
	}
	e.Position = int64At(raw[0])
	e.Stream = string(raw[1])
	e.Version = int64At(raw[2])
	e.Type = l.codec.Name(raw[3])
	// One allocation holds both texts; what the driver reads next overwrites raw.
	texts := make([]byte, len(raw[4])+len(raw[5]))
	n := copy(texts, raw[4])
	copy(texts[n:], raw[5])
	e.Data, e.Metadata = texts[:n:n], texts[n:]
	e.OccurredAt, e.RecordedAt = timeAt(raw[6]), timeAt(raw[7])
	e.Partition = int(int16(binary.BigEndian.Uint16(raw[8])))
	e.Ordinal = int64At(raw[9])
	return nil
}

// eventWidths are the bytes of the eventColumns that come in binary; 0 for texts.
var eventWidths = [...]int{8, 0, 8, 0, 0, 0, 8, 8, 2, 8}

// year2000 is when PostgreSQL's times begin, in microseconds since 1970.
const year2000 = 946_684_800_000_000

func int64At(b []byte) int64 { return int64(binary.BigEndian.Uint64(b)) }

// timeAt reads a timestamptz: microseconds since the year 2000, as PostgreSQL's timestamptz_send writes it.
func timeAt(b []byte) time.Time {
	return time.UnixMicro(int64At(b) + year2000).UTC()
}
