package jetstreamlog_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"pgregory.net/rapid"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/jetstreamlog"
)

var log = es.Log{ID: "6f1c0c8e-5a7c-4a39-9a55-0a9a5ac2f6b1", Epoch: 3, Partitions: 16}

func event() es.Event {
	return es.Event{
		Position: 4711, Stream: "order-7K3M9QXZ", Version: 2, Type: "order.placed.v2",
		Data: json.RawMessage(`{"total":1250}`), Metadata: json.RawMessage(`{"actor":"guest"}`),
		OccurredAt: time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC),
		RecordedAt: time.Date(2026, 3, 4, 5, 6, 7, 123456000, time.UTC),
		Partition:  5, Ordinal: 300,
	}
}

// What lies in streams that exist must be readable for as long as they do.
func TestTheMessageOfAnEvent(t *testing.T) {
	t.Parallel()
	e := event()
	m := jetstreamlog.Encode(log, &e)
	want := &nats.Msg{
		Subject: "millrace.5.order.placed_v2",
		Header: nats.Header{
			"Millrace-Log":      {"6f1c0c8e-5a7c-4a39-9a55-0a9a5ac2f6b1 3 4711"},
			"Millrace-Stream":   {"order-7K3M9QXZ 2"},
			"Millrace-Type":     {"order.placed.v2"},
			"Millrace-Ordinal":  {"300"},
			"Millrace-Time":     {"2026-03-04T05:06:07.123456Z 2010-12-01T08:26:00Z"},
			"Millrace-Metadata": {`{"actor":"guest"}`},
		},
		Data: []byte(`{"total":1250}`),
	}
	if !same(m, want) {
		t.Errorf("got  %+v\nwant %+v", m, want)
	}
}

func same(a, b *nats.Msg) bool {
	return a.Subject == b.Subject && a.Reply == b.Reply && reflect.DeepEqual(a.Header, b.Header) && bytes.Equal(a.Data, b.Data)
}

func TestSubjects(t *testing.T) {
	t.Parallel()
	for eventType, want := range map[string]string{
		"order.placed":     "millrace.5.order.placed",
		"order.placed.v2":  "millrace.5.order.placed_v2",
		"stock":            "millrace.5.stock._",
		".":                "millrace.5._._",
		"a b.*>":           "millrace.5.a_b.__",
		"größe.geändert\n": "millrace.5.größe.geändert_",
	} {
		e := event()
		e.Type = eventType
		if got := jetstreamlog.Subject(&e); got != want {
			t.Errorf("%q is published on %q instead of %q", eventType, got, want)
		}
	}
}

// overTheWire is what arrives of a message: header values lose the white space around them.
func overTheWire(m *nats.Msg) (string, nats.Header, []byte) {
	header := nats.Header{}
	for name, values := range m.Header {
		for _, v := range values {
			header[name] = append(header[name], strings.TrimSpace(strings.NewReplacer("\r", " ", "\n", " ").Replace(v)))
		}
	}
	return m.Subject, header, m.Data
}

func TestEventsSurviveTheJourney(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		moment := rapid.Custom(func(t *rapid.T) time.Time {
			return time.UnixMicro(rapid.Int64Range(-1e15, 4e15).Draw(t, "microseconds")).UTC()
		})
		e := es.Event{
			Position: rapid.Int64Min(1).Draw(t, "position"), Stream: rapid.StringN(1, 40, -1).Draw(t, "stream"),
			Version: rapid.Int64Min(1).Draw(t, "version"), Type: rapid.StringN(1, 40, -1).Draw(t, "type"),
			Data:       json.RawMessage(rapid.SliceOfN(rapid.Byte(), 1, 100).Draw(t, "data")),
			OccurredAt: moment.Draw(t, "occurred"), RecordedAt: moment.Draw(t, "recorded"),
			Partition: rapid.IntRange(0, 255).Draw(t, "partition"), Ordinal: rapid.Int64Min(1).Draw(t, "ordinal"),
		}
		metadata, err := json.MarshalIndent(map[string]string{"actor": rapid.String().Draw(t, "actor")}, "", rapid.SampledFrom([]string{"", "\t"}).Draw(t, "indent"))
		if err != nil {
			t.Fatal(err)
		}
		e.Metadata = metadata
		want := jetstreamlog.Encode(log, &e)
		subject, header, data := overTheWire(want)
		if part := jetstreamlog.Differs(want, subject, header, data); part != "" {
			t.Fatalf("the message differs from itself in %s", part)
		}
		m, err := jetstreamlog.Decode(subject, header, data)
		if err != nil {
			t.Fatal(err)
		}
		if !m.Of(log) || m.Omitted {
			t.Fatalf("%+v is not of the log", m)
		}
		var gotMetadata, wantMetadata any
		if json.Unmarshal(m.Event.Metadata, &gotMetadata) != nil || json.Unmarshal(e.Metadata, &wantMetadata) != nil ||
			!reflect.DeepEqual(gotMetadata, wantMetadata) {
			t.Fatalf("the metadata became %s", m.Event.Metadata)
		}
		m.Event.Metadata = e.Metadata
		if !reflect.DeepEqual(m.Event, e) {
			t.Fatalf("got  %+v\nwant %+v", m.Event, e)
		}
	})
}

