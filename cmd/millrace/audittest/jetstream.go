package audittest

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// streamsOf lists all streams of the server, which is the shop's alone.
func streamsOf(ctx context.Context, js jetstream.JetStream) ([]*jetstream.StreamInfo, error) {
	list := js.ListStreams(ctx)
	var streams []*jetstream.StreamInfo
	for info := range list.Info() {
		streams = append(streams, info)
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("listing the streams of JetStream: %w", err)
	}
	return streams, nil
}

// compareJetStream compares every message with the event at the position that is its sequence. There must be one stream: a copy that had to
// be set aside had gone wrong.
func compareJetStream(ctx context.Context, js jetstream.JetStream, l *eventLog, f *findings) error {
	streams, err := streamsOf(ctx, js)
	if err != nil {
		return err
	}
	if len(streams) != 1 {
		f.add(JetStream, "the copy", "there are %d streams", len(streams))
		return nil
	}
	name, state := streams[0].Config.Name, streams[0].State
	if n := uint64(len(l.events)); state.FirstSeq != 1 || state.LastSeq != n || state.Msgs != n {
		f.add(JetStream, "the copy", "the stream %s has %d messages from %d to %d, the log has %d events", name, state.Msgs, state.FirstSeq, state.LastSeq, n)
	}
	consumer, err := js.OrderedConsumer(ctx, name, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return fmt.Errorf("reading JetStream: %w", err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return fmt.Errorf("reading JetStream: %w", err)
	}
	defer messages.Stop()
	for range state.Msgs {
		m, err := messages.Next(jetstream.NextContext(ctx))
		if err != nil {
			return fmt.Errorf("reading JetStream: %w", err)
		}
		meta, err := m.Metadata()
		if err != nil {
			return fmt.Errorf("reading JetStream: %w", err)
		}
		if meta.Sequence.Stream > uint64(len(l.events)) {
			break // told already
		}
		l.compareMessage(m, &l.events[meta.Sequence.Stream-1], f)
	}
	return nil
}

func (l *eventLog) compareMessage(m jetstream.Msg, e *Event, f *findings) {
	subject := fmt.Sprintf("sequence %d", e.Position)
	module, event, _ := strings.Cut(e.Type, ".")
	times := e.RecordedAt.UTC().Format(time.RFC3339Nano)
	if !e.OccurredAt.Equal(e.RecordedAt) {
		times += " " + e.OccurredAt.UTC().Format(time.RFC3339Nano)
	}
	stream, _, _ := strings.Cut(m.Headers().Get("Millrace-Stream"), " ")
	if unescaped, err := url.PathUnescape(stream); err != nil || unescaped != e.Stream {
		f.add(JetStream, subject, "it is of stream %q, want %q", stream, e.Stream)
	}
	for _, part := range []struct{ name, found, want string }{
		{"subject", m.Subject(), fmt.Sprintf("millrace.%d.%s.%s", e.Partition, module, strings.ReplaceAll(event, ".", "_"))},
		{"log", m.Headers().Get("Millrace-Log"), fmt.Sprintf("%s %d %d", l.id, l.epoch, e.Position)},
		{"stream", m.Headers().Get("Millrace-Stream"), stream + " " + strconv.FormatInt(e.Version, 10)},
		{"type", m.Headers().Get("Millrace-Type"), e.Type},
		{"ordinal", m.Headers().Get("Millrace-Ordinal"), strconv.FormatInt(e.Ordinal, 10)},
		{"time", m.Headers().Get("Millrace-Time"), times},
		{"metadata", m.Headers().Get("Millrace-Metadata"), strings.TrimSpace(e.Metadata)},
		{"data", string(m.Data()), e.Data},
	} {
		if part.found != part.want {
			f.add(JetStream, subject, "its %s is %q, want %q", part.name, part.found, part.want)
		}
	}
}
