package commands_test

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/commands/commandtest"
	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/order"
)

func withKey(text string) context.Context {
	return commands.WithKey(ctx, commands.Key{Owner: "guest", Text: text})
}

// use is a use case with its input, and with one that is another request.
type use struct {
	name      string
	do, other func(*commands.App, context.Context) (any, error)
	// then is what goes on in the world before the repetition.
	then map[string][]any
}

func call[In, Out any](method func(*commands.App, context.Context, In) (Out, error), in In) func(*commands.App, context.Context) (any, error) {
	return func(a *commands.App, ctx context.Context) (any, error) { return method(a, ctx, in) }
}

// uses are all use cases that clients ask for.
func uses() []use {
	sold := commands.OrderCancel{OrderID: soldOrder, Staff: true, Reason: "a mistake"}
	other := checkout()
	other.PaymentToken = "declined"
	line := func(n int) []commands.LineInput { return []commands.LineInput{{SKU: "MUG-S", Quantity: n}} }
	product := func(title string) commands.ProductCreate {
		return commands.ProductCreate{Title: title, Variants: []commands.VariantInput{{SKU: "NEW", Price: "1.00"}}}
	}
	return []use{
		{
			name: "cart create", do: call((*commands.App).CartCreate, commands.CartCreate{Lines: line(1)}),
			other: call((*commands.App).CartCreate, commands.CartCreate{Lines: line(2)}),
		},
		{
			name: "cart lines add", do: call((*commands.App).CartLinesAdd, commands.CartLinesAdd{CartID: cartID, Lines: line(1)}),
			other: call((*commands.App).CartLinesAdd, commands.CartLinesAdd{CartID: cartID, Lines: line(2)}),
			then:  map[string][]any{cartStream: {mugLine("MUG-L", 3)}},
		},
		{
			name: "cart lines update", do: call((*commands.App).CartLinesUpdate, commands.CartLinesUpdate{CartID: cartID, Lines: line(7)}),
			other: call((*commands.App).CartLinesUpdate, commands.CartLinesUpdate{CartID: cartID, Lines: line(8)}),
			then:  map[string][]any{cartStream: {cart.LineRemoved{SKU: "MUG-S"}}},
		},
		{
			name: "cart lines update that changes nothing", do: call((*commands.App).CartLinesUpdate, commands.CartLinesUpdate{CartID: cartID, Lines: line(2)}),
			other: call((*commands.App).CartLinesUpdate, commands.CartLinesUpdate{CartID: cartID, Lines: line(8)}),
			then:  map[string][]any{cartStream: {cart.LineChanged{SKU: "MUG-S", Quantity: 5}}},
		},
		{
			name: "check out", do: call((*commands.App).CheckOut, checkout()), other: call((*commands.App).CheckOut, other),
			then: map[string][]any{"stock-MUG-S": {inventory.Adjusted{Delta: -8}}},
		},
		{
			name: "order cancel", do: call((*commands.App).OrderCancel, sold),
			other: call((*commands.App).OrderCancel, commands.OrderCancel{OrderID: soldOrder, Staff: true}),
		},
		{
			name: "order fulfill", do: call((*commands.App).OrderFulfill, commands.OrderFulfill{OrderID: soldOrder, Tracking: "T1"}),
			other: call((*commands.App).OrderFulfill, commands.OrderFulfill{OrderID: soldOrder, Tracking: "T2"}),
			then: map[string][]any{"order-" + soldOrder: {order.Returned{
				Lines: []order.LineQuantity{{ID: "1", Quantity: 1}}, Amount: pounds(500),
			}}},
		},
		{
			name: "product create", do: call((*commands.App).ProductCreate, product("Bowl")), other: call((*commands.App).ProductCreate, product("Plate")),
			then: map[string][]any{"stock-NEW": {inventory.Received{Quantity: 4}}},
		},
		{
			name: "product update", do: call((*commands.App).ProductUpdate, commands.ProductUpdate{ID: mug, Title: ptr("Cup")}),
			other: call((*commands.App).ProductUpdate, commands.ProductUpdate{ID: mug, Title: ptr("Beaker")}),
			then:  map[string][]any{"product-" + mug: {catalog.Archived{}}},
		},
		{
			name: "price change", do: call((*commands.App).VariantPriceChange, commands.VariantPriceChange{SKU: "mug-s", Price: "6.00"}),
			other: call((*commands.App).VariantPriceChange, commands.VariantPriceChange{SKU: "mug-s", Price: "7.00"}),
			then:  map[string][]any{"product-" + mug: {catalog.PriceChanged{SKU: "MUG-S", Price: pounds(100), Was: pounds(600)}}},
		},
		{
			name: "stock receive", do: call((*commands.App).StockReceive, commands.StockReceive{SKU: "MUG-S", Quantity: 5}),
			other: call((*commands.App).StockReceive, commands.StockReceive{SKU: "MUG-S", Quantity: 6}),
			then:  map[string][]any{"stock-MUG-S": {inventory.Adjusted{Delta: -1}}, "product-" + mug: {catalog.Archived{}}},
		},
		{
			name: "stock adjust", do: call((*commands.App).StockAdjust, commands.StockAdjust{SKU: "MUG-S", Delta: -2, Reason: "broken"}),
			other: call((*commands.App).StockAdjust, commands.StockAdjust{SKU: "MUG-S", Delta: -3, Reason: "broken"}),
			then:  map[string][]any{"stock-MUG-S": {inventory.Received{Quantity: 3}}},
		},
	}
}

