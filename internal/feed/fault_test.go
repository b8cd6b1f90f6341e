package feed_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/feed"
	"github.com/millrace/millrace/internal/jetstreamlog"
	"github.com/millrace/millrace/internal/jetstreamlog/logtest"
)

// fast is what an event may take to arrive while JetStream does not deliver. It is asked of most events only, as
// a busy machine may hold up any of them.
const fast = 200 * time.Millisecond

// requireFast appends events one by one and makes sure that they arrive fast.
func requireFast(t *testing.T, log *logtest.Log, r *reader, n int) {
	t.Helper()
	took := make([]time.Duration, n)
	for i := range took {
		events := log.MustAppend(t, 1)
		took[i] = r.await(t, events[0].Position)
	}
	slices.Sort(took)
	if median := took[n/2]; median > fast {
		t.Errorf("half of the events took more than %v", median)
	}
}

func TestGoesOnWithPostgresWhileNATSIsAway(t *testing.T) {
	t.Parallel()
	b := setup(t)
	relay, _ := b.startRelay(t)
	registry := prometheus.NewRegistry()
	f := b.startFeed(t, withMetrics(registry))
	awaitLive(t, registry)
	r := read(t, f, 0)
	relay.Offer(b.log.MustAppend(t, 1))
	r.await(t, 1)

	if err := b.env.NATS.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	requireFast(t, b.log, r, 30)
	if err := b.env.NATS.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	awaitLive(t, registry)
	before := metric(t, registry, "millrace_feed_events_total", "jetstream")
	for range 20 {
		events := b.log.MustAppend(t, 1)
		relay.Offer(events)
		r.await(t, events[0].Position)
	}
	if metric(t, registry, "millrace_feed_events_total", "jetstream") == before {
		t.Error("JetStream does not deliver again")
	}
}

// The relay is dead and NATS is not: JetStream simply says nothing more.
func TestGoesOnWithPostgresWhileNobodyRelays(t *testing.T) {
	t.Parallel()
	b := setup(t)
	relay, stop := b.startRelay(t)
	registry := prometheus.NewRegistry()
	f := b.startFeed(t, withMetrics(registry))
	awaitLive(t, registry)
	r := read(t, f, 0)
	relay.Offer(b.log.MustAppend(t, 1))
	r.await(t, 1)
	stop()
	requireFast(t, b.log, r, 20)
	b.startRelay(t)
	awaitLive(t, registry)
}

func TestSurvivesTheLossOfJetStreamsData(t *testing.T) {
	t.Parallel()
	b := setup(t)
	relay, _ := b.startRelay(t)
	registry := prometheus.NewRegistry()
	f := b.startFeed(t, withMetrics(registry))
	r := read(t, f, 0)
	for range 5 {
		relay.Offer(b.log.MustAppend(t, 300))
		if err := b.env.NATS.Wipe(t.Context()); err != nil {
			t.Fatal(err)
		}
		events := b.log.MustAppend(t, 300)
		r.await(t, events[299].Position)
		awaitLive(t, registry)
	}
}

func TestEveryEventOnceAndInOrderUnderRestarts(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			relay, stop := b.startRelay(t)
			f := b.startFeed(t, func(o *feed.Options) { o.Window = 500 })
			newest, oldest := read(t, f, 0), read(t, f, 0)
			random := rand.New(rand.NewPCG(seed, 1))
			var last int64
			for range 40 {
				events := b.log.MustAppend(t, 1+random.IntN(200))
				last = events[len(events)-1].Position
				if random.IntN(2) == 0 {
					relay.Offer(events)
				}
				var err error
				switch random.IntN(10) {
				case 0:
					err = b.env.NATS.Restart(t.Context())
				case 1:
					err = b.env.NATS.Wipe(t.Context())
				case 2:
					stop()
					relay, stop = b.startRelay(t)
				case 3:
					newest.await(t, last)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			newest.await(t, last)
			oldest.await(t, last)
			logtest.RequireCopy(t, b.js, b.log, 1)
		})
	}
}

// begin creates a stream as a relay would, for tests that put into it what no relay does.
func (b *bundle) begin(t *testing.T, log es.Log) (stream string) {
	t.Helper()
	info, err := jetstreamlog.Create(t.Context(), b.js, log, jetstreamlog.Settings{First: 1})
	if err != nil {
		t.Fatal(err)
	}
	return info.Config.Name
}

func (b *bundle) publish(t *testing.T, log es.Log, events ...es.Event) {
	t.Helper()
	for i := range events {
		if _, err := b.js.PublishMsg(t.Context(), jetstreamlog.Encode(log, &events[i])); err != nil {
			t.Fatal(err)
		}
	}
}

