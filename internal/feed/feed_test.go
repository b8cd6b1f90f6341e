package feed_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/feed"
	"github.com/millrace/millrace/internal/jetstreamlog/logtest"
	"github.com/millrace/millrace/internal/relay"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// bundle is a log and a NATS server.
type bundle struct {
	env *stacktest.Env
	log *logtest.Log
	nc  *nats.Conn
	js  jetstream.JetStream
}

func setup(t testing.TB) *bundle {
	t.Helper()
	env := stacktest.New(t)
	b := &bundle{env: env, log: logtest.Open(t, env.DatabaseURL)}
	b.nc, b.js = logtest.Connect(t, env.NATSURL)
	return b
}

// startRelay runs a relay until the test ends or stop is called.
func (b *bundle) startRelay(t testing.TB) (r *relay.Relay, stop func()) {
	t.Helper()
	nc, _ := logtest.Connect(t, b.env.NATSURL)
	r = relay.New(relay.Options{Log: b.log, Info: b.log.Info(), NATS: nc, Logger: logtest.Logger()})
	return r, background(t, r.Run)
}

// startFeed runs a feed until the test ends, and returns it once it knows the head of the log.
func (b *bundle) startFeed(t testing.TB, change ...func(*feed.Options)) *feed.Feed {
	t.Helper()
	nc, _ := logtest.Connect(t, b.env.NATSURL)
	o := feed.Options{Log: b.log, Info: b.log.Info(), Codec: logtest.Codec(), NATS: nc, Logger: logtest.Logger()}
	for _, c := range change {
		c(&o)
	}
	f := feed.New(o)
	background(t, f.Run)
	<-f.Ready()
	return f
}

