package graph_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/graph"
)

// keyed is a mutation with its input, another input, and one that is refused until something has happened.
type keyed struct {
	field, fields  string
	in, other, bad map[string]any
	// mend makes the refused input acceptable; nil where nothing can.
	mend func(t *testing.T, s *shop)
}

func (k keyed) document(key any) string {
	input := strings.ToUpper(k.field[:1]) + k.field[1:] + "Input!"
	if key == "in the input" {
		return `mutation($in: ` + input + `) { m: ` + k.field + `(input: $in) { ` + k.fields + ` userErrors { code field } position } }`
	}
	return `mutation($in: ` + input + `) { ` + k.field + `(input: $in) { ` + k.fields + ` userErrors { code field } position } }`
}

const (
	cartFields    = `cart { id status total { amount } lines { id quantity unitPrice { amount } variant { sku title product { title status } } } }`
	orderFields   = `order { id number status lines { title fulfilled variant { title price { amount } } } history { position type summary } }`
	productFields = `product { id slug title status updatedAt variants { id sku price { amount } } }`
	stockFields   = `variant { sku available price { amount } product { title } }`
)

// mutations returns all that write events, as they are asked for in a shop with an anvil, a cart and an order of it.
func mutations(t *testing.T, s *shop) []keyed {
	t.Helper()
	ctx := context.Background()
	p := s.stocked(t, "A", "Anvil", "10.00", 20)
	o := s.bought(t, "ann@example.org", commands.LineInput{SKU: "A", Quantity: 1})
	if _, err := s.app.AuthorisePayment(ctx, commands.AuthorisePayment{OrderID: o.State.Number, Reference: "r"}); err != nil {
		t.Fatal(err)
	}
	waiting := s.bought(t, "bob@example.org", commands.LineInput{SKU: "A", Quantity: 1})
	c, err := s.app.CartCreate(ctx, commands.CartCreate{Lines: []commands.LineInput{{SKU: "A", Quantity: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	cart, product := idOf("Cart", c.ID), idOf("Product", p.ID)
	confirmed, pending := idOf("Order", o.State.Number), idOf("Order", waiting.State.Number)
	lines := func(sku string, n int) []any { return []any{map[string]any{"sku": sku, "quantity": n}} }
	in := func(pairs ...any) map[string]any {
		m := map[string]any{}
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i].(string)] = pairs[i+1]
		}
		return m
	}
	newProduct := func(t *testing.T, s *shop) { s.stocked(t, "B", "Bell", "1.00", 5) }
	create := func(sku, title string) map[string]any {
		return in("title", title, "variants", []any{in("sku", sku, "price", "1.00")})
	}
	buy := func(more map[string]any) map[string]any { return checkoutInput(cart, more)["in"].(map[string]any) }
	return []keyed{
		{"cartCreate", cartFields, in("lines", lines("A", 1)), in("lines", lines("A", 2)), in("lines", lines("B", 1)), newProduct},
		{"cartLinesAdd", cartFields, in("cartId", cart, "lines", lines("A", 1)), in("cartId", cart, "lines", lines("A", 2)), in("cartId", cart, "lines", lines("B", 1)), newProduct},
		{"cartLinesUpdate", cartFields, in("cartId", cart, "lines", lines("A", 5)), in("cartId", cart, "lines", lines("A", 6)), in("cartId", cart, "lines", lines("A", -1)), nil},
		{"productCreate", productFields, create("N", "New"), create("M", "New"), create("a", "Taken"), nil},
		{"productUpdate", productFields, in("id", product, "title", "Better anvil"), in("id", product, "title", "Best anvil"), in("id", "nonsense", "title", "x"), nil},
		{"variantPriceChange", productFields, in("sku", "A", "price", "11.00"), in("sku", "A", "price", "12.00"), in("sku", "B", "price", "2.00"), newProduct},
		{"stockReceive", stockFields, in("sku", "A", "quantity", 4), in("sku", "A", "quantity", 5), in("sku", "B", "quantity", 1), newProduct},
		{"stockAdjust", stockFields, in("sku", "A", "delta", -1, "reason", "lost"), in("sku", "A", "delta", -2, "reason", "lost"), in("sku", "B", "delta", 1, "reason", "found"), newProduct},
		{"orderFulfill", orderFields, in("orderId", confirmed, "tracking", "T"), in("orderId", confirmed, "tracking", "U"), in("orderId", pending), func(t *testing.T, s *shop) {
			if _, err := s.app.AuthorisePayment(ctx, commands.AuthorisePayment{OrderID: waiting.State.Number, Reference: "r"}); err != nil {
				t.Fatal(err)
			}
		}},
		{"orderCancel", orderFields, in("orderId", pending, "reason", "no"), in("orderId", pending, "reason", "never"), in("orderId", "nonsense"), nil},
		{"checkout", orderFields + ` accessToken`, buy(nil), buy(map[string]any{"email": "eve@example.org"}), buy(map[string]any{"expectedTotal": "22.00"}), func(t *testing.T, s *shop) {
			if _, err := s.app.VariantPriceChange(ctx, commands.VariantPriceChange{SKU: "A", Price: "11.00"}); err != nil {
				t.Fatal(err)
			}
		}},
		{"personForget", `__typename`, in("email", "ann@example.org"), in("email", "bob@example.org"), in("email", "cid@example.org"), func(_ *testing.T, s *shop) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.known[s.app.SubjectOf("cid@example.org")] = true
		}},
	}
}