const soldOrder = "SOLD0001"

// busyShop is a shop with a cart and a confirmed order.
func busyShop(t *testing.T) *commandtest.Kit {
	k := shopWithCart(t)
	k.Given("stock-MUG-S", inventory.Reserved{Order: soldOrder, Quantity: 1})
	k.Given("order-"+soldOrder, order.Placed{
		Number: soldOrder, Total: pounds(500), Currency: "GBP", PlacedAt: k.Now,
		Lines: []order.PlacedLine{{ID: "1", SKU: "MUG-S", Product: mug, Title: "Mug", Quantity: 1, UnitPrice: pounds(500)}},
	}, order.Confirmed{})
	return k
}

func TestAKeyHasOneEffectAndOneAnswer(t *testing.T) {
	for _, u := range uses() {
		t.Run(u.name, func(t *testing.T) {
			k := busyShop(t)
			once := withKey("once")
			first := must[any](t)(u.do(k.App, once))
			k.Fresh()
			for stream, facts := range u.then {
				k.Given(stream, facts...)
			}
			again := must[any](t)(u.do(k.App, once))
			k.Then()
			if !reflect.DeepEqual(again, first) {
				t.Fatalf("the repetition was answered\n%+v, the first\n%+v", again, first)
			}
			_, err := u.other(k.App, once)
			wantRefusals(t, k, err, "CONFLICT input.idempotencyKey")
		})
	}
}

// A key is its owner's and for one thing; what is another key changes nothing for this one.
func TestWhatIsAnotherKey(t *testing.T) {
	k := busyShop(t)
	in := commands.CartLinesAdd{CartID: cartID, Lines: []commands.LineInput{{SKU: "MUG-S", Quantity: 1}}}
	for _, key := range []commands.Key{
		{Owner: "guest", Text: "a"}, {Owner: "staff", Text: "a"}, {Owner: "guest", Text: "b"}, {Owner: "guest", Text: "a", Place: 1},
	} {
		must[commands.CartResult](t)(k.App.CartLinesAdd(commands.WithKey(ctx, key), in))
		k.Then(entry(cartStream, mugLine("MUG-S", 1)))
	}
	_, err := k.App.CheckOut(withKey("a"), checkout())
	wantRefusals(t, k, err, "CONFLICT input.idempotencyKey")
}

func TestARefusalLeavesTheKey(t *testing.T) {
	k := shopWithCart(t)
	in := commands.StockAdjust{SKU: "MUG-S", Delta: -11, Reason: "lost"}
	_, err := k.App.StockAdjust(withKey("once"), in)
	wantRefusals(t, k, err, "OUT_OF_STOCK input.delta")
	k.Given("stock-MUG-S", inventory.Received{Quantity: 5})
	must[commands.StockResult](t)(k.App.StockAdjust(withKey("once"), in))
	k.Then(entry("stock-MUG-S", inventory.Adjusted{Delta: -11, Reason: "lost"}))
}

func TestKeysThatAreNone(t *testing.T) {
	for _, text := range []string{"", strings.Repeat("k", commands.MaxKey+1)} {
		k := shopWithCart(t)
		_, err := k.App.CheckOut(withKey(text), checkout())
		wantRefusals(t, k, err, "INVALID input.idempotencyKey")
	}
}

// The id of a cart is a secret that stands nowhere: whoever has the key gets the same one, and a key that was forgotten makes a new cart.
func TestTheCartOfAKey(t *testing.T) {
	k := shop(t)
	first := must[commands.CartResult](t)(k.App.CartCreate(withKey("once"), commands.CartCreate{}))
	k.ForgetKeys()
	second := must[commands.CartResult](t)(k.App.CartCreate(withKey("once"), commands.CartCreate{}))
	again := must[commands.CartResult](t)(k.App.CartCreate(withKey("once"), commands.CartCreate{}))
	if first.ID == second.ID || second.ID != again.ID || !reflect.DeepEqual(second, again) {
		t.Fatalf("the carts are %+v, after the key was forgotten %+v, and then %+v", first, second, again)
	}
	for _, e := range k.Log() {
		if strings.Contains(e.Stream+string(e.Data), second.ID) {
			t.Errorf("%s tells the cart's id", e.Type)
		}
	}
}
