package relay_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/jetstreamlog"
	"github.com/millrace/millrace/internal/jetstreamlog/logtest"
	"github.com/millrace/millrace/internal/relay"
)

// begin creates a stream as a relay of a log would have.
func (b *bundle) begin(t *testing.T, log es.Log, first int64) string {
	t.Helper()
	info, err := jetstreamlog.Create(t.Context(), b.js, log, jetstreamlog.Settings{First: first})
	if err != nil {
		t.Fatal(err)
	}
	return info.Config.Name
}

func (b *bundle) publish(t *testing.T, log es.Log, events []es.Event) {
	t.Helper()
	for i := range events {
		if _, err := b.js.PublishMsg(t.Context(), jetstreamlog.Encode(log, &events[i])); err != nil {
			t.Fatal(err)
		}
	}
}

// The log has ten events in each case; given is what JetStream holds before the relay comes.
func TestStreamsThatAreNoCopyAreSetAside(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		given  func(t *testing.T, b *bundle, events []es.Event) (stream string)
		reason string
	}{
		"another log": {
			given: func(t *testing.T, b *bundle, events []es.Event) string {
				other := b.log.Info()
				other.ID = "00000000-0000-4000-8000-000000000000"
				name := b.begin(t, other, 1)
				b.publish(t, other, events)
				return name
			},
			reason: "belongs to log",
		},
		"an earlier epoch": {
			given: func(t *testing.T, b *bundle, events []es.Event) string {
				other := b.log.Info()
				other.Epoch--
				name := b.begin(t, other, 1)
				b.publish(t, other, events[:5])
				return name
			},
			reason: "belongs to log",
		},
		"ahead of the log": {
			given: func(t *testing.T, b *bundle, events []es.Event) string {
				name := b.begin(t, b.log.Info(), 1)
				b.publish(t, b.log.Info(), append(events, logtest.Open(t, b.env.DatabaseURL).Events(2)...))
				return name
			},
			reason: "beyond the log's end at 10",
		},
		"other events than the log": {
			given: func(t *testing.T, b *bundle, events []es.Event) string {
				name := b.begin(t, b.log.Info(), 1)
				changed := append([]es.Event(nil), events[:6]...)
				changed[5].Data = []byte(`{"number":-1}`)
				b.publish(t, b.log.Info(), changed)
				return name
			},
			reason: "differs from the log's event in data",
		},
		"a beginning that is too late": {
			given: func(t *testing.T, b *bundle, events []es.Event) string {
				name := b.begin(t, b.log.Info(), 4)
				b.publish(t, b.log.Info(), events[3:])
				return name
			},
			reason: "it begins at 4 only",
		},
		"a hole": {
			given: func(t *testing.T, b *bundle, events []es.Event) string {
				// What bit rot leaves behind, brought about by the rights that the relay itself forgoes.
				config := jetstream.StreamConfig{Name: "ROTTEN", Subjects: []string{jetstreamlog.Subjects}, Storage: jetstream.FileStorage,
					Metadata: map[string]string{jetstreamlog.MetadataLog: b.log.Info().ID, jetstreamlog.MetadataEpoch: "1"}}
				stream, err := b.js.CreateStream(t.Context(), config)
				if err != nil {
					t.Fatal(err)
				}
				b.publish(t, b.log.Info(), events)
				if err := stream.DeleteMsg(t.Context(), 5); err != nil {
					t.Fatal(err)
				}
				config.DenyDelete, config.DenyPurge = true, true
				if _, err := b.js.UpdateStream(t.Context(), config); err != nil {
					t.Fatal(err)
				}
				return config.Name
			},
			reason: "holes: 9 messages from 1 to 10",
		},
		"a stream that takes a part": {
			given: func(t *testing.T, b *bundle, _ []es.Event) string {
				config := jetstream.StreamConfig{Name: "PART", Subjects: []string{"millrace.3.>"}}
				if _, err := b.js.CreateStream(t.Context(), config); err != nil {
					t.Fatal(err)
				}
				return config.Name
			},
			reason: "belongs to log",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			events := b.log.MustAppend(t, 10)
			old := c.given(t, b, events)
			before, err := jetstreamlog.Info(t.Context(), b.js, old)
			if err != nil {
				t.Fatal(err)
			}
			b.start(t)
			logtest.Eventually(t, "the stream is set aside", func() bool {
				info, err := jetstreamlog.Info(t.Context(), b.js, old)
				return err == nil && info.Config.Subjects[0] == "millrace-aside."+old
			})
			logtest.RequireCopy(t, b.js, b.log, 1)
			after, err := jetstreamlog.Info(t.Context(), b.js, old)
			if err != nil {
				t.Fatal(err)
			}
			if after.State.Msgs != before.State.Msgs {
				t.Errorf("it held %d messages before and %d after", before.State.Msgs, after.State.Msgs)
			}
			if reason := after.Config.Metadata[jetstreamlog.MetadataAside]; !strings.Contains(reason, c.reason) {
				t.Errorf("the reason is %q", reason)
			}
		})
	}
}

