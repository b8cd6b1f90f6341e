package graph_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/millrace/millrace/graph"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestRefusals checks the messages of everything that is refused, word for word, and that nothing of it runs.
func TestRefusals(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	deep := "{ product(slug: \"x\") " + strings.Repeat("{ variants { product ", 6) + "{ id }" + strings.Repeat(" } }", 6) + " }"
	aliases := "{" + strings.Repeat(" x%d: __typename", 101) + " }"
	for i := range 101 {
		aliases = strings.Replace(aliases, "%d", fmt.Sprint(i), 1)
	}
	twice := "{ a: product(slug: \"x\") { ...f } b: product(slug: \"x\") { ...f } } fragment f on Product {"
	for i := range 60 {
		twice += fmt.Sprintf(" c%d: id", i)
	}
	bomb := "query { ...f0 }"
	for i := range 30 {
		bomb += fmt.Sprintf(" fragment f%d on Query { ...f%d a%d: products { totalCount } ...f%d }", i, i+1, i, i+1)
	}
	bomb += " fragment f30 on Query { products { totalCount } }"
	cases := []struct{ name, query string }{
		{"empty", ` `},
		{"syntax", `{ products`},
		{"comment only", `# nothing`},
		{"no such field", `{ product(slug: "x") { colour } }`},
		{"no such argument", `{ products(size: 1) { totalCount } }`},
		{"no selection", `{ products }`},
		{"deep", deep},
		{"aliases", aliases},
		{"aliases in a fragment", twice + " }"},
		{"fragment bomb", bomb},
		{"fragment in itself", `{ ...f } fragment f on Query { products { nodes { ...g } } } fragment g on Product { variants { product { ... { id ...g } } } }`},
		{"page", `{ products(first: 101) { totalCount } }`},
		{"page by variable", `query($n: Int = 500) { products(first: $n) { totalCount } }`},
		{"page in a fragment", `{ ...f } fragment f on Query { products(last: 1000) { totalCount } }`},
		{"negative page", `{ products(last: -1) { totalCount } }`},
		{"both ends", `{ products(first: 1, last: 1) { totalCount } }`},
		{"page beyond 32 bits", `{ products(first: 99999999999) { totalCount } }`},
		{"ids", `{ nodes(ids: [` + strings.Repeat(`"x",`, 101) + `]) { id } }`},
		{"complexity", `{ products(first: 100) { nodes { variants { sku product { variants { sku product { variants { sku } } } } } } } }`},
		{"tokens", `{ products { ` + strings.Repeat("totalCount ", 2000) + ` } }`},
		{"introspection", `{ __schema { types { name } } }`},
		{"introspection by type", `{ __type(name: "Query") { name } }`},
		{"defer", `{ ...f @defer } fragment f on Query { products { totalCount } }`},
		{"subscription", `subscription { stockChanged(skus: ["A"]) { sku } }`},
		{"two operations", `query A { __typename } query B { __typename }`},
		{"cursor", `{ products(after: "!!!") { totalCount } }`},
		{"product without key", `{ product { id } }`},
		{"product with both", `{ product(id: "x", slug: "y") { id } }`},
		{"decimal", `{ products(filter: {minPrice: "1.234"}) { totalCount } }`},
		{"decimal as number", `{ products(filter: {minPrice: 1.5}) { totalCount } }`},
		{"date", `{ salesReport(from: "yesterday", to: "2026-01-01T00:00:00Z", groupBy: DAY) { key } }`},
		{"orders", `{ orders { totalCount } }`},
		{"sales", `{ salesReport(from: "2026-01-01T00:00:00Z", to: "2026-01-02T00:00:00Z", groupBy: DAY) { key } }`},
		{"projections", `{ projections { name } }`},
		{"events", `{ events { pageInfo { hasNextPage } } }`},
		{"fulfil", `mutation { orderFulfill(input: {orderId: "x"}) { position } }`},
		{"create", `mutation { productCreate(input: {title: "x", variants: []}) { position } }`},
		{"update", `mutation { productUpdate(input: {id: "x"}) { position } }`},
		{"price", `mutation { variantPriceChange(input: {sku: "x", price: "1"}) { position } }`},
		{"receive", `mutation { stockReceive(input: {sku: "x", quantity: 1}) { position } }`},
		{"adjust", `mutation { stockAdjust(input: {sku: "x", delta: 1, reason: "y"}) { position } }`},
	}
	var got bytes.Buffer
	for _, c := range cases {
		a := ask(t, base, c.query, nil)
		fmt.Fprintf(&got, "%s\n\t%d", c.name, a.status)
		for _, e := range a.Errors {
			fmt.Fprintf(&got, " %s: %s\n", e.Extensions["code"], e.Message)
		}
	}
	compareGolden(t, "testdata/refusals.golden", got.Bytes())
	for _, what := range []string{"execute", "product list", "product count", "products", "stock", "order list", "sales", "projections", "log"} {
		if n := s.count(what); n != 0 {
			t.Errorf("%s ran %d times", what, n)
		}
	}
}

