package graph_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/graph"
)

const checkout = `mutation($in: CheckoutInput!) { checkout(input: $in) {
	order { id number status email shippingAddress { name country line2 } subtotal { amount } total { amount currency }
		lines { sku title quantity unitPrice { amount } total { amount } variant { sku } fulfilled returned } history { type summary } }
	accessToken userErrors { field code message } position } }`

func checkoutInput(cart string, more map[string]any) map[string]any {
	in := map[string]any{
		"cartId": cart, "email": "ann@example.org", "payment": map[string]any{"token": "ok"},
		"shippingAddress": map[string]any{"name": "Ann", "line1": "1 Mill Lane", "city": "Leeds", "country": "GB"},
	}
	for k, v := range more {
		in[k] = v
	}
	return map[string]any{"in": in}
}

// TestPurchase walks a guest from browsing to an order.
func TestPurchase(t *testing.T) {
	s := newShop(t)
	_, url := face(t, s, graph.Options{})
	s.stocked(t, "22197", "Popcorn Holder", "0.85", 10)

	list := ask(t, url, `{ products(first: 5) { nodes { id title variants { id sku title price { amount currency } available product { slug } } } totalCount } }`, nil).must(t)
	if got := fmt.Sprint(list.at(t, "products", "nodes", 0, "variants", 0, "available")); got != "10" {
		t.Errorf("available is %s", got)
	}
	created := ask(t, url, `mutation { cartCreate(input: {lines: [{sku: " 22197", quantity: 2}]}) {
		cart { id status subtotal { amount } total { amount currency } lines { id quantity unitPrice { amount } total { amount } variant { sku } } order { id } }
		userErrors { message } position } }`, nil).must(t)
	cart := created.text(t, "cartCreate", "cart", "id")
	if got := created.text(t, "cartCreate", "cart", "total", "amount"); got != "1.70" {
		t.Errorf("the cart's total is %s", got)
	}
	position := created.text(t, "cartCreate", "position")
	if created.header.Get("Millrace-Position") != position || created.Extensions["position"] != position {
		t.Errorf("the position is %s in the answer, %v in the header, %v in the extensions",
			position, created.header.Get("Millrace-Position"), created.Extensions["position"])
	}

	// The price goes up: the cart says so before checkout does.
	if _, err := s.app.VariantPriceChange(context.Background(), commands.VariantPriceChange{SKU: "22197", Price: "1.00"}); err != nil {
		t.Fatal(err)
	}
	again := ask(t, url, `query($id: ID!) { cart(id: $id) { lines { unitPrice { amount } } total { amount } } }`, map[string]any{"id": cart}).must(t)
	if got := again.text(t, "cart", "total", "amount"); got != "2.00" {
		t.Errorf("after the price change the cart's total is %s", got)
	}
	refused := ask(t, url, checkout, checkoutInput(cart, map[string]any{"expectedTotal": "1.70"})).must(t)
	if got := refused.text(t, "checkout", "userErrors", 0, "code"); got != "TOTAL_CHANGED" {
		t.Errorf("the code is %s", got)
	}
	if got := fmt.Sprint(refused.at(t, "checkout", "userErrors", 0, "field")); got != "[input expectedTotal]" {
		t.Errorf("the field is %s", got)
	}
	if refused.header.Get("Millrace-Position") != "" {
		t.Error("a refused mutation has a position")
	}

	done := ask(t, url, checkout, checkoutInput(cart, map[string]any{"expectedTotal": "2.00"})).must(t)
	id, token := done.text(t, "checkout", "order", "id"), done.text(t, "checkout", "accessToken")
	if got := done.text(t, "checkout", "order", "email"); got != "ann@example.org" {
		t.Errorf("the e-mail address is %s", got)
	}
	if got := done.text(t, "checkout", "order", "history", 0, "summary"); got != "Placed: 2 units in 1 line, 2.00 GBP in all." {
		t.Errorf("the history says %q", got)
	}
	closed := ask(t, url, `query($id: ID!) { cart(id: $id) { status total { amount } order { id } } }`, map[string]any{"id": cart}).must(t)
	if closed.text(t, "cart", "order", "id") != id || closed.text(t, "cart", "status") != "CHECKED_OUT" {
		t.Errorf("the cart is %s", closed.body)
	}

	seen := `query($id: ID!, $token: String) { order(id: $id, accessToken: $token) { number } }`
	for name, c := range map[string]struct {
		token  any
		staff  bool
		number bool
	}{
		"with the token": {token: token, number: true}, "wrong token": {token: token + "x"}, "no token": {}, "staff": {staff: true, number: true},
	} {
		send := ask(t, url, seen, map[string]any{"id": id, "token": c.token})
		if c.staff {
			send = staff(t, url, seen, map[string]any{"id": id})
		}
		if got := send.must(t).at(t, "order") != nil; got != c.number {
			t.Errorf("%s: seen is %t", name, got)
		}
	}
	cancelled := ask(t, url, `mutation($id: ID!, $token: String) { orderCancel(input: {orderId: $id, accessToken: $token, reason: "Call me on 555"}) {
		order { status history { summary } } userErrors { code field } } }`, map[string]any{"id": id, "token": token}).must(t)
	if got := cancelled.text(t, "orderCancel", "order", "history", 1, "summary"); got != "Cancelled by the buyer." {
		t.Errorf("the history says %q", got)
	}
}

