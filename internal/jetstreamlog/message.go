package jetstreamlog

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/millrace/millrace/internal/es"
)

// Subjects is where the events are published: millrace.<partition>.<module>.<event>.
const Subjects = subjectPrefix + ">"

const subjectPrefix = "millrace."

// The headers of a message, beside those with which NATS itself is told what to expect. They are few and short:
// NATS copies, stores and searches them with every message.
const (
	headerLog      = "Millrace-Log"      // "<log id> <epoch> <position>"
	headerStream   = "Millrace-Stream"   // "<stream> <version>"
	headerType     = "Millrace-Type"     // "<type>"
	headerOrdinal  = "Millrace-Ordinal"  // "<ordinal within the partition that the subject names>"
	headerTime     = "Millrace-Time"     // "<recorded at> <occurred at>", or once where both are the same; RFC 3339, UTC
	headerMetadata = "Millrace-Metadata" // JSON
	headerOmitted  = "Millrace-Omitted"  // "data": see MaxEvent
)

// MaxEvent is the size of data and metadata, in bytes, up to which a message carries its event whole. A larger
// event takes its place in the stream without them: servers refuse messages above a megabyte by default, and one
// such event must not end the copy for all that follow. It is part of the format.
const MaxEvent = 512 << 10

// maxMetadata bounds the metadata alone, because a server refuses headers above 64 KiB.
const maxMetadata = 16 << 10

// Subject returns the subject of an event. "order.placed" becomes the tokens order and placed,
// "order.placed.v2" order and placed_v2.
func Subject(e *es.Event) string {
	module, event, _ := strings.Cut(e.Type, ".")
	return subjectPrefix + strconv.Itoa(e.Partition) + "." + token(module) + "." + token(event)
}

// token makes one token of a subject out of a name.
func token(name string) string {
	if name == "" {
		return "_"
	}
	return strings.Map(func(r rune) rune {
		if r == '.' || r == '*' || r == '>' || r <= ' ' || r == 0x7f {
			return '_'
		}
		return r
	}, name)
}

// Encode returns the message of an event of a log.
func Encode(log es.Log, e *es.Event) *nats.Msg {
	const headers = 6
	// Two more are the sender's, to say what it expects.
	m := &nats.Msg{Subject: Subject(e), Header: make(nats.Header, headers+2)}
	values := make([]string, 0, headers)
	set := func(name, value string) {
		values = append(values, value)
		m.Header[name] = values[len(values)-1 : len(values) : len(values)]
	}
	set(headerLog, log.ID+" "+strconv.Itoa(log.Epoch)+" "+strconv.FormatInt(e.Position, 10))
	set(headerStream, escape(e.Stream)+" "+strconv.FormatInt(e.Version, 10))
	set(headerType, escape(e.Type))
	set(headerOrdinal, strconv.FormatInt(e.Ordinal, 10))
	set(headerTime, formatTimes(e.RecordedAt, e.OccurredAt))
	if len(e.Data)+len(e.Metadata) > MaxEvent || len(e.Metadata) > maxMetadata {
		set(headerOmitted, "data")
		return m
	}
	if len(e.Metadata) > 0 {
		set(headerMetadata, oneLine(e.Metadata))
	}
	m.Data = e.Data
	return m
}

func formatTimes(recorded, occurred time.Time) string {
	recorded, occurred = recorded.UTC().Truncate(time.Microsecond), occurred.UTC().Truncate(time.Microsecond)
	b := recorded.AppendFormat(make([]byte, 0, 2*len(time.RFC3339Nano)+1), time.RFC3339Nano)
	if !occurred.Equal(recorded) {
		b = occurred.AppendFormat(append(b, ' '), time.RFC3339Nano)
	}
	return string(b)
}

// escape makes a name fit for a header. Names that are plain already, nearly all, stay readable.
func escape(name string) string {
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c > '~' || c == '%' {
			return url.PathEscape(name)
		}
	}
	return name
}