// deaf is a log whose head a feed cannot learn any more: nothing but JetStream tells it that there is more.
type deaf struct {
	*logtest.Log
	cut chan struct{} // closed when Head fails
}

func (d deaf) Head(ctx context.Context) (int64, error) {
	select {
	case <-d.cut:
		return 0, errors.New("cut off")
	default:
		return d.Log.Head(ctx)
	}
}

func TestAHoleInTheStreamIsFilledFromPostgres(t *testing.T) {
	t.Parallel()
	b := setup(t)
	config := jetstream.StreamConfig{Name: "ROTTEN", Subjects: []string{jetstreamlog.Subjects},
		Metadata: map[string]string{jetstreamlog.MetadataLog: b.log.Info().ID, jetstreamlog.MetadataEpoch: "1"}}
	stream, err := b.js.CreateStream(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	cut := make(chan struct{})
	f := b.startFeed(t, withMetrics(registry), func(o *feed.Options) { o.Log = deaf{b.log, cut} })
	awaitLive(t, registry)
	close(cut)
	r := read(t, f, 0)
	events := b.log.MustAppend(t, 30)
	b.publish(t, b.log.Info(), events[:10]...)
	r.await(t, 10)
	// What a purge leaves: the stream goes on at 21, and has no 11 to 20 to give.
	if err := stream.Purge(t.Context(), jetstream.WithPurgeSequence(21)); err != nil {
		t.Fatal(err)
	}
	b.publish(t, b.log.Info(), events[20:]...)
	r.await(t, 30)
	if metric(t, registry, "millrace_feed_holes_total") == 0 {
		t.Error("the hole was not noticed")
	}
}

func TestAForeignStreamIsNotBelieved(t *testing.T) {
	t.Parallel()
	other := func(b *bundle) es.Log {
		log := b.log.Info()
		log.Epoch++
		return log
	}
	foreign := func(events []es.Event) []es.Event {
		events = append([]es.Event(nil), events...)
		for i := range events {
			events[i].Data = []byte(`{"number":-1}`)
		}
		return events
	}
	cases := map[string]func(t *testing.T, b *bundle, events []es.Event) (stream string){
		"another epoch": func(t *testing.T, b *bundle, events []es.Event) string {
			stream := b.begin(t, other(b))
			b.publish(t, other(b), foreign(events)...)
			return stream
		},
		"another epoch in a stream of this one": func(t *testing.T, b *bundle, events []es.Event) string {
			stream := b.begin(t, b.log.Info())
			b.publish(t, other(b), foreign(events)...)
			return stream
		},
		"ahead of the log": func(t *testing.T, b *bundle, events []es.Event) string {
			stream := b.begin(t, b.log.Info())
			b.publish(t, b.log.Info(), foreign(events)...)
			return stream
		},
		"another position": func(t *testing.T, b *bundle, events []es.Event) string {
			stream := b.begin(t, b.log.Info())
			b.publish(t, b.log.Info(), foreign(events)[5])
			return stream
		},
		"no event at all": func(t *testing.T, b *bundle, _ []es.Event) string {
			stream := b.begin(t, b.log.Info())
			if _, err := b.js.Publish(t.Context(), "millrace.0.note.taken", []byte("hello")); err != nil {
				t.Fatal(err)
			}
			return stream
		},
	}
	for name, given := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			events := b.log.Events(20)
			stream := given(t, b, events)
			f := b.startFeed(t)
			r := read(t, f, 0)
			for i := range events {
				if err := b.log.Commit(t.Context(), events[i:i+1]); err != nil {
					t.Fatal(err)
				}
				r.await(t, int64(i+1))
			}
			// And when a relay has put it right, JetStream delivers.
			relay, _ := b.startRelay(t)
			logtest.Eventually(t, "the stream is set aside", func() bool {
				info, err := jetstreamlog.Info(t.Context(), b.js, stream)
				return err == nil && info.Config.Metadata[jetstreamlog.MetadataAside] != ""
			})
			logtest.RequireCopy(t, b.js, b.log, 1)
			more := b.log.MustAppend(t, 10)
			relay.Offer(more)
			r.await(t, more[9].Position)
		})
	}
}