// TestUserErrors checks what a person can mend, with its path from the arguments.
func TestUserErrors(t *testing.T) {
	s := newShop(t)
	_, url := face(t, s, graph.Options{})
	s.stocked(t, "A", "Anvil", "10.00", 1)
	cart := ask(t, url, `mutation { cartCreate(input: {lines: [{sku: "A", quantity: 2}]}) { cart { id } } }`, nil).must(t).text(t, "cartCreate", "cart", "id")
	for name, c := range map[string]struct {
		query     string
		variables map[string]any
		staff     bool
		want      string
	}{
		"unknown SKU":        {`mutation { m: cartCreate(input: {lines: [{sku: "A", quantity: 1}, {sku: "B", quantity: 1}]}) { userErrors { code field } } }`, nil, false, "NOT_FOUND [input lines 1 sku]"},
		"no units":           {`mutation { m: cartCreate(input: {lines: [{sku: "A", quantity: 0}]}) { userErrors { code field } } }`, nil, false, "INVALID [input lines 0 quantity]"},
		"out of stock":       {`mutation($in: CheckoutInput!) { m: checkout(input: $in) { userErrors { code field } } }`, checkoutInput(cart, nil), false, "OUT_OF_STOCK [input cartId]"},
		"no cart":            {`mutation($in: CheckoutInput!) { m: checkout(input: $in) { userErrors { code field } } }`, checkoutInput("nonsense", nil), false, "NOT_FOUND [input cartId]"},
		"bad total":          {`mutation($in: CheckoutInput!) { m: checkout(input: $in) { userErrors { code field } } }`, checkoutInput(cart, map[string]any{"expectedTotal": "1.234"}), false, "INVALID [input expectedTotal]"},
		"id of another kind": {`mutation($id: ID!) { m: productUpdate(input: {id: $id}) { userErrors { code field } } }`, map[string]any{"id": cart}, true, "NOT_FOUND [input id]"},
		"price":              {`mutation { m: variantPriceChange(input: {sku: "A", price: "abc"}) { userErrors { code field } } }`, nil, true, "INVALID [input price]"},
		"taken SKU":          {`mutation { m: productCreate(input: {title: "B", variants: [{sku: "a", price: "1"}]}) { userErrors { code field } } }`, nil, true, "CONFLICT [input variants 0 sku]"},
		"unknown order":      {`mutation { m: orderCancel(input: {orderId: "x", accessToken: "y"}) { userErrors { code field } } }`, nil, false, "NOT_FOUND [input orderId]"},
	} {
		a := ask(t, url, c.query, c.variables)
		if c.staff {
			a = staff(t, url, c.query, c.variables)
		}
		got := fmt.Sprint(a.must(t).at(t, "m", "userErrors", 0, "code"), " ", a.at(t, "m", "userErrors", 0, "field"))
		if got != c.want {
			t.Errorf("%s: %s, not %s", name, got, c.want)
		}
	}
}

