package graph_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/graph"
)

// TestTimeTravel asks for a product and an order as the log stood at several times.
func TestTimeTravel(t *testing.T) {
	s := newShop(t)
	_, url := face(t, s, graph.Options{})
	now := func() string { return time.Now().UTC().Format(time.RFC3339Nano) }
	before := now()
	s.stocked(t, "22197", "Popcorn Holder", "0.85", 10)
	stocked := now()
	if _, err := s.app.VariantPriceChange(context.Background(), commands.VariantPriceChange{SKU: "22197", Price: "1.00"}); err != nil {
		t.Fatal(err)
	}
	changed := now()
	cart := ask(t, url, `mutation { cartCreate(input: {lines: [{sku: "22197", quantity: 2}]}) { cart { id } } }`, nil).must(t).text(t, "cartCreate", "cart", "id")
	done := ask(t, url, checkout, checkoutInput(cart, nil)).must(t)
	order, token := done.text(t, "checkout", "order", "id"), done.text(t, "checkout", "accessToken")
	placed := now()
	staff(t, url, `mutation($id: ID!) { orderCancel(input: {orderId: $id}) { userErrors { message } } }`, map[string]any{"id": order}).must(t)

	product := staff(t, url, `{ products(first: 1) { nodes { id slug } } }`, nil).must(t)
	id, slug := product.text(t, "products", "nodes", 0, "id"), product.text(t, "products", "nodes", 0, "slug")
	const byID = `query($id: ID, $slug: String, $at: DateTime) { product(id: $id, slug: $slug, asOf: $at) { variants { price { amount } available } } }`
	for at, want := range map[string]string{
		before: "<nil>", stocked: "map[variants:[map[available:10 price:map[amount:0.85]]]]",
		changed: "map[variants:[map[available:10 price:map[amount:1.00]]]]", placed: "map[variants:[map[available:8 price:map[amount:1.00]]]]",
		"2999-01-01T00:00:00Z": "map[variants:[map[available:10 price:map[amount:1.00]]]]",
	} {
		for _, variables := range []map[string]any{{"id": id, "at": at}, {"slug": slug, "at": at}} {
			if got := fmt.Sprint(staff(t, url, byID, variables).must(t).at(t, "product")); got != want {
				t.Errorf("at %s (%v) the product is %s, want %s", at, variables, got, want)
			}
		}
	}
	const byNumber = `query($id: ID!, $at: DateTime, $token: String) { order(id: $id, asOf: $at, accessToken: $token) { status history { type } } }`
	for at, want := range map[string]string{
		changed: "<nil>", placed: "map[history:[map[type:order.placed]] status:PENDING]",
		"2999-01-01T00:00:00Z": "map[history:[map[type:order.placed] map[type:order.cancelled]] status:CANCELLED]",
	} {
		if got := fmt.Sprint(staff(t, url, byNumber, map[string]any{"id": order, "at": at}).must(t).at(t, "order")); got != want {
			t.Errorf("at %s the order is %s, want %s", at, got, want)
		}
	}

	// The past is for staff, also of what a guest may see today.
	for name, a := range map[string]answer{
		"order":   ask(t, url, byNumber, map[string]any{"id": order, "at": placed, "token": token}),
		"product": ask(t, url, byID, map[string]any{"id": id, "at": changed}),
	} {
		if got := a.wrong(t); !strings.HasPrefix(got, "FORBIDDEN: ") {
			t.Errorf("a guest who asks for the past of the %s gets %s", name, got)
		}
	}
}
