package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/migrations"
)

// shelf is a shop with one SKU in every partition, an api, and workers that come and go.
type shelf struct {
	t     *testing.T
	stack *stacktest.Env
	env   []string
	addr  string
	url   string
	pool  *pgxpool.Pool
	skus  []string // by partition

	received int   // units of each SKU
	position int64 // the end of the log when they had been received
}

// newShelf starts an api, a relay and as many workers of everything as asked for, and creates the SKUs.
func newShelf(t *testing.T, partitions, workers int) (*shelf, []*child) {
	t.Helper()
	e := stacktest.New(t, stacktest.WithSettings(migrations.Settings{Partitions: partitions, Currency: "GBP", TimeZone: "Europe/London"}))
	s := &shelf{t: t, stack: e, env: shopEnv(e), addr: freeAddr(t), pool: connect(t, e.DatabaseURL), skus: make([]string, partitions)}
	s.url = "http://" + s.addr + "/graphql"
	spawn(t, s.env, "api", "--addr", s.addr)
	spawn(t, s.env, "relay")
	var spawned []*child
	for range workers {
		spawned = append(spawned, spawn(t, s.env, "worker"))
	}
	await(t, "the api to be ready", settle, func() bool { return ready(s.addr) })
	for found, i := 0, 0; found < partitions; i++ {
		sku := fmt.Sprintf("SHELF-%d", i)
		if n := es.PartitionOf("stock-"+sku, partitions); s.skus[n] == "" {
			s.skus[n] = sku
			found++
		}
	}
	var variants []map[string]string
	for _, sku := range s.skus {
		variants = append(variants, map[string]string{"sku": sku, "price": "1.00"})
	}
	var created struct {
		ProductCreate struct{ UserErrors []struct{ Message string } }
	}
	mustAsk(t, s.url, `mutation($v: [VariantInput!]!) { productCreate(input: {title: "Shelf", slug: "shelf", status: ACTIVE, variants: $v}) { userErrors { message } } }`,
		map[string]any{"v": variants}, &created)
	if len(created.ProductCreate.UserErrors) > 0 {
		t.Fatalf("the product was refused: %+v", created)
	}
	return s, spawned
}

// shopEnv names the servers of a shop to its processes.
func shopEnv(e *stacktest.Env) []string {
	return []string{
		"MILLRACE_DATABASE_URL=" + e.DatabaseURL, "MILLRACE_REPLICA_URLS=" + strings.Join(e.ReplicaURLs, ","),
		"MILLRACE_REDIS_URL=" + e.RedisURL, "MILLRACE_NATS_URL=" + e.NATSURL, "MILLRACE_STAFF_TOKEN=" + testStaffToken,
		"MILLRACE_SECRET_KEY=" + strings.Repeat("5a", 32),
	}
}

// receive takes one unit of every SKU in: one event in every partition.
func (s *shelf) receive() {
	s.t.Helper()
	var q strings.Builder
	q.WriteString("mutation {")
	for i, sku := range s.skus {
		fmt.Fprintf(&q, ` p%d: stockReceive(input: {sku: %q, quantity: 1}) { userErrors { message } }`, i, sku)
	}
	q.WriteString(" }")
	if _, err := ask(s.t.Context(), s.url, q.String(), nil); err != nil {
		s.t.Fatal(err)
	}
	s.received++
	s.query(`SELECT max(position) FROM events`, nil, &s.position)
}

func (s *shelf) query(sql string, args []any, into ...any) {
	s.t.Helper()
	if err := s.pool.QueryRow(s.t.Context(), sql, args...).Scan(into...); err != nil {
		s.t.Fatal(err)
	}
}

// visible reports whether readers see all that was received, of every SKU, and every model in PostgreSQL has come so far.
func (s *shelf) visible() bool {
	var list struct {
		Product struct {
			Variants []struct{ Available int }
		}
	}
	a, err := ask(s.t.Context(), s.url, `{ product(slug: "shelf") { variants { available } } }`, nil)
	if err != nil || json.Unmarshal(a.Data, &list) != nil || len(list.Product.Variants) != len(s.skus) {
		return false
	}
	for _, v := range list.Product.Variants {
		if v.Available > s.received {
			s.t.Errorf("%d units are seen of %d", v.Available, s.received)
		}
		if v.Available != s.received {
			return false
		}
	}
	var behind int
	s.query(`SELECT count(*) FROM checkpoints c JOIN projections p ON p.name = c.projection AND p.generation = c.generation AND p.status = 'live'
		WHERE c.store = 'postgres' AND c.position < (SELECT max(position) FROM events e WHERE e.partition = c.partition AND e.position <= $1)`,
		[]any{s.position}, &behind)
	return behind == 0
}

