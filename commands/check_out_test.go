package commands_test

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/commands/commandtest"
	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/order"
)

var home = commands.Address{Name: "Ada", Line1: "1 Mill Lane", City: "Leeds", Postcode: "LS1 1AA", Country: "GB"}

func checkout() commands.CheckOut {
	return commands.CheckOut{CartID: cartID, Email: "Ada@Example.org", ShippingAddress: home, PaymentToken: "ok"}
}

func TestCheckOut(t *testing.T) {
	k := shopWithCart(t)
	in := checkout()
	in.ExpectedTotal = ptr("17.50")
	r := must[commands.OrderResult](t)(k.App.CheckOut(ctx, in))
	number := r.State.Number
	if len(number) != 8 || strings.Trim(number, "0123456789ABCDEFGHJKMNPQRSTVWXYZ") != "" {
		t.Fatalf("the number %q is not eight Crockford characters", number)
	}
	placed := order.Placed{
		Number: number, Total: pounds(1750), Currency: "GBP", Cart: commands.CartRef(cartID), Subject: k.App.SubjectOf("ada@example.ORG"),
		Country: "United Kingdom", PlacedAt: k.Now, PaymentDue: k.Now.Add(commandtest.Deadline),
		Contact: r.State.Contact, PaymentToken: r.State.PaymentToken,
		Lines: []order.PlacedLine{
			{ID: "1", SKU: "MUG-S", Product: mug, Title: "Mug – Small", Quantity: 2, UnitPrice: pounds(500)},
			{ID: "2", SKU: "MUG-L", Product: mug, Title: "Mug – Large", Quantity: 1, UnitPrice: pounds(750)},
		},
	}
	k.Then(
		entry("stock-MUG-S", inventory.Reserved{Order: number, Quantity: 2}),
		entry("stock-MUG-L", inventory.Reserved{Order: number, Quantity: 1}),
		entry("order-"+number, placed),
		entry(cartStream, cart.CheckedOut{Order: number}),
	)
	if r.State.Status != order.StatusPending || !k.App.MayAccess(number, r.AccessToken) {
		t.Fatalf("got %+v", r)
	}
	contact := must[commands.Contact](t)(k.App.OpenContact(ctx, r.State.Contact))
	if want := (commands.Contact{Email: "Ada@Example.org", Address: home}); contact != want {
		t.Fatalf("got contact %+v, want %+v", contact, want)
	}
	if token := must[string](t)(k.App.OpenPaymentToken(ctx, r.State.PaymentToken)); token != "ok" {
		t.Fatalf("got payment token %q", token)
	}
	_, err := k.App.CheckOut(ctx, checkout())
	wantRefusals(t, k, err, "CART_CLOSED input.cartId")
}

// Nothing that is personal or secret may be read in the log.
func TestCheckOutSealsWhatIsPersonal(t *testing.T) {
	k := shopWithCart(t)
	in := checkout()
	in.PaymentToken = "tok_secret"
	r := must[commands.OrderResult](t)(k.App.CheckOut(withKey("key-of-ada"), in))
	for _, e := range k.Log() {
		for _, secret := range []string{cartID, "Ada", "ada", "Mill Lane", "LS1", "tok_secret", "key-of-ada", r.AccessToken} {
			if strings.Contains(e.Stream+string(e.Data), secret) {
				t.Errorf("%s tells %q", e.Type, secret)
			}
		}
	}
}