// TestNumbers checks that a number which does not fit is refused with the number that was sent, wherever among the variables it is.
func TestNumbers(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	const page = `query($n: Int) { products(first: $n) { totalCount } }`
	const cart = `mutation($in: CartCreateInput) { cartCreate(input: $in) { position } }`
	for _, c := range []struct{ query, variables, want string }{
		{page, `{"n": 1.5}`, "$n: 1.5 is not a whole number of 32 bits"},
		{page, `{"n": 30000000000000000000}`, "$n: 30000000000000000000 is not a whole number of 32 bits"},
		{page, `{"n": 2147483648}`, "$n: 2147483648 is not a whole number of 32 bits"},
		{page, `{"n": "1.5"}`, "$n: cannot use string as Int"},
		{cart, `{"in": {"lines": [{"sku": "A", "quantity": 1}, {"sku": "A", "quantity": 0.25}]}}`, "$in.lines[1].quantity: 0.25 is not a whole number of 32 bits"},
		{cart, `{"in": {"lines": {"sku": "A", "quantity": 1e40}}}`, "$in.lines.quantity: 1e40 is not a whole number of 32 bits"},
		{cart, `{"in": [1.5]}`, "$in: must be a CartCreateInput, not a slice"},
	} {
		a := send(t, "POST", base+"/graphql", fmt.Sprintf(`{"query": %q, "variables": %s}`, c.query, c.variables), "Content-Type", "application/json")
		if got := a.wrong(t); got != "BAD_USER_INPUT: "+c.want {
			t.Errorf("%s: %s, not %s", c.variables, got, c.want)
		}
	}
	if n := s.count("execute") + s.count("product count"); n != 0 {
		t.Errorf("%d ran", n)
	}
}

func compareGolden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("not as in %s (go test -update writes it anew):\n%s", file, got)
	}
}

// TestIntrospection checks that the query that tools send passes all limits where introspection is on.
func TestIntrospection(t *testing.T) {
	_, base := face(t, newShop(t), graph.Options{Introspection: true})
	a := ask(t, base, introspection, nil).must(t)
	if !strings.Contains(a.body, `"checkout"`) {
		t.Error("the schema has no checkout")
	}
	if strings.Contains(a.body, `"defer"`) {
		t.Error("the schema has @defer, which is not done")
	}
	var many strings.Builder
	for i := range 30 {
		fmt.Fprintf(&many, "a%d: __schema { types { name } } ", i)
	}
	if got := ask(t, base, "{"+many.String()+"}", nil).wrong(t); !strings.Contains(got, "complexity of 15000; at most 10000") {
		t.Error(got)
	}
	if got := ask(t, base, `{ product(slug: "x") { titel } }`, nil).wrong(t); !strings.Contains(got, "Did you mean") {
		t.Error(got)
	}
}

// TestLargestPages checks that pages of the largest size, and as many products one by one, pass the limits, with what storefronts show on them.
func TestLargestPages(t *testing.T) {
	_, base := face(t, newShop(t), graph.Options{})
	ask(t, base, `{ products(first: 100) { totalCount pageInfo { hasNextPage hasPreviousPage startCursor endCursor } edges { cursor node {
		id slug title description status createdAt updatedAt variants { id sku title available price { amount currency } product { id } } } } } }`, nil).must(t)
	staff(t, base, `{ orders(first: 100) { nodes { id number status email placedAt total { amount currency } lines {
		id sku title quantity fulfilled returned unitPrice { amount currency } total { amount } variant { sku } } } } }`, nil).must(t)
	var several strings.Builder
	for i := range 100 {
		fmt.Fprintf(&several, "p%d: product(slug: \"x\") { ...card } ", i)
	}
	ask(t, base, "{ "+several.String()+`} fragment card on Product { __typename id slug title variants { ...offer } }
		fragment offer on Variant { __typename id sku available price { amount currency } }`, nil).must(t)
}