// busy keeps the shop busy with another product until the test ends or it is stopped.
func (s *shelf) busy() (stop func()) {
	s.t.Helper()
	var created struct{ ProductCreate struct{ Position string } }
	mustAsk(s.t, s.url, `mutation { productCreate(input: {title: "Busy", variants: [{sku: "BUSY", price: "1.00"}]}) { position } }`, nil, &created)
	ctx, cancel := context.WithCancel(s.t.Context())
	var buyers sync.WaitGroup
	for range 4 {
		buyers.Go(func() {
			for ctx.Err() == nil {
				_, err := ask(ctx, s.url, `mutation { stockReceive(input: {sku: "BUSY", quantity: 1}) { userErrors { message } }
					cartCreate(input: {lines: [{sku: "`+s.skus[0]+`", quantity: 1}]}) { userErrors { message } } }`, nil)
				if err != nil && ctx.Err() == nil {
					s.t.Errorf("while it is busy: %v", err)
					return
				}
			}
		})
	}
	stop = func() { cancel(); buyers.Wait() }
	s.t.Cleanup(stop)
	return stop
}

// shares returns, by worker, how many partitions of each read model it has a valid lease of.
func (s *shelf) shares() map[string]map[string]int {
	s.t.Helper()
	rows, err := s.pool.Query(s.t.Context(), `SELECT worker, projection, count(*) FROM leases WHERE worker IS NOT NULL AND expires_at > now() GROUP BY 1, 2`)
	if err != nil {
		s.t.Fatal(err)
	}
	shares := map[string]map[string]int{}
	var worker, projection string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&worker, &projection, &n}, func() error {
		if shares[worker] == nil {
			shares[worker] = map[string]int{}
		}
		shares[worker][projection] = n
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	return shares
}

// fair reports whether these processes have all partitions of what each takes, none of them two more than another of
// any model, nor, where all take the same, altogether.
func (s *shelf) fair(workers ...*child) bool {
	shares := s.shares()
	perModel, totals, alike := map[string][]int{}, []int{}, true
	for _, w := range workers {
		share := s.of(shares, w)
		total := 0
		for _, p := range allProjections() {
			takes := len(w.args) == 1 || slices.Contains(w.args, p.Name)
			if !takes && share[p.Name] > 0 {
				return false
			}
			if takes {
				perModel[p.Name] = append(perModel[p.Name], share[p.Name])
				total += share[p.Name]
			}
			alike = alike && takes
		}
		totals = append(totals, total)
	}
	for _, p := range allProjections() {
		if !even(perModel[p.Name], len(s.skus)) {
			return false
		}
	}
	return !alike || even(totals, len(allProjections())*len(s.skus))
}

// even reports whether counts add up to sum and differ by one at most.
func even(counts []int, sum int) bool {
	have := 0
	for _, c := range counts {
		have += c
	}
	return have == sum && slices.Max(counts)-slices.Min(counts) <= 1
}

// of returns what a process has.
func (s *shelf) of(shares map[string]map[string]int, w *child) map[string]int {
	for id, share := range shares {
		if strings.Contains(id, fmt.Sprintf("/%d/", w.cmd.Process.Pid)) {
			return share
		}
	}
	return nil
}

// settle is how long a machine that is busy with other tests may take to come to rest.
const settle = time.Minute

// bound is how long a test waits for what operators are promised within a time: just that where MILLRACE_TEST_PROMISES
// is set, since the test has the machine for itself then; elsewhere what it took is in the log.
func bound(promised time.Duration) time.Duration {
	if os.Getenv("MILLRACE_TEST_PROMISES") != "" {
		return promised
	}
	return promised + settle
}

// measure awaits a condition that is promised within a time, and logs how long it took.
func (s *shelf) measure(what string, promised time.Duration, began time.Time, condition func() bool) {
	s.t.Helper()
	await(s.t, what, bound(promised), condition)
	s.t.Logf("%-60s %8s (promised %s)", what, time.Since(began).Round(10*time.Millisecond), promised)
}