func TestARelayOfAnEarlierEpochEnds(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.log.MustAppend(t, 10)
	later := b.log.Info()
	later.Epoch++
	name := b.begin(t, later, 1)
	r := relay.New(relay.Options{Log: b.log, Info: b.log.Info(), NATS: b.nc, Logger: logtest.Logger(),
		Epoch: func(context.Context) (int, error) { return later.Epoch, nil }})
	if err := r.Run(t.Context()); !errors.Is(err, relay.ErrEpochChanged) {
		t.Errorf("Run ended with %v", err)
	}
	if info, err := jetstreamlog.Find(t.Context(), b.js, later); err != nil || info.Config.Name != name {
		t.Errorf("the later epoch's stream was touched: %v", err)
	}
}

// The log enters another epoch while a relay of the old one has a stream open, and the new stream waits for the very
// position that the old relay publishes next.
func TestARelayDoesNotWriteIntoALaterEpochsStream(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.log.MustAppend(t, 10)
	r, _ := b.start(t)
	old := logtest.AwaitCopy(t, b.js, b.log.Info(), 10)
	if err := jetstreamlog.SetAside(t.Context(), b.js, old, "a failover"); err != nil {
		t.Fatal(err)
	}
	later := b.log.Info()
	later.Epoch++
	name := b.begin(t, later, 11)
	r.Offer(b.log.MustAppend(t, 5))
	logtest.RequireCopy(t, b.js, b.log, 1) // nobody told this relay about the epoch, so it begins again
	info, err := jetstreamlog.Info(t.Context(), b.js, name)
	if err != nil {
		t.Fatal(err)
	}
	if info.State.Msgs != 0 {
		t.Errorf("the later epoch's stream holds %d messages of the earlier one", info.State.Msgs)
	}
}

func TestRelaysOfTwoLogsDoNotFillTheDisk(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.log.MustAppend(t, 3)
	b.start(t)
	other := logtest.Open(t, stacktest.New(t, stacktest.WithoutNATS()).DatabaseURL)
	other.MustAppend(t, 3)
	b.start(t, func(o *relay.Options) { o.Log, o.Info = other, other.Info() })
	var names []string
	logtest.Eventually(t, "both relays have set aside as many as they may", func() bool {
		names = nil
		list := b.js.StreamNames(t.Context())
		for name := range list.Name() {
			names = append(names, name)
		}
		return len(names) >= 16
	})
	if len(names) > 18 {
		t.Errorf("there are %d streams", len(names))
	}
}

func TestACopyIsResumed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	events := b.log.MustAppend(t, 10)
	name := b.begin(t, b.log.Info(), 1)
	b.publish(t, b.log.Info(), events[:4])
	b.start(t)
	logtest.RequireCopy(t, b.js, b.log, 1)
	info, err := jetstreamlog.Find(t.Context(), b.js, b.log.Info())
	if err != nil || info.Config.Name != name {
		t.Errorf("the stream that was there is not used: %v", err)
	}
}

func TestAStreamOfSomebodyElseIsLeftAlone(t *testing.T) {
	t.Parallel()
	b := setup(t)
	if _, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "ALL", Subjects: []string{"millrace.>", "weather.>"}}); err != nil {
		t.Fatal(err)
	}
	b.log.MustAppend(t, 3)
	b.start(t)
	if err := b.js.DeleteStream(t.Context(), "ALL"); err != nil {
		t.Fatalf("the stream is not under its name any more: %v", err)
	}
	// The relay has not given up.
	logtest.RequireCopy(t, b.js, b.log, 1)
}

func TestAnEventTooLargeForAMessageKeepsItsPlace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	events := b.log.Events(3)
	events[1].Data = []byte(`{"text":"` + strings.Repeat("a", 3<<20) + `"}`)
	if err := b.log.Commit(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	b.start(t)
	logtest.RequireCopy(t, b.js, b.log, 1)
}
