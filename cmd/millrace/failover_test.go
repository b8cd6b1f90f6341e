package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/devstack/stacktest"
)

// receive takes units of the SKU of openWindow in, one event each.
func (w *window) receive(units int) {
	w.t.Helper()
	for range units {
		var received struct {
			StockReceive struct{ UserErrors userErrors }
		}
		mustAsk(w.t, w.url(0), `mutation { stockReceive(input: {sku: "LANTERN", quantity: 1}) { userErrors { code message } } }`, nil, &received)
		if err := received.StockReceive.UserErrors.err(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// shows waits until the shop shows so many units.
func (w *window) shows(units int) {
	w.t.Helper()
	await(w.t, "the shop to show what it has", settle, func() bool {
		var shown struct {
			Product struct{ Variants []struct{ Available int } }
		}
		mustAsk(w.t, w.url(0), `{ product(slug: "lantern") { variants { available } } }`, nil, &shown)
		return len(shown.Product.Variants) == 1 && shown.Product.Variants[0].Available == units
	})
}

// verifies has millrace verify find no difference.
func verifies(t *testing.T, env []string) {
	t.Helper()
	verify := spawn(t, env, "verify")
	if <-verify.done; verify.cmd.ProcessState.ExitCode() != exitOK {
		t.Errorf("verify ended with %d:\n%s", verify.cmd.ProcessState.ExitCode(), verify.out)
	}
}

// TestAFailoverThatLosesEvents promotes a replica that lacks the last events, which JetStream, Redis and readers have seen, while processes of the old
// primary still run. Nothing that they have left is believed, although other events are at those positions now.
func TestAFailoverThatLosesEvents(t *testing.T) {
	t.Parallel()
	stack := stacktest.Private(t, stacktest.WithReplicas(1))
	env := func(primary string, replicas ...string) []string {
		return shopEnv(&stacktest.Env{DatabaseURL: primary, ReplicaURLs: replicas, RedisURL: stack.RedisURL(), NATSURL: stack.NATSURL()})
	}
	before := openWindow(t, env(stack.PostgresURL(), stack.ReplicaURLs()...), 1)
	before.receive(5)
	before.shows(15)
	replica := connect(t, stack.ReplicaURLs()[0])
	await(t, "the replica to have what there is", settle, func() bool {
		var received int
		err := replica.QueryRow(t.Context(), `SELECT count(*) FROM events WHERE type = 'stock.received'`).Scan(&received)
		return err == nil && received == 6
	})
	mustDo(t, stack.Replica(0).Kill())
	before.receive(7)
	before.shows(22)
	mustDo(t, stack.Primary().Kill())
	mustDo(t, stack.Replica(0).Start(t.Context()))
	mustDo(t, stack.Promote(t.Context(), 0))

	promoted := env(stack.ReplicaURLs()[0])
	after := reopenWindow(t, promoted, 1)
	after.receive(3)
	after.shows(18)
	verifies(t, promoted)
}

func mustDo(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestAnEpochThatIsRaised has all processes end, and make anew what was derived from the log.
func TestAnEpochThatIsRaised(t *testing.T) {
	t.Parallel()
	env := shopEnv(stacktest.New(t))
	w := openWindow(t, env, 1)
	w.receive(5)
	w.shows(15)
	raise := spawn(t, env, "epoch", "--raise")
	if <-raise.done; raise.cmd.ProcessState.ExitCode() != exitOK || !strings.Contains(raise.out.String(), "has entered epoch") {
		t.Fatalf("epoch --raise ended with %d:\n%s", raise.cmd.ProcessState.ExitCode(), raise.out)
	}
	for _, c := range w.processes {
		if <-c.done; c.cmd.ProcessState.ExitCode() != exitError || !strings.Contains(c.out.String(), "another epoch") {
			t.Errorf("%s ended with %d:\n%s", c.args[0], c.cmd.ProcessState.ExitCode(), c.out)
		}
	}
	for _, c := range slices.Backward(w.processes) {
		c.start()
	}
	await(t, "the api to be ready", settle, func() bool { return ready(w.addrs[0]) })
	w.receive(1)
	w.shows(16)
	verifies(t, env)
}