// TestWorkersComeAndGo measures what operators are promised of workers that join, leave, die, are cut off and stall, while
// the shop is busy: by their leases, and by when readers see the events of their partitions.
func TestWorkersComeAndGo(t *testing.T) {
	t.Parallel()
	s, workers := newShelf(t, 16, 2)
	a, b := workers[0], workers[1]
	await(t, "two to share", settle, func() bool { return s.fair(a, b) })
	s.receive()
	await(t, "the first units", settle, s.visible)
	stop := s.busy()

	proxies, through := s.proxies()
	began := time.Now()
	c := spawn(t, through, "worker")
	s.measure("joined: it has its share", 2*time.Second, began, func() bool { return s.fair(a, b, c) })

	began = time.Now()
	if err := a.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.receive()
	s.measure("told to stop: its events are seen", time.Second, began, s.visible)
	s.measure("told to stop: the others have its partitions", time.Second, began, func() bool { return s.fair(b, c) })
	<-a.done
	if code := a.cmd.ProcessState.ExitCode(); code != exitOK {
		t.Errorf("it ended with %d", code)
	}

	a.start()
	await(t, "three to share", settle, func() bool { return s.fair(a, b, c) })
	began = time.Now()
	a.kill()
	s.receive()
	s.measure("killed: its events are seen", 5*time.Second, began, s.visible)
	s.measure("killed: the others have its partitions", 5*time.Second, began, func() bool { return s.fair(b, c) })

	began = time.Now()
	for _, p := range proxies {
		p.Stall()
	}
	s.receive()
	s.measure("cut off from everything: its events are seen", 5*time.Second, began, s.visible)
	s.measure("cut off from everything: another has its partitions", 5*time.Second, began, func() bool { return s.fair(b) })
	for _, p := range proxies {
		p.Heal()
	}
	await(t, "the one that was cut off to be back", settle, func() bool { return s.fair(b, c) })

	began = time.Now()
	if err := b.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	s.receive()
	s.measure("stalled: its events are seen", 5*time.Second, began, s.visible)
	s.measure("stalled: another has its partitions", 5*time.Second, began, func() bool { return s.fair(c) })
	s.receive()
	<-time.After(stalledFor() - time.Since(began))
	if err := b.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.receive()
	await(t, "the one that was stalled to be back", settle, func() bool { return s.fair(b, c) })
	stop()
	s.receive()
	await(t, "the last units", settle, s.visible)
	s.verify()
}

// stalledFor is how long a worker is stopped altogether: beyond its leases is what matters. Operators are promised a
// minute, and MILLRACE_TEST_STALL=1m has it.
func stalledFor() time.Duration {
	d, err := time.ParseDuration(os.Getenv("MILLRACE_TEST_STALL"))
	if err != nil {
		return 3 * time.Second
	}
	return d
}

// TestMoreWorkersThanPartitions has workers of everything and workers of one model, more of both than there are partitions:
// those without a partition stand by.
func TestMoreWorkersThanPartitions(t *testing.T) {
	t.Parallel()
	s, all := newShelf(t, 2, 3)
	some := []*child{spawn(t, s.env, "worker", "--projection", "stock"), spawn(t, s.env, "worker", "--projection", "stock")}
	await(t, "five to share", settle, func() bool { return s.fair(append(some, all...)...) })
	s.receive()
	await(t, "the first units", settle, s.visible)
	// However many die at once, and whoever they are, there is one who stands by.
	for _, w := range append(all[1:], some...) {
		w.kill()
	}
	s.receive()
	await(t, "the last one to take over", bound(5*time.Second), func() bool { return s.fair(all[0]) })
	await(t, "the units of those who stood by", bound(5*time.Second), s.visible)
}

// TestWorkersTakeModelsThatThereAre tells what there is to who asks for something else.
func TestWorkersTakeModelsThatThereAre(t *testing.T) {
	t.Parallel()
	var out, err strings.Builder
	if code := run(t.Context(), []string{"worker", "--projection", "orders", "--projection", "order"}, &out, &err); code != exitUsage {
		t.Errorf("it ended with %d", code)
	}
	want := "millrace: there is no projection \"order\"; there are carts, catalogue, orders, payments, sales, stock\n"
	if err.String() != want || out.Len() > 0 {
		t.Errorf("it printed %q and %q, want %q", out.String(), err.String(), want)
	}
}

// proxies are three that stand before PostgreSQL, Redis and NATS, with the environment of a process that goes through them.
func (s *shelf) proxies() ([]*stacktest.Proxy, []string) {
	s.t.Helper()
	e := *s.stack
	var proxies []*stacktest.Proxy
	for _, url := range []*string{&e.DatabaseURL, &e.RedisURL, &e.NATSURL} {
		var p *stacktest.Proxy
		p, *url = stacktest.ProxyURL(s.t, *url)
		proxies = append(proxies, p)
	}
	e.ReplicaURLs = nil
	return proxies, shopEnv(&e)
}

// verify holds the log, JetStream and the read models against each other.
func (s *shelf) verify() {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Minute)
	defer cancel()
	v := spawn(s.t, s.env, "verify")
	select {
	case <-v.done:
	case <-ctx.Done():
		s.t.Fatal("verify does not end")
	}
	if code := v.cmd.ProcessState.ExitCode(); code != exitOK {
		s.t.Errorf("verify ended with %d:\n%s", code, v.out)
	}
}
