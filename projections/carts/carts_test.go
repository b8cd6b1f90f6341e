package carts_test

import (
	"context"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/projector/projectortest"
	"github.com/millrace/millrace/projections/carts"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

var on = projectortest.On

func gbp(minor int64) money.Money { return money.Money{Minor: minor, Currency: "GBP"} }

func added(sku string, quantity int, minor int64) cart.LineAdded {
	return cart.LineAdded{SKU: sku, Product: "p-" + sku, Title: "T " + sku, Quantity: quantity, UnitPrice: gbp(minor)}
}

func line(sku string, quantity int, minor int64) cart.Line {
	return cart.Line{SKU: sku, Product: "p-" + sku, Title: "T " + sku, Quantity: quantity, UnitPrice: gbp(minor)}
}

// is expects the cart with the ref to be this, in Redis and, without it, from the log.
func is(ref string, want cart.State) []projectortest.Expectation {
	return []projectortest.Expectation{
		projectortest.Document("cart-"+ref, "cart-"+ref, want),
		projectortest.Answer(func(ctx context.Context, from projectortest.Sources) ([]*cart.State, error) {
			return carts.New(from.Models, commands.Carts, from.Log).Carts(ctx, []string{"none", ref})
		}, []*cart.State{nil, &want}),
	}
}

func TestCarts(t *testing.T) {
	t.Parallel()
	kit := projectortest.New(t, carts.Projection(), commands.Codec())
	begun := on("cart-1", cart.Created{Currency: "GBP"}, added("A", 2, 295), added("B", 1, 1000))

	kit.Case("an empty cart").Given(on("cart-1", cart.Created{Currency: "GBP"})).
		Then(is("1", cart.State{Currency: "GBP", Status: cart.StatusOpen})...)
	kit.Case("lines stand in the order in which they came").Given(begun).
		Then(is("1", cart.State{Currency: "GBP", Status: cart.StatusOpen, Lines: []cart.Line{line("A", 2, 295), line("B", 1, 1000)}})...)
	kit.Case("more of what is there, at another price").Given(begun, on("cart-1", added("A", 3, 250))).
		Then(is("1", cart.State{Currency: "GBP", Status: cart.StatusOpen, Lines: []cart.Line{line("A", 5, 250), line("B", 1, 1000)}})...)
	kit.Case("a line changes and one goes").
		Given(begun, on("cart-1", cart.LineChanged{SKU: "B", Quantity: 7}, cart.LineRemoved{SKU: "A"})).
		Then(is("1", cart.State{Currency: "GBP", Status: cart.StatusOpen, Lines: []cart.Line{line("B", 7, 1000)}})...)
	kit.Case("a line that went comes back behind the others").
		Given(begun, on("cart-1", cart.LineRemoved{SKU: "A"}, added("A", 1, 295))).
		Then(is("1", cart.State{Currency: "GBP", Status: cart.StatusOpen, Lines: []cart.Line{line("B", 1, 1000), line("A", 1, 295)}})...)
	kit.Case("a cart becomes an order, another stays").
		Given(begun, on("cart-2", cart.Created{Currency: "EUR"}), on("cart-1", cart.CheckedOut{Order: "7"})).
		Then(append(
			is("1", cart.State{Currency: "GBP", Status: cart.StatusCheckedOut, Order: "7", Lines: []cart.Line{line("A", 2, 295), line("B", 1, 1000)}}),
			is("2", cart.State{Currency: "EUR", Status: cart.StatusOpen})...)...)
	kit.EveryEventIsGiven()
	kit.Histories(10, projectortest.Decided(cart.Evolve, command, "cart-1", "cart-2", "cart-3"))
}

func command(t *rapid.T, _ string) projectortest.Command[cart.State, cart.Event] {
	sku, n := rapid.SampledFrom([]string{"A", "B", "C"}).Draw(t, "SKU"), rapid.IntRange(0, 3).Draw(t, "units")
	add := cart.AddLines{Lines: []cart.NewLine{{SKU: sku, Product: "p", Title: "T", Quantity: n, UnitPrice: gbp(int64(n))}}}
	return rapid.SampledFrom([]projectortest.Command[cart.State, cart.Event]{
		cart.Create{Currency: "GBP"}, add, add, cart.UpdateLines{Lines: []cart.Quantity{{SKU: sku, Quantity: n}}}, cart.CheckOut{Order: "1"},
	}).Draw(t, "command")
}