func TestAMessageThatIsNotTheNextEventIsNotBelieved(t *testing.T) {
	t.Parallel()
	cases := map[string]func(log *es.Log, e *es.Event){
		"wrong ordinal":     func(_ *es.Log, e *es.Event) { e.Ordinal = 7 },
		"unknown partition": func(_ *es.Log, e *es.Event) { e.Partition = 300 },
		"wrong position":    func(_ *es.Log, e *es.Event) { e.Position = 7 },
		"earlier epoch":     func(log *es.Log, _ *es.Event) { log.Epoch-- },
		"another log":       func(log *es.Log, _ *es.Event) { log.ID = "00000000-0000-4000-8000-000000000000" },
	}
	for name, falsify := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			b.begin(t, b.log.Info())
			registry := prometheus.NewRegistry()
			f := b.startFeed(t, withMetrics(registry))
			awaitLive(t, registry)
			events := b.log.Events(1)
			log, wrong := b.log.Info(), events[0]
			wrong.Data = []byte(`{"number":-1}`)
			falsify(&log, &wrong)
			b.publish(t, log, wrong)
			r := read(t, f, 0)
			if err := b.log.Commit(t.Context(), events); err != nil {
				t.Fatal(err)
			}
			r.await(t, 1)
		})
	}
}

func TestAnEventTooLargeForAMessageIsReadFromPostgres(t *testing.T) {
	t.Parallel()
	b := setup(t)
	relay, _ := b.startRelay(t)
	registry := prometheus.NewRegistry()
	f := b.startFeed(t, withMetrics(registry))
	awaitLive(t, registry)
	events := b.log.Events(3)
	events[1].Data = []byte(`{"number":2,"text":"` + strings.Repeat("a", 1<<20) + `"}`)
	if err := b.log.Commit(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	relay.Offer(events)
	read(t, f, 0).await(t, 3)
}

func TestJetStreamAloneIsEnoughWhilePostgresIsDown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cut := make(chan struct{})
	relay, _ := b.startRelay(t)
	registry := prometheus.NewRegistry()
	f := b.startFeed(t, withMetrics(registry), func(o *feed.Options) { o.Log = deaf{b.log, cut} })
	awaitLive(t, registry)
	r := read(t, f, 0)
	close(cut)
	for range 20 {
		events := b.log.MustAppend(t, 10)
		relay.Offer(events)
		r.await(t, events[9].Position)
	}
}

// A connection to NATS that breaks while Postgres is down is made anew, and brings what came meanwhile.
func TestJetStreamIsFoundAgainWhilePostgresIsDown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cut := make(chan struct{})
	relay, _ := b.startRelay(t)
	registry := prometheus.NewRegistry()
	proxy, url := stacktest.ProxyURL(t, b.env.NATSURL)
	f := b.startFeed(t, withMetrics(registry), func(o *feed.Options) {
		o.Log = deaf{b.log, cut}
		o.NATS, _ = logtest.Connect(t, url)
	})
	awaitLive(t, registry)
	r := read(t, f, 0)
	close(cut)
	for range 3 {
		proxy.Cut()
		events := b.log.MustAppend(t, 10)
		relay.Offer(events)
		logtest.AwaitCopy(t, b.js, b.log.Info(), events[9].Position)
		proxy.Heal()
		r.await(t, events[9].Position)
	}
}

func TestALogThatWentBackEndsTheFeed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.begin(t, b.log.Info())
	nc, _ := logtest.Connect(t, b.env.NATSURL)
	registry := prometheus.NewRegistry()
	f := feed.New(feed.Options{Log: b.log, Info: b.log.Info(), Codec: logtest.Codec(), NATS: nc, Logger: logtest.Logger(), Metrics: registry})
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() { done <- f.Run(ctx) }()
	awaitLive(t, registry)
	b.publish(t, b.log.Info(), b.log.Events(3)...) // which are lost in a failover
	if err := <-done; !errors.Is(err, feed.ErrLogWentBack) {
		t.Errorf("Run ended with %v", err)
	}
}

func TestAnotherEpochEndsTheFeed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var epoch atomic.Int64
	epoch.Store(int64(b.log.Info().Epoch))
	f := feed.New(feed.Options{Log: b.log, Info: b.log.Info(), Codec: logtest.Codec(), Logger: logtest.Logger(),
		Epoch: func(context.Context) (int, error) { return int(epoch.Load()), nil }})
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() { done <- f.Run(ctx) }()
	b.log.MustAppend(t, 3)
	waitFor(t, f, 3)
	epoch.Add(1)
	if err := <-done; !errors.Is(err, feed.ErrEpochChanged) {
		t.Errorf("Run ended with %v", err)
	}
}

// TestConfirmed checks that the feed knows when it was last certain of where the log ends.
func TestConfirmed(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.startFeed(t)
	last := b.log.MustAppend(t, 3)[2].Position
	confirmed := func(since time.Time) func() bool {
		return func() bool {
			position, at, more := f.Confirmed()
			return position >= last && position <= f.Head() && at.After(since) && !more
		}
	}
	for range 3 { // it goes on, whether something happens or not
		logtest.Eventually(t, "the end of the log is confirmed", confirmed(time.Now()))
	}
}