// TestVisibility checks that to shoppers only ACTIVE products exist.
func TestVisibility(t *testing.T) {
	s := newShop(t)
	_, url := face(t, s, graph.Options{})
	p := s.stocked(t, "A", "Anvil", "10.00", 1)
	o := s.bought(t, "ann@example.org", commands.LineInput{SKU: "A", Quantity: 1})
	c, err := s.app.CartCreate(context.Background(), commands.CartCreate{Lines: []commands.LineInput{{SKU: "A", Quantity: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	archived := catalog.StatusArchived
	if _, err := s.app.ProductUpdate(context.Background(), commands.ProductUpdate{ID: p.ID, Status: &archived}); err != nil {
		t.Fatal(err)
	}
	list := staff(t, url, `{ products { nodes { id variants { id } } } draft: products(filter: {status: DRAFT}) { totalCount } }`, nil).must(t)
	product, variant := list.text(t, "products", "nodes", 0, "id"), list.text(t, "products", "nodes", 0, "variants", 0, "id")
	query := `query($p: ID!, $v: ID!, $o: ID!, $c: ID!, $token: String) {
		node(id: $p) { id } nodes(ids: [$p, $v, $o]) { id } byId: product(id: $p) { id } bySlug: product(slug: "anvil") { id }
		products { totalCount } archived: products(filter: {status: ARCHIVED}) { totalCount nodes { id } }
		order(id: $o, accessToken: $token) { lines { title variant { sku } } }
		cart(id: $c) { lines { variant { sku title available product { status description } } } total { amount } } }`
	variables := map[string]any{
		"p": product, "v": variant, "o": idOf("Order", o.State.Number), "c": idOf("Cart", c.ID), "token": o.AccessToken,
	}
	guest := ask(t, url, query, variables).must(t)
	want := `{"node":null,"nodes":[null,null,null],"byId":null,"bySlug":null,"products":{"totalCount":0},` +
		`"archived":{"totalCount":0,"nodes":[]},"order":{"lines":[{"title":"Anvil","variant":null}]},` +
		`"cart":{"lines":[{"variant":{"sku":"A","title":"Anvil","available":0,"product":{"status":"ARCHIVED","description":""}}}],"total":{"amount":"10.00"}}}`
	if guest.body != `{"data":`+want+`}` {
		t.Errorf("a guest sees %s", guest.body)
	}
	if got := staff(t, url, query, variables).must(t); got.text(t, "nodes", 2, "id") != idOf("Order", o.State.Number) || got.at(t, "bySlug") == nil {
		t.Errorf("staff see %s", got.body)
	}
}

// TestUnknownIDs checks that an id that nothing has, of whatever form, is answered with null.
func TestUnknownIDs(t *testing.T) {
	_, url := face(t, newShop(t), graph.Options{})
	for _, id := range []string{
		"", "x", "!!!", idOf("Product", "nothing"), idOf("Cart", "nothing"), idOf("Order", "nothing"), idOf("Variant", "nothing"),
		idOf("Ghost", "1"), idOf("Product", "\x00"), idOf("Product", ""), idOf("", "1"), idOf("Product", "\xff"),
	} {
		a := staff(t, url, `query($id: ID!) { node(id: $id) { id } nodes(ids: [$id]) { id } product(id: $id) { id } cart(id: $id) { id } order(id: $id) { id } }`,
			map[string]any{"id": id}).must(t)
		if want := `{"data":{"node":null,"nodes":[null],"product":null,"cart":null,"order":null}}`; a.body != want {
			t.Errorf("%q: %s", id, a.body)
		}
	}
}
