package relay_test

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/jetstreamlog"
	"github.com/millrace/millrace/internal/jetstreamlog/logtest"
	"github.com/millrace/millrace/internal/relay"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(childVariable); url != "" {
		os.Exit(beRelay(url))
	}
	stacktest.Main(m)
}

// bundle is a log, a NATS server, and whatever relays the test starts.
type bundle struct {
	env *stacktest.Env
	log *logtest.Log
	nc  *nats.Conn
	js  jetstream.JetStream
}

func setup(t *testing.T) *bundle {
	t.Helper()
	env := stacktest.New(t)
	b := &bundle{env: env, log: logtest.Open(t, env.DatabaseURL)}
	b.nc, b.js = logtest.Connect(t, env.NATSURL)
	return b
}

// start runs a relay on a connection of its own until the test ends or stop is called.
func (b *bundle) start(t *testing.T, change ...func(*relay.Options)) (r *relay.Relay, stop func()) {
	t.Helper()
	nc, _ := logtest.Connect(t, b.env.NATSURL)
	o := relay.Options{Log: b.log, Info: b.log.Info(), NATS: nc, Logger: logtest.Logger()}
	for _, c := range change {
		c(&o)
	}
	r = relay.New(o)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the relay ended with %v", err)
		}
	}
	t.Cleanup(stop)
	return r, stop
}

func TestCopiesTheLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.log.MustAppend(t, 2500)
	b.start(t)
	logtest.RequireCopy(t, b.js, b.log, 1)
	b.log.MustAppend(t, 7)
	logtest.RequireCopy(t, b.js, b.log, 1)
}

func TestOfferedEventsAreCopied(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r, _ := b.start(t)
	for i := range 300 {
		events := b.log.MustAppend(t, 3)
		if i%10 != 5 { // an offer that is missing is read from the log
			r.Offer(events)
		}
	}
	logtest.RequireCopy(t, b.js, b.log, 1)
	logtest.RequireOneStream(t, b.js)
}

func TestPokeWakesARelayThatLooksSeldom(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.start(t)
	for range 100 {
		events := b.log.MustAppend(t, 1)
		relay.Poke(b.nc, events[0].Position)
	}
	logtest.RequireCopy(t, b.js, b.log, 1)
}

// Whoever commits does not wait for a NATS that takes nothing, and the relays hear of the end of the log when it does again.
func TestAPokeDoesNotWaitForNATS(t *testing.T) {
	t.Parallel()
	const patience = 30 * time.Second
	env := stacktest.New(t)
	proxy, url := stacktest.ProxyURL(t, env.NATSURL)
	clogged, _ := logtest.Connect(t, url)
	direct, _ := logtest.Connect(t, env.NATSURL)
	heard, err := direct.SubscribeSync("millrace-poke")
	if err != nil {
		t.Fatal(err)
	}
	poker := relay.NewPoker(clogged)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = poker.Run(ctx) })

	proxy.Clog()
	var sent atomic.Int64
	running.Go(func() { // what others send over the connection, until it takes no more
		for ctx.Err() == nil {
			_ = clogged.Publish("millrace-test-flood", make([]byte, 1<<19)) // it is not to arrive
			sent.Add(1)
		}
	})
	var last int64
	for deadline := time.Now().Add(patience); ; {
		before := sent.Load()
		stuck := time.NewTimer(200 * time.Millisecond)
		<-stuck.C
		moved := sent.Load() > before
		for range 1_000 {
			last++
			poker.Poke(last)
		}
		if !moved && before > 0 && sent.Load() == before {
			break // the flood has not got on, the pokes have
		}
		if time.Now().After(deadline) {
			t.Fatal("a poke waits for NATS")
		}
	}
	cancel()
	proxy.Heal()
	running.Wait()

	ctx, cancel = context.WithCancel(t.Context())
	defer running.Wait()
	defer cancel()
	running.Go(func() { _ = poker.Run(ctx) })
	for deadline := time.Now().Add(patience); ; {
		poker.Poke(last)
		m, err := heard.NextMsg(100 * time.Millisecond)
		if err == nil && string(m.Data) == fmt.Sprint(last) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("position %d is not told: %v", last, err)
		}
	}
}

func TestTwoRelaysAtOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	registries := []*prometheus.Registry{prometheus.NewRegistry(), prometheus.NewRegistry()}
	var relays []*relay.Relay
	for _, registry := range registries {
		r, _ := b.start(t, func(o *relay.Options) { o.Metrics = registry })
		relays = append(relays, r)
	}
	// Who wins a round is chance, so the rounds go on until both have published
	// and one of them has been refused: only then have they competed.
	competed := func() bool {
		refusals := 0.0
		for _, registry := range registries {
			if value(t, registry, "millrace_relay_published_total") == 0 {
				return false
			}
			refusals += value(t, registry, "millrace_relay_refusals_total")
		}
		return refusals > 0
	}
	for round := 0; round < 250 || !competed(); round++ {
		events := b.log.MustAppend(t, 10)
		relays[round%2].Offer(events)
		if round%3 == 0 {
			relays[1-round%2].Offer(events)
		}
	}
	logtest.RequireCopy(t, b.js, b.log, 1)
	logtest.RequireOneStream(t, b.js)
}

func TestRelaysThatAreCutOffAtAnyMoment(t *testing.T) {
	t.Parallel()
	b := setup(t)
	for range 10 {
		b.log.MustAppend(t, 700)
		_, stop := b.start(t)
		head, err := b.log.Head(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		logtest.AwaitCopy(t, b.js, b.log.Info(), head-350)
		stop()
	}
	b.start(t)
	logtest.RequireCopy(t, b.js, b.log, 1)
	logtest.RequireOneStream(t, b.js)
}

func TestJetStreamsDataIsDeletedWhileItRuns(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r, _ := b.start(t)
	for range 5 {
		r.Offer(b.log.MustAppend(t, 500))
		if err := b.env.NATS.Wipe(t.Context()); err != nil {
			t.Fatal(err)
		}
		r.Offer(b.log.MustAppend(t, 500))
	}
	logtest.RequireCopy(t, b.js, b.log, 1)
	// Nothing is written any more, and still the copy comes back.
	if err := b.env.NATS.Wipe(t.Context()); err != nil {
		t.Fatal(err)
	}
	logtest.RequireCopy(t, b.js, b.log, 1)
	logtest.RequireOneStream(t, b.js)
}

func TestWindow(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.log.MustAppend(t, 5000)
	_, stop := b.start(t, func(o *relay.Options) { o.Window = 1000 })
	logtest.RequireCopy(t, b.js, b.log, 4001)
	b.log.MustAppend(t, 10)
	logtest.RequireCopy(t, b.js, b.log, 4011)
	stop()
	// A smaller window takes effect on the stream that there is.
	_, stop = b.start(t, func(o *relay.Options) { o.Window = 100 })
	b.log.MustAppend(t, 1)
	logtest.RequireCopy(t, b.js, b.log, 4912)
	stop()
	// For a larger one the copy begins afresh.
	b.start(t, func(o *relay.Options) { o.Window = 3000 })
	logtest.Eventually(t, "the larger window is filled", func() bool {
		info, err := jetstreamlog.Find(t.Context(), b.js, b.log.Info())
		return err == nil && info.State.LastSeq == 5011 && info.State.FirstSeq == 2012
	})
	logtest.RequireCopy(t, b.js, b.log, 2012)
}

func TestALatePublishIsRefused(t *testing.T) {
	t.Parallel()
	b := setup(t)
	events := b.log.MustAppend(t, 10)
	b.start(t)
	info := logtest.AwaitCopy(t, b.js, b.log.Info(), 10)
	publish := func(position int64, stream string) error {
		m := jetstreamlog.Encode(b.log.Info(), &events[position-1])
		_, err := b.js.PublishMsg(t.Context(), m, jetstream.WithExpectLastSequence(uint64(position-1)), jetstream.WithExpectStream(stream))
		return err
	}
	for position := int64(1); position <= 10; position++ {
		if err := publish(position, info.Config.Name); err == nil {
			t.Errorf("position %d was taken twice", position)
		}
	}
	next := b.log.Events(1)
	events = append(events, next...)
	if err := publish(11, "MILLRACE_of_another_epoch"); err == nil {
		t.Error("a relay that means another stream wrote into this one")
	}
	if err := b.log.Commit(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	logtest.RequireCopy(t, b.js, b.log, 1)
	logtest.RequireOneStream(t, b.js)
}

// value returns a metric without labels.
func value(t *testing.T, r *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() == name {
			m := family.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}
