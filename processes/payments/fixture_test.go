package payments_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/feed"
	"github.com/millrace/millrace/internal/postgres"
	"github.com/millrace/millrace/internal/projector"
	"github.com/millrace/millrace/internal/vault"
	"github.com/millrace/millrace/processes/payments"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// fixture is a shop on a log of a test's own, which sells as many mugs as anybody wants for 5.00.
type fixture struct {
	t      *testing.T
	pool   *pgxpool.Pool
	log    *postgres.Log
	writer *postgres.Writer
	app    *commands.App
	models *projector.Models
	feed   *feed.Feed
}

func setup(t *testing.T, deadline time.Duration) *fixture {
	t.Helper()
	env := stacktest.New(t, stacktest.WithoutNATS())
	f := &fixture{t: t}
	var err error
	f.pool, err = pgxpool.New(t.Context(), env.DatabaseURL)
	must(t, err)
	t.Cleanup(f.pool.Close)
	codec, secret := commands.Codec(), bytes.Repeat([]byte("s"), 32)
	f.log, err = postgres.OpenLog(t.Context(), f.pool, codec)
	must(t, err)
	f.writer = postgres.NewWriter(f.log, postgres.WriterOptions{Categories: commands.Categories(), Log: logger(t)})
	background(t, f.writer.Run)
	events := feed.New(feed.Options{Log: f.log, Info: f.log.Info(), Codec: codec, Logger: logger(t)})
	background(t, events.Run)
	f.feed = events
	projections := []projector.Projection{payments.Projection()}
	worker, err := projector.NewWorker(projector.WorkerOptions{
		Pool: f.pool, Feed: events, Log: f.log, Codec: codec, Info: f.log.Info(), Projections: projections, Logger: logger(t),
	})
	must(t, err)
	background(t, worker.Run)
	f.models, err = projector.NewModels(projector.ModelsOptions{
		Primary: f.pool, Feed: events, Info: f.log.Info(), Projections: projections, Logger: logger(t),
	})
	must(t, err)
	background(t, f.models.Run)
	keys, err := vault.New(vault.Options{Pool: f.pool, Secret: secret})
	must(t, err)
	f.app, err = commands.New(commands.Dependencies{
		Executor: f.writer, Reader: f.log, Vault: keys, Secret: secret, Currency: "GBP", PaymentDeadline: deadline,
	})
	must(t, err)
	_, err = f.app.ProductCreate(t.Context(), commands.ProductCreate{
		Title: "Mug", Status: catalog.StatusActive, Variants: []commands.VariantInput{{SKU: "MUG", Price: "5.00"}},
	})
	must(t, err)
	_, err = f.app.StockReceive(t.Context(), commands.StockReceive{SKU: "MUG", Quantity: 100_000})
	must(t, err)
	return f
}

// run has a runner work until the test ends.
func (f *fixture) run(provider payments.Provider, change func(*payments.Options)) *payments.Runner {
	f.t.Helper()
	o := payments.Options{
		Commands: f.app, Feed: f.feed, Models: f.models, Pool: f.pool, Provider: provider,
		Interval: 20 * time.Millisecond, CallTimeout: 500 * time.Millisecond, Grace: time.Second, Logger: logger(f.t),
	}
	if change != nil {
		change(&o)
	}
	r, err := payments.New(o)
	must(f.t, err)
	f.ready()
	background(f.t, r.Run)
	return r
}

func (f *fixture) ready() {
	f.t.Helper()
	f.eventually(30*time.Second, "the read model is ready", func() bool { return f.models.Ready(f.t.Context()) == nil })
}

// listed waits until so many orders are on the list that wait for their payment.
func (f *fixture) listed(orders int) {
	f.t.Helper()
	f.ready()
	f.eventually(time.Minute, "the orders are on the list", func() bool {
		return f.one(`SELECT count(*) FROM payments_1.orders WHERE status = 'PENDING'`) == orders
	})
}

// buy places an order of two mugs that is paid with a token.
func (f *fixture) buy(token string) commands.OrderResult {
	f.t.Helper()
	c, err := f.app.CartCreate(f.t.Context(), commands.CartCreate{Lines: []commands.LineInput{{SKU: "MUG", Quantity: 2}}})
	must(f.t, err)
	r, err := f.app.CheckOut(f.t.Context(), commands.CheckOut{
		CartID: c.ID, Email: "ada@example.org", PaymentToken: token,
		ShippingAddress: commands.Address{Name: "Ada", Line1: "1 Mill Lane", City: "Leeds", Country: "GB"},
	})
	must(f.t, err)
	return r
}

// fulfil sends an order.
func (f *fixture) fulfil(number string) {
	f.t.Helper()
	_, err := f.app.OrderFulfill(f.t.Context(), commands.OrderFulfill{OrderID: number})
	must(f.t, err)
}

// returned has all units of an order come back.
func (f *fixture) returned(number string) {
	f.t.Helper()
	stream := commands.Orders.Stream(number)
	_, err := f.writer.Execute(f.t.Context(), es.Command{Name: "return", Streams: []string{stream.Name()}, Decide: func(d *es.Decision) error {
		o, err := es.State(d, stream)
		if err != nil {
			return err
		}
		back := order.Return{}
		for _, l := range o.Lines {
			back.Lines = append(back.Lines, order.LineQuantity{ID: l.ID, Quantity: l.Quantity})
		}
		events, err := back.Decide(o)
		es.Append(d, stream, events...)
		return err
	}})
	must(f.t, err)
}

