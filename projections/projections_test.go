package projections_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/commands/onlineretail"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/feed"
	"github.com/millrace/millrace/internal/postgres"
	"github.com/millrace/millrace/internal/projector"
	"github.com/millrace/millrace/internal/vault"
	"github.com/millrace/millrace/projections/carts"
	"github.com/millrace/millrace/projections/catalogue"
	"github.com/millrace/millrace/projections/orders"
	"github.com/millrace/millrace/projections/paging"
	"github.com/millrace/millrace/projections/sales"
	"github.com/millrace/millrace/projections/stock"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// shop is a log with a write side, a worker that keeps every read model, and their readers.
type shop struct {
	app    *commands.App
	writer *postgres.Writer
	log    *postgres.Log
	models *projector.Models
	redis  *redis.Client
}

func setup(t *testing.T) *shop {
	t.Helper()
	e := stacktest.New(t, stacktest.WithoutNATS())
	pool, replica := connect(t, e.DatabaseURL), connect(t, e.ReplicaURLs[0])
	options, err := redis.ParseURL(e.RedisURL)
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{redis: redis.NewClient(options)}
	t.Cleanup(func() { _ = s.redis.Close() })
	if s.log, err = postgres.OpenLog(t.Context(), pool, commands.Codec()); err != nil {
		t.Fatal(err)
	}
	keys, err := vault.New(vault.Options{Pool: pool, Secret: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	f := feed.New(feed.Options{Log: s.log, Info: s.log.Info(), Codec: commands.Codec()})
	all := []projector.Projection{carts.Projection(), catalogue.Projection(), orders.Projection(), sales.Projection(), stock.Projection()}
	worker, err := projector.NewWorker(projector.WorkerOptions{Pool: pool, Redis: s.redis, Feed: f, Log: s.log, Codec: commands.Codec(), Info: s.log.Info(), Projections: all})
	if err != nil {
		t.Fatal(err)
	}
	if s.models, err = projector.NewModels(projector.ModelsOptions{
		Primary: pool, Replicas: []*pgxpool.Pool{replica}, Redis: s.redis, Feed: f, Info: s.log.Info(), Projections: all, Wait: 20 * time.Second,
	}); err != nil {
		t.Fatal(err)
	}
	s.writer = postgres.NewWriter(s.log, postgres.WriterOptions{Categories: commands.Categories()})
	if s.app, err = commands.New(commands.Dependencies{
		Executor: s.writer, Reader: s.log, Vault: keys, Secret: make([]byte, 32), Currency: "GBP", PaymentDeadline: time.Minute,
	}); err != nil {
		t.Fatal(err)
	}
	for _, run := range []func(context.Context) error{f.Run, s.writer.Run, worker.Run, s.models.Run} {
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		done := make(chan error, 1)
		go func() { done <- run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
	for s.models.Ready(t.Context()) != nil {
		select {
		case <-t.Context().Done():
			t.Fatal("the read models never became ready")
		case <-time.After(10 * time.Millisecond):
		}
	}
	return s
}

func connect(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// now returns a context whose reads show all that has been recorded.
func (s *shop) now(t *testing.T) context.Context {
	t.Helper()
	head, err := s.log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return es.WithPosition(t.Context(), head)
}

func (s *shop) product(t *testing.T, title, price string, units int, status catalog.Status) {
	t.Helper()
	sku := strings.ToUpper(strings.ReplaceAll(title, " ", "-"))
	if _, err := s.app.ProductCreate(t.Context(), commands.ProductCreate{
		Title: title, Status: status, Variants: []commands.VariantInput{{SKU: sku, Price: price}},
	}); err != nil {
		t.Fatal(err)
	}
	if units > 0 {
		if _, err := s.app.StockReceive(t.Context(), commands.StockReceive{SKU: sku, Quantity: units}); err != nil {
			t.Fatal(err)
		}
	}
}

func titles(p paging.Page[catalog.State]) []string {
	var all []string
	for _, r := range p.Rows {
		all = append(all, r.Value.Title)
	}
	return all
}

func TestTheCatalogueIsListedFilteredAndSearched(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, p := range []struct {
		title, price string
		units        int
		status       catalog.Status
	}{
		{"Red lantern", "2.50", 5, catalog.StatusActive}, {"blue lantern", "1.00", 0, catalog.StatusActive},
		{"Kettle", "30.00", 1, catalog.StatusActive}, {"Secret lantern", "9.00", 3, catalog.StatusDraft},
	} {
		s.product(t, p.title, p.price, p.units, p.status)
	}
	m := catalogue.New(s.models)
	yes, no, price := true, false, int64(250)
	active := []catalog.Status{catalog.StatusActive}
	for _, c := range []struct {
		name   string
		query  catalogue.Query
		expect []string
	}{
		{"all by title", catalogue.Query{}, []string{"blue lantern", "Kettle", "Red lantern", "Secret lantern"}},
		{"by title, reversed", catalogue.Query{Reverse: true}, []string{"Secret lantern", "Red lantern", "Kettle", "blue lantern"}},
		{"by price", catalogue.Query{Sort: "PRICE"}, []string{"blue lantern", "Red lantern", "Secret lantern", "Kettle"}},
		{"by creation", catalogue.Query{Sort: "CREATED_AT"}, []string{"Red lantern", "blue lantern", "Kettle", "Secret lantern"}},
		{"active only", catalogue.Query{Filter: catalogue.Filter{Statuses: active}}, []string{"blue lantern", "Kettle", "Red lantern"}},
		{"words in any form", catalogue.Query{Filter: catalogue.Filter{Text: "lanterns", Statuses: active}}, []string{"blue lantern", "Red lantern"}},
		{"a SKU", catalogue.Query{Filter: catalogue.Filter{Text: "KETTLE"}}, []string{"Kettle"}},
		{"but for a word", catalogue.Query{Filter: catalogue.Filter{Text: "lantern -reds"}}, []string{"blue lantern", "Secret lantern"}},
		{"but for another form of a word", catalogue.Query{Filter: catalogue.Filter{Text: "red -kettles"}}, []string{"Red lantern"}},
		{"in stock", catalogue.Query{Filter: catalogue.Filter{InStock: &yes, Statuses: active}}, []string{"Kettle", "Red lantern"}},
		{"out of stock", catalogue.Query{Filter: catalogue.Filter{InStock: &no}}, []string{"blue lantern"}},
		{"up to a price", catalogue.Query{Filter: catalogue.Filter{MaxPrice: &price}}, []string{"blue lantern", "Red lantern"}},
		{"from a price", catalogue.Query{Filter: catalogue.Filter{MinPrice: &price}}, []string{"Kettle", "Red lantern", "Secret lantern"}},
		{"nothing", catalogue.Query{Filter: catalogue.Filter{Text: "teapot"}}, nil},
	} {
		c.query.First = 100
		page, err := m.List(s.now(t), c.query)
		if got := titles(page); err != nil || !slices.Equal(got, c.expect) {
			t.Errorf("%s: %q, %v; want %q", c.name, got, err, c.expect)
		}
		if n, err := m.Count(s.now(t), c.query.Filter); err != nil || n != len(c.expect) {
			t.Errorf("%s: counted %d, %v", c.name, n, err)
		}
		// In pages of one, forwards and backwards, the list is the same.
		for _, sort := range []bool{true, false} {
			if got := walk(t, m, s.now(t), c.query, sort); !slices.Equal(got, c.expect) {
				t.Errorf("%s, in pages, forwards %v: %q, want %q", c.name, sort, got, c.expect)
			}
		}
	}
	if _, err := m.List(s.now(t), catalogue.Query{Window: paging.Window{First: 1, After: "nonsense"}}); err == nil {
		t.Error("a cursor that is none was taken")
	}
}

// walk reads a list a row at a time.
func walk(t *testing.T, m *catalogue.Model, ctx context.Context, q catalogue.Query, forwards bool) []string {
	t.Helper()
	var all []string
	for q.Window = (paging.Window{First: 1}); ; {
		if !forwards {
			q.First, q.Last = 0, 1
		}
		page, err := m.List(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, titles(page)...)
		if forwards && page.HasNext {
			q.After = page.Rows[0].Cursor()
		} else if !forwards && page.HasPrevious {
			q.Before = page.Rows[0].Cursor()
		} else {
			break
		}
	}
	if !forwards {
		slices.Reverse(all)
	}
	return all
}

func TestProductsAndStockAreReadWithAndWithoutRedis(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.product(t, "Red lantern", "2.50", 5, catalog.StatusActive)
	products, levels := catalogue.New(s.models), stock.New(s.models)
	check := func(when string) {
		t.Helper()
		found, err := products.ProductsBySlug(s.now(t), []string{"red-lantern", "none"})
		if err != nil || found[0] == nil || found[0].Title != "Red lantern" || found[1] != nil {
			t.Fatalf("%s: by slug: %v, %v", when, found, err)
		}
		byID, err := products.Products(s.now(t), []string{found[0].ID, "none"})
		if err != nil || byID[0] == nil || byID[0].Slug != "red-lantern" || byID[1] != nil {
			t.Fatalf("%s: by id: %v, %v", when, byID, err)
		}
		level, err := levels.Levels(s.now(t), []string{"NONE", "RED-LANTERN"})
		if err != nil || level[0] != nil || level[1] == nil || level[1].Available() != 5 || level[1].Product != found[0].ID {
			t.Fatalf("%s: stock: %v, %v", when, level, err)
		}
	}
	check("with Redis")
	if err := s.redis.Close(); err != nil {
		t.Fatal(err)
	}
	check("without Redis")
}

func TestACartIsReadAtOnce(t *testing.T) {
	t.Parallel()
	s := setup(t)
	s.product(t, "Red lantern", "2.50", 5, catalog.StatusActive)
	created, err := s.app.CartCreate(t.Context(), commands.CartCreate{Lines: []commands.LineInput{{SKU: "RED-LANTERN", Quantity: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	found, err := carts.New(s.models, commands.Carts, s.log).Carts(es.WithPosition(t.Context(), created.Position), []string{commands.CartRef(created.ID), "none"})
	if err != nil || found[0] == nil || found[0].Lines[0].Quantity != 2 || found[1] != nil {
		t.Fatalf("got %v, %v", found, err)
	}
}

// Two sales on both sides of midnight in the shop's summer time, and a return.
const invoices = `InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country
600001,A1,TEAPOT,2,2011-06-30T23:30:00,2.50,10001,France
600001,B1,CUP,1,2011-06-30T23:30:00,1.00,10001,France
600001,A1,TEAPOT,1,2011-06-30T23:30:00,2.00,10001,France
600002,A1,TEAPOT,4,2011-07-01T00:30:00,2.50,10002,United Kingdom
C600003,A1,TEAPOT,-3,2011-07-02T12:00:00,2.50,10002,United Kingdom
`

func TestSalesAddUp(t *testing.T) {
	t.Parallel()
	s := setup(t)
	location, err := time.LoadLocation("Europe/London")
	if err != nil {
		t.Fatal(err)
	}
	result, err := onlineretail.Import(t.Context(), onlineretail.Options{
		Source:   onlineretail.Source{Name: "test", Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(invoices)), nil }},
		Commands: s.app, Executor: s.writer, Reader: s.log, Location: location,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx := es.WithPosition(t.Context(), result.Position)
	m := sales.New(s.models, "Europe/London")
	from, to := time.Date(2011, 6, 1, 0, 0, 0, 0, location), time.Date(2011, 8, 1, 0, 0, 0, 0, location)
	row := func(key string, orders, units int, sold, returned int64) sales.Row {
		return sales.Row{Key: key, Orders: orders, Units: units, Sold: money.Money{Minor: sold, Currency: "GBP"}, Returned: money.Money{Minor: returned, Currency: "GBP"}}
	}
	for _, c := range []struct {
		group    string
		from, to time.Time
		want     []sales.Row
	}{
		{"DAY", from, to, []sales.Row{row("2011-06-30", 1, 4, 800, 0), row("2011-07-01", 1, 4, 1000, 0), row("2011-07-02", 0, 0, 0, 750)}},
		{"MONTH", from, to, []sales.Row{row("2011-06", 1, 4, 800, 0), row("2011-07", 1, 4, 1000, 750)}},
		{"COUNTRY", from, to, []sales.Row{row("France", 1, 4, 800, 0), row("United Kingdom", 1, 4, 1000, 750)}},
		{"SKU", from, to, []sales.Row{row("A1", 2, 7, 1700, 750), row("B1", 1, 1, 100, 0)}},
		{"SKU", from, time.Date(2011, 7, 1, 0, 30, 0, 0, location), []sales.Row{row("A1", 1, 3, 700, 0), row("B1", 1, 1, 100, 0)}},
		{"DAY", time.Date(2011, 7, 1, 0, 30, 0, 0, location), time.Date(2011, 7, 2, 0, 0, 0, 0, location), []sales.Row{row("2011-07-01", 1, 4, 1000, 0)}},
	} {
		got, err := m.Report(ctx, c.from, c.to, c.group)
		if err != nil || !slices.Equal(got, c.want) {
			t.Errorf("%s from %s to %s: %+v, %v; want %+v", c.group, c.from, c.to, got, err, c.want)
		}
	}
	list, err := orders.New(s.models).List(ctx, orders.Query{Window: paging.Window{First: 10}})
	if err != nil {
		t.Fatal(err)
	}
	var numbers []string
	for _, r := range list.Rows {
		numbers = append(numbers, fmt.Sprintf("%s %s", r.Value.Number, r.Value.Status))
	}
	if want := []string{"600002 FULFILLED", "600001 FULFILLED"}; !slices.Equal(numbers, want) {
		t.Errorf("the orders are %q, want %q", numbers, want)
	}
}

// TestCallersThatShareWhatIsReadHaveTheirOwnPages has a crowd ask for two pages that PostgreSQL is asked for in the same words: the first two products, and the last
// two in reverse.
func TestCallersThatShareWhatIsReadHaveTheirOwnPages(t *testing.T) {
	t.Parallel()
	s := setup(t)
	for _, title := range []string{"A", "B", "C"} {
		s.product(t, title, "1.00", 1, catalog.StatusActive)
	}
	m, ctx := catalogue.New(s.models), s.now(t)
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			q, want := catalogue.Query{Window: paging.Window{First: 2}}, "A B true false"
			if i%2 == 1 {
				q, want = catalogue.Query{Window: paging.Window{Last: 2}, Reverse: true}, "B A false true"
			}
			page, err := m.List(ctx, q)
			if got := fmt.Sprint(strings.Join(titles(page), " "), " ", page.HasNext, " ", page.HasPrevious); err != nil || got != want {
				t.Errorf("%+v: %s, %v, want %s", q.Window, got, err, want)
			}
		})
	}
	all.Wait()
}
