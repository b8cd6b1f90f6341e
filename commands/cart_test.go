package commands_test

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/commands/commandtest"
	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/catalog"
)

func TestCartCreate(t *testing.T) {
	k := shop(t)
	r := must[commands.CartResult](t)(k.App.CartCreate(ctx, commands.CartCreate{
		Lines: []commands.LineInput{{SKU: " mug-s ", Quantity: 2}, {SKU: "MUG-L", Quantity: 1}, {SKU: "MUG-S", Quantity: 3}},
	}))
	stream := "cart-" + commands.CartRef(r.ID)
	if strings.Contains(stream, r.ID) {
		t.Fatalf("the stream %s tells the secret id", stream)
	}
	k.Then(
		entry(stream, cart.Created{Currency: "GBP"}), entry(stream, mugLine("MUG-S", 2)),
		entry(stream, mugLine("MUG-L", 1)), entry(stream, mugLine("MUG-S", 3)),
	)
	if l, _ := r.State.Line("MUG-S"); l.Quantity != 5 {
		t.Fatalf("got %d small mugs, want 5", l.Quantity)
	}
	if head := must[int64](t)(k.Head(ctx)); r.Position != head {
		t.Fatalf("got position %d, want %d", r.Position, head)
	}

	other := must[commands.CartResult](t)(k.App.CartCreate(ctx, commands.CartCreate{}))
	k.Then(entry("cart-"+commands.CartRef(other.ID), cart.Created{Currency: "GBP"}))
	if other.ID == r.ID {
		t.Fatal("two carts have one id")
	}
}

func TestCartLines(t *testing.T) {
	type line = commands.LineInput
	add := func(cartID string, lines ...line) func(*commandtest.Kit) error {
		return func(k *commandtest.Kit) error {
			_, err := k.App.CartLinesAdd(ctx, commands.CartLinesAdd{CartID: cartID, Lines: lines})
			return err
		}
	}
	update := func(lines ...line) func(*commandtest.Kit) error {
		return func(k *commandtest.Kit) error {
			_, err := k.App.CartLinesUpdate(ctx, commands.CartLinesUpdate{CartID: cartID, Lines: lines})
			return err
		}
	}
	create := func(lines ...line) func(*commandtest.Kit) error {
		return func(k *commandtest.Kit) error {
			_, err := k.App.CartCreate(ctx, commands.CartCreate{Lines: lines})
			return err
		}
	}
	for _, test := range []struct {
		name  string
		given []any // in the cart
		when  func(*commandtest.Kit) error
		then  []any // in the cart
		fails []string
	}{
		{name: "add", when: add(cartID, line{"mug-l", 2}), then: []any{mugLine("MUG-L", 2)}},
		{name: "add nothing", when: add(cartID)},
		{name: "add one SKU in two lines", when: add(cartID, line{"MUG-L", 2}, line{"mug-l", 3}), then: []any{mugLine("MUG-L", 2), mugLine("MUG-L", 3)}},
		{name: "add what is not sold", when: add(cartID, line{"MUG-L", 2}, line{"PLATE", 1}, line{"POT", 1}, line{"\x00", 1}),
			fails: []string{"NOT_FOUND input.lines.1.sku", "NOT_FOUND input.lines.2.sku", "NOT_FOUND input.lines.3.sku"}},
		{name: "add bad quantities", when: add(cartID, line{"MUG-L", 0}, line{"MUG-S", 100_001}),
			fails: []string{"INVALID input.lines.0.quantity", "INVALID input.lines.1.quantity"}},
		{name: "add too many in sum", when: add(cartID, line{"MUG-L", 100_000}, line{"MUG-L", 1}), fails: []string{"INVALID input.lines.1.quantity"}},
		{name: "add too many lines", when: add(cartID, make([]line, cart.MaxLines+1)...), fails: []string{"INVALID input.lines"}},
		{name: "add to a cart that does not exist", when: add("cartcartcartcartcartcartcq", line{"MUG-L", 1}), fails: []string{"NOT_FOUND input.cartId"}},
		{name: "add to what is no cart's id", when: add("x", line{"MUG-L", 1}), fails: []string{"NOT_FOUND input.cartId"}},
		{name: "add to a closed cart", given: []any{cart.CheckedOut{Order: "X"}}, when: add(cartID, line{"PLATE", 1}), fails: []string{"CART_CLOSED input.cartId"}},
		{name: "update", when: update(line{"mug-s", 7}), then: []any{cart.LineChanged{SKU: "MUG-S", Quantity: 7}}},
		{name: "remove", when: update(line{"MUG-S", 0}), then: []any{cart.LineRemoved{SKU: "MUG-S"}}},
		{name: "update to the same", when: update(line{"MUG-S", 2})},
		{name: "update one SKU twice", when: update(line{"MUG-S", 7}, line{"mug-s", 7}), fails: []string{"INVALID input.lines.1.sku"}},
		{name: "update what is not in the cart", when: update(line{"MUG-L", 1}), fails: []string{"NOT_FOUND input.lines.0.sku"}},
		{name: "update to a bad quantity", when: update(line{"MUG-S", -1}), fails: []string{"INVALID input.lines.0.quantity"}},
		{name: "update a closed cart", given: []any{cart.CheckedOut{Order: "X"}}, when: update(line{"MUG-S", 1}), fails: []string{"CART_CLOSED input.cartId"}},
		{name: "create with what is not sold", when: create(line{"POT", 1}), fails: []string{"NOT_FOUND input.lines.0.sku"}},
		{name: "create with a bad quantity", when: create(line{"MUG-S", 0}), fails: []string{"INVALID input.lines.0.quantity"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := shop(t)
			k.Given(cartStream, append([]any{cart.Created{Currency: "GBP"}, mugLine("MUG-S", 2)}, test.given...)...)
			err := test.when(k)
			if len(test.fails) > 0 || err != nil {
				wantRefusals(t, k, err, test.fails...)
				return
			}
			var want []commandtest.Entry
			for _, fact := range test.then {
				want = append(want, entry(cartStream, fact))
			}
			k.Then(want...)
		})
	}
}

func TestCartLinesHaveThePriceOfTheMoment(t *testing.T) {
	k := shopWithCart(t)
	k.Given("product-"+mug, catalog.PriceChanged{SKU: "MUG-S", Price: pounds(600), Was: pounds(500)})
	r := must[commands.CartResult](t)(k.App.CartLinesAdd(ctx, commands.CartLinesAdd{CartID: cartID, Lines: []commands.LineInput{{SKU: "MUG-S", Quantity: 1}}}))
	if l, _ := r.State.Line("MUG-S"); l.UnitPrice != pounds(600) || l.Quantity != 3 {
		t.Fatalf("got %+v, want 3 at 6.00", l)
	}
}
