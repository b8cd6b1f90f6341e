package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/cmd/millrace/audittest"
	"github.com/millrace/millrace/internal/devstack/stacktest"
)

// TestExactlyOnceUnderFaults kills, freezes and cuts off the processes of a shop while buyers buy, a read model is rebuilt and a
// file is imported. At the end everything that the shop shows equals a fold of its log by code of the audit's own, and the log
// says once, and only once, what clients were told.
//
// MILLRACE_TEST_CHAOS=2m makes the faults go on for longer; MILLRACE_TEST_SEED repeats those of another run.
func TestExactlyOnceUnderFaults(t *testing.T) {
	c := newChaos(t, crew{apis: 2, relays: 2, workers: 3, processes: 2})
	c.jobs = []*job{c.replay(), c.importing()}
	for c.suffer(chaosFor()); c.market.witness.answered() < enough && c.round < 8; {
		c.suffer(chaosFor()) // the machine has other things to do
	}
	c.settle(5 * time.Minute)
	findings, events := c.audit()
	for _, f := range findings {
		t.Error(f)
	}
	for _, lie := range c.market.witness.lies(events) {
		t.Error("clients: ", lie)
	}
	t.Logf("%s; %d events", &c.market.witness, len(events))
	if n := c.market.witness.answered(); n < enough {
		t.Errorf("%d commands were done, fewer than %d: too few to show anything", n, enough)
	}
	c.dismiss()
}

// enough is how many commands have to be done under faults.
const enough = 2000

// chaosVariable names the environment variable that says how long faults go on, such as 2m.
const chaosVariable = "MILLRACE_TEST_CHAOS"

// chaosFor is how long faults are injected.
func chaosFor() time.Duration {
	if d, err := time.ParseDuration(os.Getenv(chaosVariable)); err == nil {
		return d
	}
	return 25 * time.Second
}

// chaosSeed is the seed of the faults.
func chaosSeed() uint64 {
	if seed, err := strconv.ParseUint(os.Getenv("MILLRACE_TEST_SEED"), 10, 64); err == nil {
		return seed
	}
	return uint64(time.Now().UnixNano())
}

// crew says how many processes of each role there are.
type crew struct{ apis, relays, workers, processes int }

// chaos is a shop whose processes reach its servers through proxies of their own.
type chaos struct {
	t       *testing.T
	seed    uint64
	round   uint64
	calm    time.Duration  // the longest that a process is left in peace
	stack   *stacktest.Env // as processes find it, but for their proxies
	shop    audittest.Shop // as the audit finds it
	victims []*victim
	jobs    []*job
	market  *market
}

// newChaos starts the processes. What changes names, or sets up, the servers and processes otherwise.
func newChaos(t *testing.T, n crew, changes ...func(*chaos) (env []string)) *chaos {
	t.Helper()
	c := &chaos{t: t, seed: chaosSeed(), calm: 4 * time.Second, stack: stacktest.New(t)}
	t.Logf("MILLRACE_TEST_SEED=%d has the same faults", c.seed)
	c.shop = auditedShop(t, c.stack)
	var env []string
	for _, change := range changes {
		env = append(env, change(c)...)
	}
	var urls []string
	for range n.apis {
		addr := freeAddr(t)
		urls = append(urls, "http://"+addr+"/graphql")
		c.hire(env, "api", "--addr", addr)
	}
	for range n.relays {
		c.hire(env, "relay")
	}
	for i := range n.workers {
		if i < 2 {
			c.hire(env, "worker")
		} else {
			c.hire(env, "worker", "--projection", "stock", "--projection", "orders", "--projection", "carts")
		}
	}
	for range n.processes {
		c.hire(env, "process")
	}
	c.awaitAPIs()
	c.market = newMarket(t, urls)
	return c
}

func (c *chaos) awaitAPIs() {
	c.t.Helper()
	for _, v := range c.victims {
		if v.role() == "api" {
			await(c.t, "the api to be ready", 2*time.Minute, func() bool { return ready(v.args[2]) })
		}
	}
}

