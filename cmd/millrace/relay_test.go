package main

import (
	"testing"

	"github.com/millrace/millrace/internal/devstack/stacktest"
)

// TestAWindowOfTheLogInJetStream has a relay keep the newest events in JetStream, as many as it is told to. Whoever needs
// older ones reads PostgreSQL: a rebuild, and a verification.
func TestAWindowOfTheLogInJetStream(t *testing.T) {
	t.Parallel()
	e := stacktest.New(t)
	env := append(shopEnv(e), "MILLRACE_STREAM_WINDOW=10")
	w := openWindow(t, env, 1)
	var received struct {
		StockReceive struct{ UserErrors userErrors }
	}
	for range 30 {
		mustAsk(t, w.url(0), `mutation { stockReceive(input: {sku: "LANTERN", quantity: 1}) { userErrors { code message } } }`, nil, &received)
		if err := received.StockReceive.UserErrors.err(); err != nil {
			t.Fatal(err)
		}
	}
	shop := auditedShop(t, e)
	var head uint64
	if err := shop.Primary.QueryRow(t.Context(), `SELECT max(position) FROM events`).Scan(&head); err != nil {
		t.Fatal(err)
	}
	await(t, "JetStream to hold the newest ten events", settle, func() bool {
		for stream := range shop.JetStream.ListStreams(t.Context()).Info() {
			return stream.State.LastSeq == head && stream.State.Msgs == 10
		}
		return false
	})
	replay := spawn(t, env, "replay", "--all")
	<-replay.done
	verify := spawn(t, env, "verify")
	<-verify.done
	for _, c := range []*child{replay, verify} {
		if code := c.cmd.ProcessState.ExitCode(); code != exitOK {
			t.Errorf("millrace %s ended with %d", c.args[0], code)
		}
	}
}
