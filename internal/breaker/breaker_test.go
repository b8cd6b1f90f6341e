package breaker_test

import (
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/millrace/millrace/internal/breaker"
)

// TestBreaker takes a breaker through its states, with what its metrics tell of each.
func TestBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics := prometheus.NewRegistry()
		b := breaker.New(breaker.Options{Name: "replica 1", Logger: slog.New(slog.DiscardHandler), Metrics: metrics})
		breaker.New(breaker.Options{Name: "replica 2", Logger: slog.New(slog.DiscardHandler), Metrics: metrics}) // they have room beside each other
		tell := func(when string, state, refused string) {
			t.Helper()
			if err := testutil.GatherAndCompare(metrics, strings.NewReader(`
# HELP millrace_breaker_refused_total Calls that were not made because a server does not answer.
# TYPE millrace_breaker_refused_total counter
millrace_breaker_refused_total{breaker="replica 1"} `+refused+`
millrace_breaker_refused_total{breaker="replica 2"} 0
# HELP millrace_breaker_state Circuit breaker before a server: 0 closed, all calls are made; 1 half-open, one at a time is tried; 2 open, none is made.
# TYPE millrace_breaker_state gauge
millrace_breaker_state{breaker="replica 1"} `+state+`
millrace_breaker_state{breaker="replica 2"} 0
`)); err != nil {
				t.Errorf("%s: %v", when, err)
			}
		}
		allow := func(want bool) {
			t.Helper()
			if got := b.Allow(); got != want {
				t.Fatalf("a call is let through: %v", got)
			}
		}

		for _, end := range []func(){b.Failed, b.Failed, b.Succeeded, b.Failed, b.Abandoned, b.Failed} {
			allow(true)
			end()
		}
		tell("failures that are not in a row", "0", "0")
		allow(true)
		b.Failed()
		allow(false)
		if b.Closed() || !b.Waits() {
			t.Error("it is not open after three failures in a row")
		}
		tell("open", "2", "1")

		time.Sleep(breaker.Pause)
		if b.Waits() {
			t.Error("it waits for longer than its pause")
		}
		allow(true)
		allow(false) // another one is being tried
		tell("half-open", "1", "2")
		b.Failed()
		allow(false)
		tell("open again", "2", "3")

		time.Sleep(breaker.Pause)
		allow(true)
		b.Abandoned() // or nobody would be let through any more
		allow(false)
		time.Sleep(breaker.Pause)
		allow(true)
		b.Succeeded()
		for range 10 {
			allow(true)
		}
		tell("closed again", "0", "4")
		b.Refuse()
		tell("a call that the caller itself does not make", "0", "5")
	})
}