func TestCheckOutRefusals(t *testing.T) {
	type in = commands.CheckOut
	for _, test := range []struct {
		name  string
		given map[string][]any
		when  func(*in)
		want  []string
	}{
		{name: "total changed", when: func(c *in) { c.ExpectedTotal = ptr("17.49") }, want: []string{"TOTAL_CHANGED input.expectedTotal"}},
		{
			name: "price changed since the line was added", when: func(c *in) { c.ExpectedTotal = ptr("17.50") },
			given: map[string][]any{"product-" + mug: {catalog.PriceChanged{SKU: "MUG-S", Price: pounds(501), Was: pounds(500)}}},
			want:  []string{"TOTAL_CHANGED input.expectedTotal"},
		},
		{
			name:  "out of stock, twice",
			given: map[string][]any{"stock-MUG-S": {inventory.Adjusted{Delta: -9}}, "stock-MUG-L": {inventory.Reserved{Order: "X", Quantity: 10}}},
			want:  []string{"OUT_OF_STOCK input.cartId", "OUT_OF_STOCK input.cartId"},
		},
		{
			name: "no longer for sale", given: map[string][]any{"product-" + mug: {catalog.Archived{}}},
			want: []string{"NOT_FOUND input.cartId", "NOT_FOUND input.cartId"},
		},
		{
			name: "empty cart", given: map[string][]any{cartStream: {cart.LineRemoved{SKU: "MUG-S"}, cart.LineRemoved{SKU: "MUG-L"}}},
			want: []string{"CART_EMPTY input.cartId"},
		},
		{name: "closed cart", given: map[string][]any{cartStream: {cart.CheckedOut{Order: "X"}}}, want: []string{"CART_CLOSED input.cartId"}},
		{name: "unknown cart", when: func(c *in) { c.CartID = mug }, want: []string{"NOT_FOUND input.cartId"}},
		{name: "no cart's id", when: func(c *in) { c.CartID = "" }, want: []string{"NOT_FOUND input.cartId"}},
		{
			name: "everything wrong at once",
			when: func(c *in) {
				c.Email, c.ShippingAddress, c.PaymentToken = "ada", commands.Address{Country: "Britain"}, " "
				c.ExpectedTotal = ptr("1.005")
			},
			want: []string{
				"INVALID input.email", "INVALID input.shippingAddress.name", "INVALID input.shippingAddress.line1",
				"INVALID input.shippingAddress.city", "INVALID input.shippingAddress.country", "INVALID input.payment.token",
				"INVALID input.expectedTotal",
			},
		},
		{name: "a name beside the address", when: func(c *in) { c.Email = "Ada <ada@example.org>" }, want: []string{"INVALID input.email"}},
		{name: "a long address", when: func(c *in) { c.Email = strings.Repeat("a", 250) + "@example.org" }, want: []string{"INVALID input.email"}},
		{name: "a country that was", when: func(c *in) { c.ShippingAddress.Country = "SU" }, want: []string{"INVALID input.shippingAddress.country"}},
		{name: "a code of more than a country", when: func(c *in) { c.ShippingAddress.Country = "UK" }, want: []string{"INVALID input.shippingAddress.country"}},
		{name: "a long postcode", when: func(c *in) { c.ShippingAddress.Postcode = strings.Repeat("1", 21) }, want: []string{"INVALID input.shippingAddress.postcode"}},
		{name: "a line break", when: func(c *in) { c.ShippingAddress.Line2 = "a\nb" }, want: []string{"INVALID input.shippingAddress.line2"}},
		{name: "a long token", when: func(c *in) { c.PaymentToken = strings.Repeat("t", 201) }, want: []string{"INVALID input.payment.token"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := shopWithCart(t)
			for stream, facts := range test.given {
				k.Given(stream, facts...)
			}
			in := checkout()
			if test.when != nil {
				test.when(&in)
			}
			_, err := k.App.CheckOut(ctx, in)
			wantRefusals(t, k, err, test.want...)
		})
	}
}

func TestCheckOutTakesThePriceOfTheMoment(t *testing.T) {
	k := shopWithCart(t)
	k.Given("product-"+mug, catalog.PriceChanged{SKU: "MUG-S", Price: pounds(100), Was: pounds(500)})
	if r := must[commands.OrderResult](t)(k.App.CheckOut(ctx, checkout())); r.State.Total != pounds(950) {
		t.Fatalf("got %v, want 9.50 GBP", r.State.Total)
	}
}

func TestAccessTokens(t *testing.T) {
	a := commandtest.New(t).App
	token := a.AccessToken("ABCD1234")
	for _, wrong := range []string{"", token[1:], token + "A", a.AccessToken("ABCD1235")} {
		if a.MayAccess("ABCD1234", wrong) {
			t.Errorf("%q opens the order", wrong)
		}
	}
	if !a.MayAccess("ABCD1234", token) {
		t.Error("the order's own token does not open it")
	}
}

func TestCountries(t *testing.T) {
	for code, want := range map[string]string{"GB": "United Kingdom", "DE": "Germany", "IE": "Ireland", "gb": "", "EU": "", "XX": "", "": ""} {
		if name, ok := commands.CountryName(code); name != want || ok != (want != "") {
			t.Errorf("%q: got %q, %v, want %q", code, name, ok, want)
		}
	}
}
