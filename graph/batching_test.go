package graph_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/graph"
)

// TestBatching checks that what a list needs is read together: the number of reads does not grow with the list.
func TestBatching(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	const many = 20
	var lines []commands.LineInput
	var ids, variants []any
	for i := range many {
		sku := fmt.Sprintf("SKU%02d", i)
		p := s.stocked(t, sku, fmt.Sprintf("Thing %02d", i), "1.00", 1000)
		ids = append(ids, idOf("Product", p.ID))
		variants = append(variants, idOf("Variant", sku))
		lines = append(lines, commands.LineInput{SKU: sku, Quantity: 1})
	}
	for i := range many {
		s.bought(t, fmt.Sprintf("buyer%d@example.org", i), lines...)
	}
	c, err := s.app.CartCreate(context.Background(), commands.CartCreate{Lines: lines})
	if err != nil {
		t.Fatal(err)
	}
	page := staff(t, base, `{ events(first: 100) { pageInfo { endCursor } } }`, nil).must(t)
	start := page.text(t, "events", "pageInfo", "endCursor") // orders come behind
	for name, q := range map[string]struct {
		query     string
		variables map[string]any
		reads     map[string]int
	}{
		"products": {
			`{ products { edges { node { variants { available product { variants { available } } } } } } }`, nil,
			map[string]int{"product list": 1, "stock": 1},
		},
		"products without stock": {`{ products { nodes { title variants { price { amount } } } } }`, nil, map[string]int{"product list": 1}},
		"total only":             {`{ products { totalCount } }`, nil, map[string]int{"product list": 2, "product count": 1}},
		"orders": {
			`{ orders { nodes { email shippingAddress { city } lines { variant { available product { title } } } } } }`, nil,
			map[string]int{"order list": 1, "vault": 1, "products": 1, "stock": 1},
		},
		"cart": {
			`query($c: ID!) { cart(id: $c) { subtotal { amount } total { amount } lines { unitPrice { amount } variant { available } } } }`,
			map[string]any{"c": idOf("Cart", c.ID)}, map[string]int{"carts": 1, "products": 1, "stock": 1},
		},
		"nodes, products": {
			`query($ids: [ID!]!) { nodes(ids: $ids) { id ... on Product { variants { available } } } }`, map[string]any{"ids": ids},
			map[string]int{"products": 1, "stock": 1},
		},
		"nodes, variants": {
			`query($ids: [ID!]!) { nodes(ids: $ids) { id ... on Variant { available product { title } } } }`, map[string]any{"ids": variants},
			map[string]int{"products": 1, "stock": 1},
		},
		"events": {`query($after: String) { events(first: 100, after: $after) { nodes { data } } }`, map[string]any{"after": start}, map[string]int{"log": 1, "vault": 1}},
		"mutation": {
			`mutation($c: ID!) { cartLinesUpdate(input: {cartId: $c, lines: [{sku: "SKU00", quantity: 2}]}) {
				cart { total { amount } lines { unitPrice { amount } variant { available } } } } }`,
			map[string]any{"c": idOf("Cart", c.ID)}, map[string]int{"execute": 1, "products": 1, "stock": 1},
		},
		"mutation, of what it has read itself": {
			`mutation { cartCreate(input: {lines: [{sku: "SKU00", quantity: 2}]}) {
				cart { total { amount } lines { unitPrice { amount } variant { sku product { title createdAt } } } } } }`,
			nil, map[string]int{"execute": 1},
		},
		"mutation, of what it has read itself and not": {
			`mutation($c: ID!) { cartLinesAdd(input: {cartId: $c, lines: [{sku: "SKU01", quantity: 1}]}) {
				cart { total { amount } } } }`,
			map[string]any{"c": idOf("Cart", c.ID)}, map[string]int{"execute": 1, "products": 1},
		},
	} {
		s.resetCounts()
		staff(t, base, q.query, q.variables).must(t)
		s.mu.Lock()
		if fmt.Sprint(s.calls) != fmt.Sprint(q.reads) {
			t.Errorf("%s: %v, not %v", name, s.calls, q.reads)
		}
		s.mu.Unlock()
	}
}