// auditedShop connects the audit to the servers, with nothing between.
func auditedShop(t *testing.T, e *stacktest.Env) audittest.Shop {
	t.Helper()
	s := audittest.Shop{Primary: connect(t, e.DatabaseURL)}
	for _, url := range e.ReplicaURLs {
		s.Replicas = append(s.Replicas, connect(t, url))
	}
	client, err := openRedis(e.RedisURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	conn, err := nats.Connect(e.NATSURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if s.JetStream, err = jetstream.New(conn); err != nil {
		t.Fatal(err)
	}
	s.Redis = client
	return s
}

// hire starts a process that reaches each server through a proxy of its own.
func (c *chaos) hire(env []string, args ...string) {
	c.t.Helper()
	v := &victim{name: fmt.Sprintf("%s %d", args[0], len(c.victims)), links: make(map[string]*stacktest.Proxy)}
	e := *c.stack
	e.ReplicaURLs = slices.Clone(e.ReplicaURLs)
	for server, url := range map[string]*string{"primary": &e.DatabaseURL, "replica": &e.ReplicaURLs[0], "Redis": &e.RedisURL, "NATS": &e.NATSURL} {
		v.links[server], *url = stacktest.ProxyURL(c.t, *url)
	}
	v.child = spawn(c.t, append(append(shopEnv(&e), "MILLRACE_PAYMENT_DEADLINE="+paymentDeadline.String()), env...), args...)
	c.victims = append(c.victims, v)
}

// paymentDeadline is short, so that orders whose payment is never answered are over when the test is.
const paymentDeadline = 10 * time.Second

// suffer injects faults into processes of some roles while clients are busy; none means all. When it returns all processes
// run, and reach all servers.
func (c *chaos) suffer(d time.Duration, roles ...string) {
	c.t.Helper()
	c.round++
	var victims []*victim
	for _, v := range c.victims {
		v.revive()
		if len(roles) == 0 || slices.Contains(roles, v.role()) {
			victims = append(victims, v)
		}
	}
	c.awaitAPIs()
	round, p := c.round, newPlan(rand.New(rand.NewPCG(c.seed, c.round)), victims, c.jobs, d, c.calm)
	c.t.Cleanup(func() {
		if c.t.Failed() {
			c.t.Logf("faults of round %d:\n%s", round, p)
		}
	})
	empty := c.market.open(c.t, c.seed)
	p.carryOut(c.t)
	empty()
	for _, j := range c.jobs {
		j.finish()
	}
	c.jobs = nil
}

// settle returns when the log is at its end and all that is made of it has come there, but for what is broken on purpose; or after a
// while all the same: then the audit tells what lacks. Nobody is left who appends.
func (c *chaos) settle(within time.Duration, broken ...audittest.Area) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), within)
	defer cancel()
	if slices.ContainsFunc(c.victims, func(v *victim) bool { return v.role() == "process" }) {
		// Tasks of processes that were killed are claimed for longer than anybody wants to wait. Claims that are forgotten repeat nothing.
		if _, err := c.shop.Primary.Exec(ctx, `DELETE FROM process_attempts`); err != nil {
			c.t.Fatal(err)
		}
		if !reached(ctx, func() bool { return openTasks(ctx, c.t, c.shop.Primary) == 0 }) {
			c.t.Errorf("%d payments are open after %s", openTasks(c.t.Context(), c.t, c.shop.Primary), within)
		}
	}
	for _, v := range c.victims {
		if v.role() == "api" || v.role() == "process" {
			v.dismiss()
		}
	}
	reached(ctx, func() bool {
		behind, err := audittest.Behind(ctx, c.shop)
		return err == nil && !slices.ContainsFunc(behind, func(f audittest.Finding) bool { return !slices.Contains(broken, f.Area) })
	})
}

// openTasks counts what the payment process has to do now, as the log has it: orders that wait, cancelled ones whose payment is to be let go,
// and those sent whose payment is to be taken.
func openTasks(ctx context.Context, t *testing.T, pool *pgxpool.Pool) (n int) {
	t.Helper()
	err := pool.QueryRow(ctx, `SELECT
		(SELECT count(*) FROM events p WHERE type = 'order.placed' AND data ->> 'imported' IS NULL AND NOT EXISTS (
			SELECT FROM events e WHERE e.stream = p.stream AND e.type IN ('order.confirmed', 'order.cancelled'))) +
		(SELECT count(*) FROM events o JOIN events a ON a.stream = 'payment-' || substr(o.stream, 7) AND a.type = 'payment.authorised'
			WHERE o.type IN ('order.cancelled', 'order.fulfilled') AND a.data ->> 'reference' <> 'imported' AND NOT EXISTS (
			SELECT FROM events d WHERE d.stream = a.stream AND d.type IN ('payment.voided', 'payment.captured')))`).Scan(&n)
	if err != nil && ctx.Err() == nil {
		t.Fatal(err)
	}
	return n
}

// reached polls until the condition holds, and reports whether it did before the context ended.
func reached(ctx context.Context, condition func() bool) bool {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// audit compares everything with the log.
func (c *chaos) audit() ([]audittest.Finding, []audittest.Event) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	findings, events, err := audittest.Audit(ctx, c.shop)
	if err != nil {
		c.t.Fatal(err)
	}
	return findings, events
}

// dismiss has all processes end, as they should when told to.
func (c *chaos) dismiss() {
	c.t.Helper()
	for _, v := range c.victims {
		v.dismiss()
		if strings.Contains(v.out.String(), "DATA RACE") {
			c.t.Errorf("%s has a data race", v.name)
		}
	}
}
