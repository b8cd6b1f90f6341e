// Package logtest gives tests a log in a real Postgres, events to put into it, and a look at its copy in a real
// JetStream.
package logtest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/jetstreamlog"
	"github.com/millrace/millrace/internal/postgres"
)

// Noted is the one event that the codec of these logs knows.
type Noted struct {
	Number int64  `json:"number"`
	Text   string `json:"text"`
}

// EventType is the stored name.
func (Noted) EventType() string { return "note.taken" }

// Codec knows [Noted].
func Codec() *es.Codec { return es.NewCodec(Noted{}) }

// Log is a log that the test writes, as the only one to do so.
type Log struct {
	*postgres.Log
	Pool *pgxpool.Pool

	head     int64
	last     time.Time
	versions map[string]int64
	ordinals map[int]int64
}

// Open opens the log of a database, which closes with the test.
func Open(t testing.TB, databaseURL string) *Log {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), databaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	log, err := postgres.OpenLog(t.Context(), pool, Codec())
	if err != nil {
		t.Fatal(err)
	}
	l := &Log{Log: log, Pool: pool, versions: map[string]int64{}, ordinals: map[int]int64{}}
	l.resume(t)
	return l
}

// resume learns what the log holds already.
func (l *Log) resume(t testing.TB) {
	t.Helper()
	events, err := l.ReadAll(t.Context(), 0, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	for i := range events {
		e := &events[i]
		l.head, l.last, l.versions[e.Stream], l.ordinals[e.Partition] = e.Position, e.RecordedAt, e.Version, e.Ordinal
	}
}

const streams = 40

// Events makes n events that follow what was appended so far, for Append.
func (l *Log) Events(n int) []es.Event {
	events := make([]es.Event, n)
	for i := range events {
		position := l.head + int64(i) + 1
		stream := fmt.Sprintf("note-%d", position*7%streams)
		data, err := json.Marshal(Noted{Number: position, Text: "a note of some length, as events have it, about nothing in particular"})
		if err != nil {
			panic(err)
		}
		now := time.Now().UTC().Truncate(time.Microsecond)
		if now.Before(l.last) {
			now = l.last
		}
		l.last = now
		l.versions[stream]++
		partition := es.PartitionOf(stream, l.Info().Partitions)
		l.ordinals[partition]++
		events[i] = es.Event{
			Position: position, Stream: stream, Version: l.versions[stream], Type: "note.taken", Data: data,
			Metadata: json.RawMessage(`{"actor":"test"}`), OccurredAt: now, RecordedAt: now,
			Partition: partition, Ordinal: l.ordinals[partition],
		}
	}
	l.head += int64(n)
	return events
}

// Append commits n more events and returns them, undecoded.
func (l *Log) Append(ctx context.Context, n int) ([]es.Event, error) {
	events := l.Events(n)
	return events, l.Commit(ctx, events)
}

// Commit puts events into the log in one commit.
func (l *Log) Commit(ctx context.Context, events []es.Event) error {
	batch := uuid.New()
	_, err := l.Pool.CopyFrom(ctx, pgx.Identifier{"events"},
		[]string{"position", "stream", "version", "type", "data", "metadata", "occurred_at", "recorded_at", "partition", "ordinal", "batch"},
		pgx.CopyFromSlice(len(events), func(i int) ([]any, error) {
			e := &events[i]
			return []any{e.Position, e.Stream, e.Version, e.Type, e.Data, e.Metadata, e.OccurredAt, e.RecordedAt, e.Partition, e.Ordinal, batch}, nil
		}))
	if err != nil {
		return fmt.Errorf("logtest: appending %d events: %w", len(events), err)
	}
	return nil
}

// MustAppend is Append for a test that cannot go on without.
func (l *Log) MustAppend(t testing.TB, n int) []es.Event {
	t.Helper()
	events, err := l.Append(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	return events
}

// Connect opens a connection to NATS, which closes with the test.
func Connect(t testing.TB, url string) (*nats.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := jetstreamlog.Connect(url, Logger())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// Logger writes what is worth a warning to the standard error, or everything where MILLRACE_TEST_LOG is set.
func Logger() *slog.Logger {
	level := slog.LevelError
	if os.Getenv("MILLRACE_TEST_LOG") != "" {
		level = slog.LevelDebug
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
}

// Eventually polls a condition until it holds; the deadline is far beyond what a loaded machine needs.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline.C:
			t.Fatalf("never came true: %s", what)
		case <-tick.C:
		}
	}
}

// AwaitCopy waits until the copy reaches a position, and returns its stream.
func AwaitCopy(t testing.TB, js jetstream.JetStream, log es.Log, position int64) *jetstream.StreamInfo {
	t.Helper()
	var info *jetstream.StreamInfo
	Eventually(t, fmt.Sprintf("the copy reaches position %d", position), func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		found, err := jetstreamlog.Find(ctx, js, log)
		info = found
		return err == nil && int64(found.State.LastSeq) >= position
	})
	return info
}

// RequireOneStream makes sure that no stream ever had to be set aside.
func RequireOneStream(t testing.TB, js jetstream.JetStream) {
	t.Helper()
	list := js.StreamNames(t.Context())
	var names []string
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		t.Fatal(err)
	}
	if len(names) != 1 {
		t.Errorf("there is more than one stream: %v", names)
	}
}

// RequireCopy makes sure that the stream is the log, event by event, from the position first on.
func RequireCopy(t testing.TB, js jetstream.JetStream, l *Log, first int64) {
	t.Helper()
	head, err := l.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	info := AwaitCopy(t, js, l.Info(), head)
	if got := int64(info.State.FirstSeq); got != first {
		t.Fatalf("the stream %s begins at %d instead of %d", info.Config.Name, got, first)
	}
	if got := int64(info.State.LastSeq); got != head {
		t.Fatalf("the stream %s ends at %d, the log at %d", info.Config.Name, got, head)
	}
	want, err := l.ReadAll(t.Context(), first-1, int(head))
	if err != nil {
		t.Fatal(err)
	}
	consumer, err := js.OrderedConsumer(t.Context(), info.Config.Name, jetstream.OrderedConsumerConfig{})
	if err != nil {
		t.Fatal(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		t.Fatal(err)
	}
	defer messages.Stop()
	for i := range want {
		m, err := messages.Next(jetstream.NextMaxWait(30 * time.Second))
		if err != nil {
			t.Fatalf("reading sequence %d: %v", want[i].Position, err)
		}
		metadata, err := m.Metadata()
		if err != nil {
			t.Fatal(err)
		}
		if got := int64(metadata.Sequence.Stream); got != want[i].Position {
			t.Fatalf("sequence %d where %d was due", got, want[i].Position)
		}
		if part := jetstreamlog.Differs(jetstreamlog.Encode(l.Info(), &want[i]), m.Subject(), m.Headers(), m.Data()); part != "" {
			t.Fatalf("sequence %d differs from the log in %s", want[i].Position, part)
		}
	}
}
