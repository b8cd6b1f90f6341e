package commands_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/rule"
	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/postgres"
	"github.com/millrace/millrace/internal/vault"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// process returns an App as a process of its own would have it, on the log of a database.
func process(t *testing.T, url string) (*commands.App, *postgres.Log) {
	t.Helper()
	pool := must[*pgxpool.Pool](t)(pgxpool.New(t.Context(), url))
	t.Cleanup(pool.Close)
	log := must[*postgres.Log](t)(postgres.OpenLog(t.Context(), pool, commands.Codec()))
	writer := postgres.NewWriter(log, postgres.WriterOptions{
		Categories: commands.Categories(), Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- writer.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	secret := bytes.Repeat([]byte("s"), 32)
	keys := must[*vault.Vault](t)(vault.New(vault.Options{Pool: pool, Secret: secret}))
	return must[*commands.App](t)(commands.New(commands.Dependencies{
		Executor: writer, Reader: log, Vault: keys, Secret: secret, Currency: "GBP", PaymentDeadline: time.Minute,
	})), log
}

func stocked(t *testing.T, a *commands.App, units int) {
	t.Helper()
	must[commands.ProductResult](t)(a.ProductCreate(t.Context(), commands.ProductCreate{
		Title: "Mug", Status: catalog.StatusActive, Variants: []commands.VariantInput{{SKU: "MUG", Price: "5.00"}},
	}))
	must[commands.StockResult](t)(a.StockReceive(t.Context(), commands.StockReceive{SKU: "MUG", Quantity: units}))
}

func oneMug(ctx context.Context, a *commands.App, email string) (commands.CheckOut, error) {
	c, err := a.CartCreate(ctx, commands.CartCreate{Lines: []commands.LineInput{{SKU: "MUG", Quantity: 1}}})
	return commands.CheckOut{CartID: c.ID, Email: email, ShippingAddress: home, PaymentToken: "ok"}, err
}

// Two processes sell the last units at the same time: each is sold once, the other buyers are refused.
func TestNothingIsOversold(t *testing.T) {
	t.Parallel()
	const units, buyers = 20, 60
	env := stacktest.New(t, stacktest.WithoutNATS())
	first, log := process(t, env.DatabaseURL)
	second, _ := process(t, env.DatabaseURL)
	stocked(t, first, units)
	var sold, refused atomic.Int64
	var g errgroup.Group
	for n := range buyers {
		a := []*commands.App{first, second}[n%2]
		g.Go(func() error {
			in, err := oneMug(t.Context(), a, fmt.Sprintf("buyer%d@example.org", n))
			if err != nil {
				return err
			}
			switch _, err := a.CheckOut(t.Context(), in); {
			case err == nil:
				sold.Add(1)
			case rule.CodeOf(err) == rule.OutOfStock:
				refused.Add(1)
			default:
				return err
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if sold.Load() != units || refused.Load() != buyers-units {
		t.Errorf("%d were sold and %d buyers refused, want %d and %d", sold.Load(), refused.Load(), units, buyers-units)
	}
	s, _, err := es.Load(t.Context(), log, commands.Stocks.Stream("MUG"))
	if err != nil || s.Reserved != units || s.Available() != 0 {
		t.Errorf("the stock is %+v, %v", s, err)
	}
}

// The answer of a checkout is lost; retries, at once and at two processes, get it and have no second effect.
func TestARetryGetsTheFirstAnswer(t *testing.T) {
	t.Parallel()
	const retries = 12
	env := stacktest.New(t, stacktest.WithoutNATS())
	first, log := process(t, env.DatabaseURL)
	second, _ := process(t, env.DatabaseURL)
	stocked(t, first, 10)
	in := must[commands.CheckOut](t)(oneMug(t.Context(), first, "ada@example.org"))
	once := commands.WithKey(t.Context(), commands.Key{Text: "once"})

	lost, lose := context.WithCancel(once)
	var g errgroup.Group
	g.Go(func() error {
		_, _ = first.CheckOut(lost, in) // nobody hears how it went
		return nil
	})
	lose()
	answers := make([]commands.OrderResult, retries)
	for n := range answers {
		a := []*commands.App{first, second}[n%2]
		g.Go(func() (err error) {
			answers[n], err = a.CheckOut(once, in)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for _, a := range answers[1:] {
		if !reflect.DeepEqual(a, answers[0]) {
			t.Fatalf("one retry was answered\n%+v, another\n%+v", answers[0], a)
		}
	}
	if s, _, err := es.Load(t.Context(), log, commands.Stocks.Stream("MUG")); err != nil || s.Reserved != 1 {
		t.Errorf("the stock is %+v, %v", s, err)
	}
	in.Email = "eve@example.org"
	if _, err := second.CheckOut(once, in); rule.CodeOf(err) != rule.Conflict {
		t.Errorf("got %v, want a conflict", err)
	}
}

// Two processes create products of one title at the same time: each gets a slug of its own.
func TestSlugsAreUniqueAcrossProcesses(t *testing.T) {
	t.Parallel()
	const products = 24
	env := stacktest.New(t, stacktest.WithoutNATS())
	first, _ := process(t, env.DatabaseURL)
	second, _ := process(t, env.DatabaseURL)
	slugs := make([]string, products)
	var g errgroup.Group
	for n := range products {
		a := []*commands.App{first, second}[n%2]
		g.Go(func() error {
			r, err := a.ProductCreate(t.Context(), commands.ProductCreate{
				Title: "Mug", Variants: []commands.VariantInput{{SKU: fmt.Sprintf("MUG-%d", n), Price: "5.00"}},
			})
			slugs[n] = r.State.Slug
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, s := range slugs {
		if seen[s] {
			t.Fatalf("two products have the slug %s", s)
		}
		seen[s] = true
	}
}