// oneLine writes JSON without the line breaks that a header cannot hold.
func oneLine(doc json.RawMessage) string {
	if !bytes.ContainsAny(doc, "\r\n") {
		return string(bytes.TrimSpace(doc))
	}
	var b bytes.Buffer
	if err := json.Compact(&b, doc); err != nil {
		return "{}" // the log's column accepts nothing but JSON
	}
	return b.String()
}

// Message is an event as it was found in JetStream.
type Message struct {
	Event es.Event
	// LogID and Epoch name the log that the event belongs to.
	LogID string
	Epoch int
	// Omitted says that the event was too large for a message: its data and metadata are in the log only.
	Omitted bool
}

// Of reports whether the message belongs to the log in its present epoch.
func (m *Message) Of(log es.Log) bool { return m.LogID == log.ID && m.Epoch == log.Epoch }

// Decode reads a message. The event's data is shared with the message and not decoded into a fact.
func Decode(subject string, header nats.Header, data []byte) (*Message, error) {
	d := decoder{header: header}
	partition, _, _ := strings.Cut(strings.TrimPrefix(subject, subjectPrefix), ".")
	id, place, _ := strings.Cut(d.text(headerLog), " ")
	epoch, position, _ := strings.Cut(place, " ")
	stream, version, _ := strings.Cut(d.text(headerStream), " ")
	recorded, occurred, different := strings.Cut(d.text(headerTime), " ")
	m := &Message{
		LogID: id,
		Epoch: int(d.number(headerLog, epoch)),
		Event: es.Event{
			Position:   d.number(headerLog, position),
			Stream:     d.name(headerStream, stream),
			Version:    d.number(headerStream, version),
			Type:       d.name(headerType, d.text(headerType)),
			Data:       data,
			RecordedAt: d.time(headerTime, recorded),
			Partition:  int(d.number("the subject's partition", partition)),
			Ordinal:    d.number(headerOrdinal, d.text(headerOrdinal)),
		},
	}
	m.Event.OccurredAt = m.Event.RecordedAt
	if different {
		m.Event.OccurredAt = d.time(headerTime, occurred)
	}
	if _, m.Omitted = header[headerOmitted]; m.Omitted {
		m.Event.Data = nil
	}
	if metadata := header[headerMetadata]; len(metadata) == 1 {
		m.Event.Metadata = json.RawMessage(metadata[0])
	}
	if d.err != nil {
		return nil, fmt.Errorf("jetstreamlog: a message on %s is not an event: %w", subject, d.err)
	}
	return m, nil
}

// decoder reads headers and keeps the first error.
type decoder struct {
	header nats.Header
	err    error
}

func (d *decoder) fail(name string, err error) {
	if d.err == nil {
		d.err = fmt.Errorf("%s: %w", name, err)
	}
}

func (d *decoder) text(name string) string {
	values := d.header[name]
	if len(values) != 1 {
		d.fail(name, fmt.Errorf("found %d times instead of once", len(values)))
		return ""
	}
	return values[0]
}

func (d *decoder) name(header, escaped string) string {
	s, err := url.PathUnescape(escaped)
	if err != nil {
		d.fail(header, err)
	}
	return s
}

func (d *decoder) number(header, digits string) int64 {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		d.fail(header, err)
	}
	return n
}

func (d *decoder) time(header, text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		d.fail(header, err)
	}
	return t.UTC()
}

// Differs says in which part a stored message differs from the message that its event gives, or "" where they
// are the same. The headers that NATS adds or is told by do not count.
func Differs(want *nats.Msg, subject string, header nats.Header, data []byte) string {
	if subject != want.Subject {
		return "subject"
	}
	for name, values := range want.Header {
		if !strings.HasPrefix(name, "Millrace-") {
			continue
		}
		if got := header[name]; len(got) != 1 || got[0] != values[0] {
			return name
		}
	}
	if !bytes.Equal(data, want.Data) {
		return "data"
	}
	return ""
}