func TestTheMessageDependsOnNothingButWhatTheLogKeeps(t *testing.T) {
	t.Parallel()
	stored := event()
	handedOver := event()
	handedOver.OccurredAt = handedOver.OccurredAt.Add(999).In(time.FixedZone("elsewhere", 3600))
	handedOver.RecordedAt = handedOver.RecordedAt.Add(1)
	handedOver.Fact = "decoded"
	if a, b := jetstreamlog.Encode(log, &stored), jetstreamlog.Encode(log, &handedOver); !same(a, b) {
		t.Errorf("%+v\n%+v", a, b)
	}
}

func TestLargeEventsLeaveTheirDataOut(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*es.Event){
		"data":     func(e *es.Event) { e.Data = make([]byte, jetstreamlog.MaxEvent) },
		"metadata": func(e *es.Event) { e.Metadata = make([]byte, 20<<10) },
	} {
		e := event()
		change(&e)
		m := jetstreamlog.Encode(log, &e)
		size := len(m.Data)
		for name, values := range m.Header {
			size += len(name) + len(values[0])
		}
		if size > 1000 {
			t.Errorf("%s: the message has %d bytes", name, size)
		}
		got, err := jetstreamlog.Decode(m.Subject, m.Header, m.Data)
		if err != nil || !got.Omitted || got.Event.Data != nil || got.Event.Position != e.Position {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestWhatIsNoEventIsRefused(t *testing.T) {
	t.Parallel()
	e := event()
	for _, name := range []string{"Millrace-Log", "Millrace-Stream", "Millrace-Type", "Millrace-Ordinal", "Millrace-Time"} {
		for _, values := range [][]string{nil, {}, {"nonsense %zz"}, {"a", "b"}} {
			if name == "Millrace-Type" && len(values) == 1 {
				values = []string{"%zz"}
			}
			m := jetstreamlog.Encode(log, &e)
			m.Header[name] = values
			if _, err := jetstreamlog.Decode(m.Subject, m.Header, m.Data); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("%s = %q: %v", name, values, err)
			}
		}
	}
	m := jetstreamlog.Encode(log, &e)
	if _, err := jetstreamlog.Decode("millrace.x.order.placed", m.Header, m.Data); err == nil {
		t.Error("a partition that is no number is accepted")
	}
}

func TestDiffers(t *testing.T) {
	t.Parallel()
	e := event()
	want := jetstreamlog.Encode(log, &e)
	for part, change := range map[string]func(*es.Event){
		"subject":           func(e *es.Event) { e.Partition++ },
		"Millrace-Log":      func(e *es.Event) { e.Position++ },
		"Millrace-Stream":   func(e *es.Event) { e.Version++ },
		"Millrace-Ordinal":  func(e *es.Event) { e.Ordinal++ },
		"Millrace-Time":     func(e *es.Event) { e.RecordedAt = e.RecordedAt.Add(time.Second) },
		"Millrace-Metadata": func(e *es.Event) { e.Metadata = nil },
		"data":              func(e *es.Event) { e.Data = json.RawMessage(`{}`) },
	} {
		other := event()
		change(&other)
		m := jetstreamlog.Encode(log, &other)
		m.Header["Nats-Expected-Last-Sequence"] = []string{"7"}
		if got := jetstreamlog.Differs(want, m.Subject, m.Header, m.Data); got != part {
			t.Errorf("a difference in %s is found in %q", part, got)
		}
	}
	own := http.Header(want.Header).Clone()
	own.Set("Nats-Expected-Stream", "S")
	if got := jetstreamlog.Differs(want, want.Subject, nats.Header(own), want.Data); got != "" {
		t.Errorf("NATS's own headers count: %s", got)
	}
}