// background runs something until the test ends or stop is called.
func background(t testing.TB, run func(context.Context) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("ended with %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// waitFor waits until a feed knows the log up to a position that the log has.
func waitFor(t testing.TB, f *feed.Feed, position int64) {
	t.Helper()
	if known, err := f.WaitFor(t.Context(), position, time.Now()); err != nil || !known {
		t.Fatalf("waiting for position %d: %t, %v", position, known, err)
	}
}

// reader collects what a feed hands out and fails the test at the first event that is not the next one.
type reader struct {
	seen chan int64 // the position reached, the newest only
}

func read(t testing.TB, f *feed.Feed, after int64) *reader {
	t.Helper()
	r := &reader{seen: make(chan int64, 1)}
	next := after + 1
	background(t, func(ctx context.Context) error {
		err := f.Follow(ctx, after, func(events []es.Event) error {
			for i := range events {
				e := &events[i]
				if e.Position != next {
					t.Errorf("position %d where %d was due", e.Position, next)
				}
				if n, ok := e.Fact.(logtest.Noted); !ok || n.Number != e.Position {
					t.Errorf("position %d is decoded as %#v", e.Position, e.Fact)
				}
				next = e.Position + 1
			}
			select {
			case <-r.seen:
			default:
			}
			r.seen <- next - 1
			return nil
		})
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	})
	return r
}

// await waits until the reader has reached a position and returns how long that took.
func (r *reader) await(t testing.TB, position int64) time.Duration {
	t.Helper()
	start := time.Now()
	deadline := time.NewTimer(time.Minute)
	defer deadline.Stop()
	for {
		select {
		case seen := <-r.seen:
			if seen >= position {
				return time.Since(start)
			}
		case <-deadline.C:
			t.Fatalf("position %d never arrived", position)
		}
	}
}

// metric returns a metric of a feed; labelled ones are added up unless a label's value is given.
func metric(t testing.TB, r *prometheus.Registry, name string, label ...string) (sum float64) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if len(label) == 0 || m.GetLabel()[0].GetValue() == label[0] {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func awaitLive(t testing.TB, registry *prometheus.Registry) {
	t.Helper()
	logtest.Eventually(t, "JetStream delivers", func() bool { return metric(t, registry, "millrace_feed_jetstream_live") == 1 })
}

func withMetrics(r *prometheus.Registry) func(*feed.Options) {
	return func(o *feed.Options) { o.Metrics = r }
}

func TestDeliversWhatIsAppended(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.log.MustAppend(t, 100)
	r, _ := b.startRelay(t)
	logtest.AwaitCopy(t, b.js, b.log.Info(), 100)
	registry := prometheus.NewRegistry()
	f := b.startFeed(t, withMetrics(registry))
	if f.Head() != 100 {
		t.Fatalf("the feed begins at %d", f.Head())
	}
	awaitLive(t, registry)
	newest, oldest := read(t, f, 100), read(t, f, 0)
	// A feed that finds JetStream slow reads PostgreSQL meanwhile, so the rounds go on until JetStream has brought most of them.
	last := int64(100)
	for round := 0; round < 200 || metric(t, registry, "millrace_feed_events_total", "jetstream") < 900; round++ {
		events := b.log.MustAppend(t, 5)
		r.Offer(events)
		last = events[4].Position
	}
	newest.await(t, last)
	oldest.await(t, last)
}

func TestWithoutNATS(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.startFeed(t, func(o *feed.Options) { o.NATS = nil })
	r := read(t, f, 0)
	for range 20 {
		b.log.MustAppend(t, 77)
	}
	r.await(t, 20*77)
}

func TestEndsAgreeWithTheLog(t *testing.T) {
	t.Parallel()
	b := setup(t)
	relay, _ := b.startRelay(t)
	b.log.MustAppend(t, 50)
	f := b.startFeed(t)
	for range 20 {
		events := b.log.MustAppend(t, 50)
		relay.Offer(events)
		waitFor(t, f, events[49].Position)
		wantHead, want, err := b.log.PartitionEnds(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		head, ends := f.Ends()
		if head != wantHead {
			t.Fatalf("the head is %d instead of %d", head, wantHead)
		}
		for p := range want {
			if ends[p] != want[p] {
				t.Fatalf("partition %d ends at %v instead of %v", p, ends[p], want[p])
			}
		}
	}
}

// What lay in the log before counts as wanted; of what comes then only what is.
func TestLastOf(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.log.MustAppend(t, 200)
	_, before, err := b.log.PartitionEnds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := b.startFeed(t)
	<-f.Ready()
	want := make([]int64, len(before))
	for p := range before {
		want[p] = before[p].Position
	}
	for round := range 20 {
		events := b.log.Events(50)
		for i := range events {
			if i%3 == round%3 {
				events[i].Type = "note.wanted"
				want[events[i].Partition] = events[i].Position
			}
		}
		if err := b.log.Commit(t.Context(), events); err != nil {
			t.Fatal(err)
		}
		waitFor(t, f, events[49].Position)
		got := f.LastOf(func(eventType string) bool { return eventType == "note.wanted" })
		if !slices.Equal(got, want) {
			t.Fatalf("the last wanted events are at %v, want %v", got, want)
		}
	}
	_, ends, err := b.log.PartitionEnds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for p, last := range f.LastOf(func(string) bool { return true }) {
		if last != ends[p].Position {
			t.Errorf("partition %d ends at %d, want %d", p, last, ends[p].Position)
		}
	}
}

func TestReadersBehindTheWindowReadPostgres(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.log.MustAppend(t, 3000)
	f := b.startFeed(t, func(o *feed.Options) { o.Window = 64 })
	r := read(t, f, 0)
	b.log.MustAppend(t, 3000)
	r.await(t, 6000)
	for _, after := range []int64{-3, 0, 2999, 5000, 5934, 5935, 5936, 5937, 5999} {
		events, err := f.After(t.Context(), after, 10)
		if err != nil {
			t.Fatal(err)
		}
		if len(events) == 0 || len(events) > 10 || events[0].Position != max(after, 0)+1 {
			t.Errorf("behind %d lie %d events from %d on", after, len(events), events[0].Position)
		}
	}
}

func TestWindowIsBoundedInBytes(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.startFeed(t, func(o *feed.Options) { o.WindowBytes = 10_000 })
	r := read(t, f, 0)
	b.log.MustAppend(t, 2000)
	r.await(t, 2000)
	events, err := f.After(t.Context(), 1000, 1000)
	if err != nil || len(events) != 1000 {
		t.Errorf("%d events, %v", len(events), err)
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.log.MustAppend(t, 3)
	f := b.startFeed(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := f.After(ctx, 3, 10); !errors.Is(err, context.Canceled) {
		t.Errorf("After ended with %v", err)
	}
	if known, err := f.WaitFor(ctx, 4, time.Now()); known || !errors.Is(err, context.Canceled) {
		t.Errorf("WaitFor ended with %t, %v", known, err)
	}
	if known, err := f.WaitFor(ctx, 3, time.Now()); !known || err != nil {
		t.Errorf("WaitFor of what is there ended with %t, %v", known, err)
	}
	if _, err := f.After(t.Context(), 0, 0); err == nil {
		t.Error("After takes a limit of 0")
	}
	failed := errors.New("failed")
	if err := f.Follow(t.Context(), 0, func([]es.Event) error { return failed }); !errors.Is(err, failed) {
		t.Errorf("Follow ended with %v", err)
	}
}

func TestUnknownAndBrokenEventsAreHandedOutUndecoded(t *testing.T) {
	t.Parallel()
	b := setup(t)
	relay, _ := b.startRelay(t)
	f := b.startFeed(t)
	events := b.log.Events(3)
	events[0].Type = "note.of.another.release"
	events[1].Data = []byte(`{"number":"not a number"}`)
	if err := b.log.Commit(t.Context(), events); err != nil {
		t.Fatal(err)
	}
	relay.Offer(events)
	waitFor(t, f, 3)
	got, err := f.After(t.Context(), 0, 10)
	if err != nil || len(got) != 3 {
		t.Fatalf("%d events, %v", len(got), err)
	}
	for i, want := range []any{nil, nil, logtest.Noted{Number: 3}} {
		if (got[i].Fact == nil) != (want == nil) || string(got[i].Data) != string(events[i].Data) {
			t.Errorf("event %d is %+v", i+1, got[i])
		}
	}
}