// parked returns what is parked.
func (f *fixture) parked() []payments.Parked {
	f.t.Helper()
	list, err := payments.ListParked(f.t.Context(), f.pool)
	must(f.t, err)
	return list
}

// retry has a parked task tried again.
func (f *fixture) retry(task string) {
	f.t.Helper()
	retried, err := payments.RetryParked(f.t.Context(), f.pool, []string{task})
	if err != nil || !slices.Equal(retried, []string{task}) {
		f.t.Fatalf("retried %q, %v", retried, err)
	}
}

// buyMany places orders, many at a time, each paid with what token says for its place, and returns their numbers.
func (f *fixture) buyMany(n int, token func(i int) string) []string {
	f.t.Helper()
	const atATime = 32
	numbers := make([]string, n)
	g, ctx := errgroup.WithContext(f.t.Context())
	g.SetLimit(atATime)
	for i := range n {
		g.Go(func() (err error) {
			numbers[i], err = f.place(ctx, token(i))
			return err
		})
	}
	must(f.t, g.Wait())
	return numbers
}

func (f *fixture) place(ctx context.Context, token string) (string, error) {
	c, err := f.app.CartCreate(ctx, commands.CartCreate{Lines: []commands.LineInput{{SKU: "MUG", Quantity: 1}}})
	if err != nil {
		return "", err
	}
	r, err := f.app.CheckOut(ctx, commands.CheckOut{
		CartID: c.ID, Email: "ada@example.org", PaymentToken: token,
		ShippingAddress: commands.Address{Name: "Ada", Line1: "1 Mill Lane", City: "Leeds", Country: "GB"},
	})
	return r.State.Number, err
}

// events counts those of a type in the log.
func (f *fixture) events(eventType string) int {
	f.t.Helper()
	return f.one(`SELECT count(*) FROM events WHERE type = $1`, eventType)
}

func load[S any](f *fixture, stream es.Stream[S]) S {
	f.t.Helper()
	s, _, err := es.Load(f.t.Context(), f.log, stream)
	must(f.t, err)
	return s
}

func (f *fixture) order(number string) order.State { return load(f, commands.Orders.Stream(number)) }
func (f *fixture) payment(number string) payment.State {
	return load(f, commands.Payments.Stream(number))
}
func (f *fixture) stock() inventory.State { return load(f, commands.Stocks.Stream("MUG")) }

// settled waits until an order and its payment have come to these states.
func (f *fixture) settled(within time.Duration, number string, o order.Status, p payment.Status) {
	f.t.Helper()
	f.eventually(within, "order "+number+" is "+string(o)+" and its payment "+string(p), func() bool {
		return f.order(number).Status == o && f.payment(number).Status == p
	})
}

func (f *fixture) eventually(within time.Duration, what string, condition func() bool) {
	f.t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			f.t.Fatalf("not within %v: %s", within, what)
		}
	}
}

func (f *fixture) one(sql string, args ...any) (n int) {
	f.t.Helper()
	must(f.t, f.pool.QueryRow(f.t.Context(), sql, args...).Scan(&n))
	return n
}

// provider answers as a test says, and counts.
type provider struct {
	authorise func(context.Context, payments.AuthoriseRequest) (string, error)
	// settle answers captures, voids and refunds, by the step and the order; nil does what is asked.
	settle func(step payments.Step, order string) error

	mu    sync.Mutex
	calls map[string]int
}

func (p *provider) count(what, order string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.calls == nil {
		p.calls = make(map[string]int)
	}
	p.calls[what+" "+order]++
	p.calls[what]++
}

func (p *provider) called(what string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.calls[what]
}

func (p *provider) Authorise(ctx context.Context, r payments.AuthoriseRequest) (string, error) {
	p.count("authorise", r.Order)
	if p.authorise == nil {
		return "ref " + r.Order, nil
	}
	return p.authorise(ctx, r)
}

func (p *provider) Capture(_ context.Context, r payments.CaptureRequest) error {
	return p.settles(payments.Capture, r.Order)
}

func (p *provider) Void(_ context.Context, r payments.VoidRequest) error {
	return p.settles(payments.Void, r.Order)
}

func (p *provider) Refund(_ context.Context, r payments.RefundRequest) error {
	return p.settles(payments.Refund, r.Order)
}

func (p *provider) settles(step payments.Step, order string) error {
	p.count(string(step), order)
	if p.settle == nil {
		return nil
	}
	return p.settle(step, order)
}

var errBroken = errors.New("out of order")

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func logger(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

// figure returns the value of a gauge.
func figure(t *testing.T, from prometheus.Gatherer, name string) int {
	t.Helper()
	families, err := from.Gather()
	must(t, err)
	for _, m := range families {
		if m.GetName() == name {
			return int(m.GetMetric()[0].GetGauge().GetValue())
		}
	}
	t.Fatalf("there is no figure %s", name)
	return 0
}

// background runs something until the test ends.
func background(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("in the background: %v", err)
		}
	})
}
