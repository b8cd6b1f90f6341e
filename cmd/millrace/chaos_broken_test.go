package main

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/millrace/millrace/cmd/millrace/audittest"
	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// TestBrokenPromisesAreFound breaks one promise at a time, each in a way that nothing but faults brings to light, and has the
// same faults and the same audit as TestExactlyOnceUnderFaults find it: an audit that finds nothing has failed. Like that test it has
// the machine for itself: others measure times. What takes the right fault at the right moment is looked for where MILLRACE_TEST_CHAOS
// gives it the time.
func TestBrokenPromisesAreFound(t *testing.T) {
	for _, b := range []struct {
		promise string
		area    audittest.Area // where it shows, and nowhere else
		role    string         // of those that suffer
		broken  func(*chaos) (env []string)
		rare    bool
	}{
		{"rows and checkpoint move in one commit", audittest.Postgres, "worker", func(*chaos) []string { return []string{beBroken + "=checkpoint-alone"} }, false},
		{"documents change by compare-and-set", audittest.Redis, "worker", writeWithoutComparing, true},
		{"each publish expects the sequence before its own", audittest.JetStream, "relay", publishWithoutExpecting, false},
	} {
		if b.rare && os.Getenv(chaosVariable) == "" {
			continue
		}
		t.Run(b.promise, func(t *testing.T) {
			const length, rounds = 6 * time.Second, 20
			c := newChaos(t, crew{apis: 1, relays: 2, workers: 2}, b.broken)
			c.calm = time.Second
			for c.round < rounds {
				c.suffer(length, b.role)
				c.settle(time.Minute, b.area)
				findings, events := c.audit()
				t.Logf("round %d: %s; %d events", c.round, &c.market.witness, len(events))
				for i, f := range findings {
					if f.Area != b.area {
						t.Errorf("something else is broken: %s", f)
					} else if i < 3 {
						t.Log("found: ", f)
					}
				}
				if slices.ContainsFunc(findings, func(f audittest.Finding) bool { return f.Area == b.area }) {
					return
				}
			}
			t.Errorf("nothing was found in %d rounds of %s", rounds, length)
		})
	}
}

// beBroken names what is wrong with the processes that have it in their environment.
const beBroken = "MILLRACE_TEST_BE_BROKEN"

// breakPromises makes this process break a promise, if its environment says so.
func breakPromises() {
	if os.Getenv(beBroken) != "checkpoint-alone" {
		return
	}
	whole := allProjections
	allProjections = func() []projector.Projection {
		projections := whole()
		for i := range projections {
			if p := projections[i].Postgres; p != nil {
				projections[i].Postgres = &projector.Postgres{Schema: p.Schema, Apply: checkpointAlone(p.Apply)}
			}
		}
		return projections
	}
}

// checkpointAlone commits the checkpoints, which are queued already, and folds the events in a transaction that comes later.
func checkpointAlone(apply func(context.Context, *projector.Tx, []es.Event) error) func(context.Context, *projector.Tx, []es.Event) error {
	return func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
		for _, statement := range []string{`commit`, `begin`, `SELECT pg_sleep(0.1)`} {
			if _, err := tx.Exec(ctx, statement); err != nil {
				return err
			}
		}
		return apply(ctx, tx, events)
	}
}

// writeWithoutComparing takes the comparison out of the script that writes documents. The server may know the script as it should be: it is
// made to forget the name that it is called by.
func writeWithoutComparing(c *chaos) []string {
	c.t.Helper()
	var proxy *stacktest.Proxy
	proxy, c.stack.RedisURL = stacktest.ProxyURL(c.t, c.stack.RedisURL)
	proxy.Rewrite(`(?i)evalsha\r\n\$40\r\n[0-9a-f]{40}`, "evalsha\r\n$40\r\n0000000000000000000000000000000000000000")
	proxy.Rewrite(`if found ~= ARGV\[1\] then return found end`, "found = ARGV[1]")
	return nil
}

// publishWithoutExpecting has JetStream take whatever comes next.
func publishWithoutExpecting(c *chaos) []string {
	c.t.Helper()
	var proxy *stacktest.Proxy
	proxy, c.stack.NATSURL = stacktest.ProxyURL(c.t, c.stack.NATSURL)
	proxy.Rewrite(`Nats-Expected-Last-Sequence:`, `Void-Expected-Last-Sequence:`)
	return nil
}
