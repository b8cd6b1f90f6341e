package jetstreamlog

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/internal/es"
)

// The metadata of the stream.
const (
	MetadataLog   = "millrace.log"
	MetadataEpoch = "millrace.epoch"
	// MetadataAside says of a stream that was set aside why it was.
	MetadataAside = "millrace.aside"
)

// ErrNoStream says that no stream holds the log at present.
var ErrNoStream = errors.New("jetstreamlog: JetStream has no stream that takes " + Subjects)

// ForeignError says that the stream on the log's subjects holds another log, or another epoch of it.
type ForeignError struct{ Stream, LogID, Epoch string }

func (e *ForeignError) Error() string {
	return fmt.Sprintf("jetstreamlog: the stream %s belongs to log %q, epoch %q", e.Stream, e.LogID, e.Epoch)
}

// Names returns the names of the streams that take any of the log's subjects.
func Names(ctx context.Context, js jetstream.JetStream) ([]string, error) {
	return listNames(ctx, js, jetstream.WithStreamListSubject(Subjects))
}

func listNames(ctx context.Context, js jetstream.JetStream, opts ...jetstream.StreamListOpt) ([]string, error) {
	list := js.StreamNames(ctx, opts...)
	var names []string
	for name := range list.Name() {
		names = append(names, name)
	}
	if err := list.Err(); err != nil {
		return nil, fmt.Errorf("jetstreamlog: listing the streams: %w", err)
	}
	return names, nil
}

// Find returns the stream that holds the log. It returns [ErrNoStream] or a [ForeignError] where there is none.
func Find(ctx context.Context, js jetstream.JetStream, log es.Log) (*jetstream.StreamInfo, error) {
	names, err := Names(ctx, js)
	if err != nil {
		return nil, err
	}
	if len(names) != 1 {
		return nil, ErrNoStream // or several that take a part each: none of them is a copy
	}
	info, err := Info(ctx, js, names[0])
	if err != nil {
		return nil, err
	}
	if !Belongs(info, log) {
		m := info.Config.Metadata
		return nil, &ForeignError{Stream: names[0], LogID: m[MetadataLog], Epoch: m[MetadataEpoch]}
	}
	return info, nil
}

// Info returns the present state of a stream, or [ErrNoStream].
func Info(ctx context.Context, js jetstream.JetStream, name string) (*jetstream.StreamInfo, error) {
	stream, err := js.Stream(ctx, name)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return nil, ErrNoStream
	case err != nil:
		return nil, fmt.Errorf("jetstreamlog: reading the state of the stream %s: %w", name, err)
	}
	return stream.CachedInfo(), nil
}

// Belongs reports whether a stream says of itself that it holds the log in its present epoch.
func Belongs(info *jetstream.StreamInfo, log es.Log) bool {
	m := info.Config.Metadata
	return m[MetadataLog] == log.ID && m[MetadataEpoch] == strconv.Itoa(log.Epoch)
}

// Settings are what a stream is created with, beside what the format fixes.
type Settings struct {
	// First is the position of the first event that the stream will hold.
	First int64
	// Window is the number of events that the stream keeps; 0 means all.
	Window int64
	// Replicas is the number of servers that keep the stream; 0 means 1.
	Replicas int
}

// Create creates the stream of a log under a name that none has had yet. It returns the stream of a relay that
// was faster when both wanted the same.
func Create(ctx context.Context, js jetstream.JetStream, log es.Log, s Settings) (*jetstream.StreamInfo, error) {
	name, err := nextName(ctx, js, log)
	if err != nil {
		return nil, err
	}
	stream, err := js.CreateStream(ctx, jetstream.StreamConfig{
		Name:        name,
		Description: "Millrace: a copy of the event log; sequence n is the event at position n",
		Subjects:    []string{Subjects},
		Storage:     jetstream.FileStorage,
		Retention:   jetstream.LimitsPolicy,
		Discard:     jetstream.DiscardOld,
		MaxMsgs:     maxMsgs(s.Window),
		Replicas:    max(s.Replicas, 1),
		FirstSeq:    uint64(max(s.First, 1)),
		DenyDelete:  true,
		DenyPurge:   true,
		Metadata:    map[string]string{MetadataLog: log.ID, MetadataEpoch: strconv.Itoa(log.Epoch)},
	})
	if err != nil {
		return nil, fmt.Errorf("jetstreamlog: creating the stream %s: %w", name, err)
	}
	return stream.CachedInfo(), nil
}

func maxMsgs(window int64) int64 {
	if window <= 0 {
		return -1
	}
	return window
}

// nextName counts up, because streams that were set aside keep their names. The epoch is part of the name so
// that a relay of an earlier epoch, which names the stream it means, cannot write into this one.
func nextName(ctx context.Context, js jetstream.JetStream, log es.Log) (string, error) {
	names, err := listNames(ctx, js)
	if err != nil {
		return "", err
	}
	prefix := fmt.Sprintf("MILLRACE_%.8s_%d_", log.ID, log.Epoch)
	last := 0
	for _, name := range names {
		if suffix, ok := strings.CutPrefix(name, prefix); ok {
			if k, err := strconv.Atoi(suffix); err == nil {
				last = max(last, k)
			}
		}
	}
	return prefix + strconv.Itoa(last+1), nil
}

// SetWindow changes how many events a stream keeps.
func SetWindow(ctx context.Context, js jetstream.JetStream, info *jetstream.StreamInfo, window int64) error {
	if info.Config.MaxMsgs == maxMsgs(window) {
		return nil
	}
	config := info.Config
	config.MaxMsgs = maxMsgs(window)
	if _, err := js.UpdateStream(ctx, config); err != nil {
		return fmt.Errorf("jetstreamlog: changing the window of the stream %s: %w", info.Config.Name, err)
	}
	return nil
}

// SetAside takes the log's subjects from a stream and keeps all that it holds: whoever runs the relay has
// no right to delete. It refuses a stream that takes other subjects too, which is not the relay's to change.
func SetAside(ctx context.Context, js jetstream.JetStream, info *jetstream.StreamInfo, reason string) error {
	config := info.Config
	for _, subject := range config.Subjects {
		if !strings.HasPrefix(subject, subjectPrefix) {
			return fmt.Errorf("jetstreamlog: the stream %s takes %s beside events of the log (%s); it has to leave %s to the log",
				config.Name, subject, strings.Join(config.Subjects, ", "), Subjects)
		}
	}
	config.Subjects = []string{"millrace-aside." + config.Name}
	metadata := map[string]string{MetadataAside: reason}
	for key, value := range config.Metadata {
		if !strings.HasPrefix(key, "_nats.") {
			metadata[key] = value
		}
	}
	config.Metadata = metadata
	if _, err := js.UpdateStream(ctx, config); err != nil {
		return fmt.Errorf("jetstreamlog: setting the stream %s aside: %w", config.Name, err)
	}
	return nil
}