// TestComparisons checks which documents are refused before they are validated, since validation takes the square of what they repeat.
func TestComparisons(t *testing.T) {
	_, base := face(t, newShop(t), graph.Options{})
	const tooMany = "BAD_USER_INPUT: it would take more than 10000 comparisons to find out whether the fields of the document can be merged: " +
		"ask for each field once, and spread fragments less often"
	repeat := strings.Repeat
	each := func(n int, format string) (text string) {
		for i := range n {
			text += strings.NewReplacer("N+1", fmt.Sprint(i+1), "N", fmt.Sprint(i)).Replace(format)
		}
		return text
	}
	for _, c := range []struct {
		name  string
		query func(n int) string
		most  int // how many are accepted
	}{
		{"a field", func(n int) string { return "{ products { nodes { " + repeat("id ", n) + "} } }" }, 99},
		{"fields in each other", func(n int) string { return "{ " + repeat("products { nodes { id } } ", n) + "}" }, 57},
		{"a field in fragments", func(n int) string {
			return "{ products { nodes { " + each(n, "...fN ") + "} } }" + each(n, " fragment fN on Product { id id id id }")
		}, 23},
		{"a fragment", func(n int) string {
			return "{ products { nodes { " + repeat("...f ", n) + "} } } fragment f on Product { id }"
		}, 70},
		{"a fragment in inline fragments", func(n int) string {
			return "{ products { nodes { " + repeat("... { ...f } ", n) + "} } } fragment f on Product { id }"
		}, 49},
		{"a field in an inline fragment", func(n int) string { return "{ products { nodes { ... { " + repeat("id ", n) + "} } } }" }, 70},
		{"inline fragments in each other", func(n int) string {
			return "{ products { nodes { " + repeat("... { ", n) + "id" + repeat(" }", n) + " } } }"
		}, 139},
		{"operations", func(n int) string {
			return each(n, "query qN { products { nodes { ...f } } } ") + "fragment f on Product { " + repeat("id ", 20) + "}"
		}, 23},
		{"fragments in fragments", func(n int) string {
			return "{ products { nodes { ...f0 } } }" + each(n, " fragment fN on Product { variants { product { ...fN+1 } } }") +
				fmt.Sprintf(" fragment f%d on Product { id }", n)
		}, 79},
		{"fragments that multiply", func(n int) string {
			return "{ products { nodes { ...f0 } } }" + each(n, " fragment fN on Product { variants { product { ...fN+1 } } more: variants { product { ...fN+1 } } }") +
				fmt.Sprintf(" fragment f%d on Product { id }", n)
		}, 8},
	} {
		for n, refused := range map[int]bool{c.most: false, c.most + 1: true} {
			if a := ask(t, base, c.query(n), nil); refused != (len(a.Errors) == 1 && a.wrong(t) == tooMany) {
				t.Errorf("%s, %d times: %s", c.name, n, a.body)
			}
		}
	}
}

// introspection is what GraphiQL and code generators send.
const introspection = `query IntrospectionQuery { __schema { description queryType { name } mutationType { name } subscriptionType { name }
	types { ...FullType } directives { name description isRepeatable locations args(includeDeprecated: true) { ...InputValue } } } }
fragment FullType on __Type { kind name description specifiedByURL
	fields(includeDeprecated: true) { name description args(includeDeprecated: true) { ...InputValue } type { ...TypeRef } isDeprecated deprecationReason }
	inputFields(includeDeprecated: true) { ...InputValue } interfaces { ...TypeRef }
	enumValues(includeDeprecated: true) { name description isDeprecated deprecationReason } possibleTypes { ...TypeRef } }
fragment InputValue on __InputValue { name description type { ...TypeRef } defaultValue isDeprecated deprecationReason }
fragment TypeRef on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name ofType {
	kind name ofType { kind name ofType { kind name ofType { kind name } } } } } } } } } }`
