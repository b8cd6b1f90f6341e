package relay_test

import (
	"context"
	"testing"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/jetstreamlog"
	"github.com/millrace/millrace/internal/jetstreamlog/logtest"
	"github.com/millrace/millrace/internal/postgres"
	"github.com/millrace/millrace/internal/relay"
)

// BenchmarkReload copies a log from the beginning, as after the loss of JetStream's data.
func BenchmarkReload(b *testing.B) {
	env := stacktest.New(b)
	log := logtest.Open(b, env.DatabaseURL)
	const events = 200_000
	log.MustAppend(b, events)
	undecoded, err := postgres.OpenLog(b.Context(), log.Pool, es.NewCodec())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		if err := env.NATS.Wipe(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		nc, js := logtest.Connect(b, env.NATSURL)
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() {
			done <- relay.New(relay.Options{Log: undecoded, Info: log.Info(), NATS: nc, Logger: logtest.Logger()}).Run(ctx)
		}()
		logtest.AwaitCopy(b, js, log.Info(), events)
		cancel()
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(events*b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkOffer measures the time from the offer of one event to its place in JetStream, one event at a time.
func BenchmarkOffer(b *testing.B) {
	env := stacktest.New(b)
	log := logtest.Open(b, env.DatabaseURL)
	nc, js := logtest.Connect(b, env.NATSURL)
	r := relay.New(relay.Options{Log: log, Info: log.Info(), NATS: nc, Logger: logtest.Logger()})
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	logtest.AwaitCopy(b, js, log.Info(), 0)
	sub, err := nc.SubscribeSync(jetstreamlog.Subjects)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		b.StopTimer()
		events := log.MustAppend(b, 1)
		b.StartTimer()
		r.Offer(events)
		if _, err := sub.NextMsgWithContext(ctx); err != nil {
			b.Fatal(err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}
