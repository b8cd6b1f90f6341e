package commands_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
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

// Who buys nothing gets no key, at a process that has the cart in memory and at one that has not, and who buys gets one, once.
func TestARefusedCheckoutLeavesNoKey(t *testing.T) {
	t.Parallel()
	const buyers = 8 // of each kind
	env := stacktest.New(t, stacktest.WithoutNATS())
	first, log := process(t, env.DatabaseURL)
	second, _ := process(t, env.DatabaseURL)
	stocked(t, first, 1)
	pool := must[*pgxpool.Pool](t)(pgxpool.New(t.Context(), env.DatabaseURL))
	t.Cleanup(pool.Close)
	keys := func() (n int) {
		t.Helper()
		if err := pool.QueryRow(t.Context(), `SELECT count(*) FROM subject_keys`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	cart := func(email string) commands.CheckOut {
		t.Helper()
		return must[commands.CheckOut](t)(oneMug(t.Context(), first, email))
	}
	closed := cart("ada@example.org")
	once := commands.WithKey(t.Context(), commands.Key{Text: "once"})
	bought := must[commands.OrderResult](t)(first.CheckOut(once, closed))
	if n := keys(); n != 1 {
		t.Fatalf("there are %d keys, want the buyer's", n)
	}

	soldOut := cart("")
	empty := must[commands.CartResult](t)(first.CartCreate(t.Context(), commands.CartCreate{}))
	refused := map[rule.Code]func(*commands.CheckOut){
		rule.NotFound:   func(in *commands.CheckOut) { in.CartID = strings.Repeat("a", len(in.CartID)) },
		rule.CartEmpty:  func(in *commands.CheckOut) { in.CartID = empty.ID },
		rule.CartClosed: func(in *commands.CheckOut) { in.CartID = closed.CartID },
		rule.OutOfStock: func(*commands.CheckOut) {},
	}
	refuse := func() {
		t.Helper()
		var g errgroup.Group
		for want, change := range refused {
			for n := range buyers {
				a := []*commands.App{first, second}[n%2]
				in := soldOut
				in.Email = fmt.Sprintf("%s%d@example.org", want, n)
				change(&in)
				g.Go(func() error {
					if _, err := a.CheckOut(t.Context(), in); rule.CodeOf(err) != want {
						return fmt.Errorf("got %w, want %s", err, want)
					}
					return nil
				})
			}
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	receive := func() {
		t.Helper()
		must[commands.StockResult](t)(first.StockReceive(t.Context(), commands.StockReceive{SKU: "MUG", Quantity: 1}))
	}
	refuse()
	if n := keys(); n != 1 {
		t.Errorf("there are %d keys, want that of who has bought", n)
	}

	receive()
	again := soldOut
	again.Email = closed.Email
	stale := must[commands.OrderResult](t)(second.CheckOut(t.Context(), again)) // in whose memory it is sold out
	if stale.State.Contact.Key != bought.State.Contact.Key {
		t.Error("the buyer's second order is sealed under another key")
	}
	placed, _, err := es.Load(t.Context(), log, commands.Orders.Stream(stale.State.Number))
	if err != nil {
		t.Fatal(err)
	}
	contact := must[commands.Contact](t)(first.OpenContact(t.Context(), placed.Contact))
	if want := (commands.Contact{Email: again.Email, Address: home}); contact != want {
		t.Errorf("the contact in the log is %+v, want %+v", contact, want)
	}

	receive()
	dear := cart("")
	refused = map[rule.Code]func(*commands.CheckOut){rule.TotalChanged: func(in *commands.CheckOut) {
		in.CartID, in.ExpectedTotal = dear.CartID, ptr("4.99")
	}}
	refuse()
	for n := range buyers {
		in := dear
		in.Email = fmt.Sprintf("conflict%d@example.org", n)
		if _, err := first.CheckOut(once, in); !errors.Is(err, commands.ErrKeyUsed) {
			t.Fatalf("got %v, want a conflict", err)
		}
	}
	if n := keys(); n != 1 {
		t.Errorf("there are %d keys, want that of who has bought", n)
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