func (s *shop) head() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.events))
}

// goesOn changes all that answers may show.
func (s *shop) goesOn(t *testing.T) {
	t.Helper()
	if _, err := s.app.VariantPriceChange(context.Background(), commands.VariantPriceChange{SKU: "A", Price: "77.00"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.app.StockReceive(context.Background(), commands.StockReceive{SKU: "A", Quantity: 100}); err != nil {
		t.Fatal(err)
	}
}

// TestEveryMutationTakesAKey sends each mutation twice with a key, in each of the places where a key may be.
func TestEveryMutationTakesAKey(t *testing.T) {
	places := map[string]func(t *testing.T, url string, k keyed, in map[string]any, key string) answer{
		"header": func(t *testing.T, url string, k keyed, in map[string]any, key string) answer {
			return ask(t, url, k.document(nil), map[string]any{"in": in}, "Authorization", "Bearer "+staffToken, "Idempotency-Key", key)
		},
		"input": func(t *testing.T, url string, k keyed, in map[string]any, key string) answer {
			with := map[string]any{"idempotencyKey": key}
			for name, v := range in {
				with[name] = v
			}
			return staff(t, url, k.document("in the input"), map[string]any{"in": with})
		},
	}
	for place, send := range places {
		for i := range mutations(t, newShop(t)) {
			s := newShop(t)
			_, url := face(t, s, graph.Options{})
			k := mutations(t, s)[i]
			t.Run(place+"/"+k.field, func(t *testing.T) {
				field := k.field
				if place == "input" {
					field = "m"
				}
				refused := send(t, url, k, k.bad, "k").must(t)
				if len(refused.at(t, field, "userErrors").([]any)) == 0 {
					t.Fatalf("it is not refused: %s", refused.body)
				}
				if k.mend != nil {
					k.mend(t, s)
					done := send(t, url, k, k.bad, "k").must(t)
					if len(done.at(t, field, "userErrors").([]any)) > 0 {
						t.Fatalf("a refusal was kept: %s", done.body)
					}
					return
				}
			})
			t.Run(place+"/"+k.field+" twice", func(t *testing.T) {
				s := newShop(t)
				_, url := face(t, s, graph.Options{})
				k := mutations(t, s)[i]
				before := s.head()
				first := send(t, url, k, k.in, "once").must(t)
				after := s.head()
				if after == before {
					t.Fatalf("nothing has happened: %s", first.body)
				}
				s.goesOn(t)
				after = s.head()
				if again := send(t, url, k, k.in, "once").must(t); again.body != first.body {
					t.Errorf("the first answer is\n%s\nand the second\n%s", first.body, again.body)
				} else if got, want := again.header.Get("Millrace-Position"), first.header.Get("Millrace-Position"); got != want {
					t.Errorf("the position is %s, and was %s", got, want)
				}
				other := send(t, url, k, k.other, "once")
				if place == "header" {
					if got := other.wrong(t); got != "CONFLICT: the idempotency key was used before for another request; nothing has happened" {
						t.Errorf("another input is answered with %s", got)
					}
				} else if got := fmt.Sprint(other.must(t).at(t, "m", "userErrors")); got != "[map[code:CONFLICT field:[input idempotencyKey]]]" {
					t.Errorf("another input is answered with %s", other.body)
				}
				if s.head() != after {
					t.Error("something else has happened")
				}
			})
		}
	}
}

const addOne = `mutation($c: ID!) { cartLinesAdd(input: {cartId: $c, lines: [{sku: "A", quantity: 1}]}) { cart { lines { quantity } } userErrors { code } position } }`

// TestAKeyForSeveralMutations has a field of a mutation repeated, and the one beside it done for the first time.
func TestAKeyForSeveralMutations(t *testing.T) {
	s := newShop(t)
	_, url := face(t, s, graph.Options{})
	s.stocked(t, "A", "Anvil", "1.00", 1)
	const two = `mutation { a: cartCreate(input: {lines: [{sku: "A", quantity: 1}]}) { cart { id } userErrors { code } }
		...more } fragment more on Mutation { b: cartCreate(input: {lines: [{sku: "B", quantity: 1}]}) { cart { id } userErrors { code } } __typename }`
	first := ask(t, url, two, nil, "Idempotency-Key", "k").must(t)
	s.stocked(t, "B", "Bell", "1.00", 1)
	before := s.head()
	second := ask(t, url, two, nil, "Idempotency-Key", "k").must(t)
	third := ask(t, url, two, nil, "Idempotency-Key", `"k"`).must(t)
	if first.text(t, "a", "cart", "id") != second.text(t, "a", "cart", "id") || first.at(t, "b", "cart") != nil {
		t.Errorf("first %s, then %s", first.body, second.body)
	}
	if second.text(t, "b", "cart", "id") == second.text(t, "a", "cart", "id") || third.body != second.body || s.head() != before+2 {
		t.Errorf("second %s, then %s; %d events, want 2", second.body, third.body, s.head()-before)
	}
}

// TestKeysThatCannotBe refuses a key that is none, or two that differ, before anything runs.
func TestKeysThatCannotBe(t *testing.T) {
	s := newShop(t)
	_, url := face(t, s, graph.Options{})
	s.stocked(t, "A", "Anvil", "1.00", 1)
	const create = `mutation($k: String) { cartCreate(input: {lines: [{sku: "A", quantity: 1}], idempotencyKey: $k}) { cart { id } userErrors { code } } }`
	before := s.head()
	for key, want := range map[string]string{
		`"open`: "in quotes", `"a"b"`: "in quotes", `"a\b"`: "in quotes", `"a\`: "in quotes", `""`: "0 characters",
		strings.Repeat("k", 256): "256 characters", "schlüssel": "printable ASCII",
	} {
		if a := ask(t, url, create, nil, "Idempotency-Key", key); a.status != http.StatusBadRequest || !strings.Contains(a.wrong(t), want) {
			t.Errorf("%q: status %d, %s", key, a.status, a.body)
		}
	}
	for name, c := range map[string]struct{ header, input, extension string }{
		"input and header": {"x", "y", ""}, "header and extensions": {"x", "", "z"}, "input and extensions": {"", "y", "z"},
	} {
		body := document(t, create, map[string]any{"k": nil})
		if c.input != "" {
			body = document(t, create, map[string]any{"k": c.input})
		}
		if c.extension != "" {
			body = strings.TrimRight(body, "}\n") + `},"extensions":{"idempotencyKey":"` + c.extension + `"}}`
		}
		a := send(t, http.MethodPost, url+"/graphql", body, "Idempotency-Key", c.header, "Accept", "application/graphql-response+json")
		if a.status != http.StatusBadRequest || !strings.Contains(a.wrong(t), "give one of them") {
			t.Errorf("%s: status %d, %s", name, a.status, a.body)
		}
	}
	if s.head() != before {
		t.Error("something has happened")
	}
}

// TestWhereAKeyMayBe has one key in several places, spelt in several ways.
func TestWhereAKeyMayBe(t *testing.T) {
	s := newShop(t)
	_, url := face(t, s, graph.Options{})
	s.stocked(t, "A", "Anvil", "1.00", 1)
	const create = `mutation($k: String) { cartCreate(input: {idempotencyKey: $k}) { cart { id } userErrors { code } } }`
	const key = `a "key" \ b`
	want := ask(t, url, create, map[string]any{"k": key}).must(t).body
	for name, a := range map[string]answer{
		"header":     ask(t, url, create, nil, "Idempotency-Key", `"a \"key\" \\ b"`),
		"bare":       ask(t, url, create, nil, "Idempotency-Key", key),
		"both":       ask(t, url, create, map[string]any{"k": key}, "Idempotency-Key", key),
		"extensions": send(t, http.MethodPost, url+"/graphql", strings.TrimRight(document(t, create, nil), "}\n")+`,"extensions":{"idempotencyKey":"a \"key\" \\ b"}}`),
		"a literal":  ask(t, url, `mutation { cartCreate(input: {idempotencyKey: "a \"key\" \\ b"}) { cart { id } userErrors { code } } }`, nil),
	} {
		if a.must(t).body != want {
			t.Errorf("%s: %s, want %s", name, a.body, want)
		}
	}
	if a := staff(t, url, create, map[string]any{"k": key}).must(t); a.body == want {
		t.Error("staff are given what a guest made under the same key")
	}
}

// TestStatusOfAUsedKey is 422 for clients that know what a status is for.
func TestStatusOfAUsedKey(t *testing.T) {
	s := newShop(t)
	_, url := face(t, s, graph.Options{})
	s.stocked(t, "A", "Anvil", "1.00", 9)
	c, err := s.app.CartCreate(context.Background(), commands.CartCreate{})
	if err != nil {
		t.Fatal(err)
	}
	ask(t, url, addOne, map[string]any{"c": idOf("Cart", c.ID)}, "Idempotency-Key", "k").must(t)
	other := `mutation { cartCreate { cart { id } } }`
	for accept, status := range map[string]int{"application/graphql-response+json": http.StatusUnprocessableEntity, "application/json": http.StatusOK} {
		a := ask(t, url, other, nil, "Idempotency-Key", "k", "Accept", accept)
		if a.status != status || !strings.HasPrefix(a.wrong(t), "CONFLICT: ") || a.at(t, "cartCreate") != nil {
			t.Errorf("%s: status %d, %s", accept, a.status, a.body)
		}
	}
}
