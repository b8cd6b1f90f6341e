package graph_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/graph"
	"github.com/millrace/millrace/internal/projector"
	"github.com/millrace/millrace/projections/sales"
)

// TestEvents pages through the log and through one stream, and shows personal data only while its key exists.
func TestEvents(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	s.stocked(t, "A", "Anvil", "10.00", 5)
	o := s.bought(t, "ann@example.org", commands.LineInput{SKU: "A", Quantity: 1})

	query := `query($stream: String, $after: String, $first: Int) { events(stream: $stream, first: $first, after: $after) {
		nodes { position stream version type occurredAt recordedAt data } pageInfo { hasNextPage hasPreviousPage endCursor } } }`
	var after any
	var positions []string
	for {
		page := staff(t, base, query, map[string]any{"first": 2, "after": after}).must(t)
		for i := range page.at(t, "events", "nodes").([]any) {
			positions = append(positions, page.text(t, "events", "nodes", i, "position"))
		}
		if got := page.at(t, "events", "pageInfo", "hasPreviousPage"); got != (after != nil) {
			t.Errorf("hasPreviousPage is %v after %v", got, after)
		}
		if page.at(t, "events", "pageInfo", "hasNextPage") == false {
			break
		}
		after = page.text(t, "events", "pageInfo", "endCursor")
	}
	if len(positions) != len(s.events) || positions[0] != "1" {
		t.Errorf("positions %v of %d events", positions, len(s.events))
	}

	stream := map[string]any{"stream": "order-" + o.State.Number}
	one := staff(t, base, query, stream).must(t)
	if got := one.text(t, "events", "nodes", 0, "type"); got != "order.placed" {
		t.Errorf("the type is %s", got)
	}
	data := one.text(t, "events", "nodes", 0, "data")
	if !strings.Contains(data, `"contact":{"email":"ann@example.org"`) || !strings.Contains(data, `"paymentToken":"ok"`) || !json.Valid([]byte(data)) {
		t.Errorf("the data is %s", data)
	}
	const forget = `mutation($email: String!) { personForget(input: {email: $email}) { position userErrors { code field } } }`
	if got := ask(t, base, forget, map[string]any{"email": "ann@example.org"}).wrong(t); !strings.HasPrefix(got, "FORBIDDEN") {
		t.Errorf("who is no staff may forget others: %s", got)
	}
	unknown := staff(t, base, forget, map[string]any{"email": "bob@example.org"}).must(t)
	if want := `{"data":{"personForget":{"position":null,"userErrors":[{"code":"NOT_FOUND","field":["input","email"]}]}}}`; unknown.body != want {
		t.Errorf("forgetting somebody unknown: %s", unknown.body)
	}
	done := staff(t, base, forget, map[string]any{"email": "ANN@example.org"}).must(t)
	if want := fmt.Sprintf(`{"data":{"personForget":{"position":"%d","userErrors":[]}}`, len(s.events)); !strings.HasPrefix(done.body, want) {
		t.Errorf("forgetting: %s, want %s", done.body, want)
	}
	if data := staff(t, base, query, stream).must(t).text(t, "events", "nodes", 0, "data"); !strings.Contains(data, `"contact":null`) || strings.Contains(data, "box") {
		t.Errorf("once the person is forgotten the data is %s", data)
	}
	gone := staff(t, base, `query($id: ID!) { order(id: $id) { email shippingAddress { city } total { amount } } }`, map[string]any{"id": idOf("Order", o.State.Number)}).must(t)
	if want := `{"data":{"order":{"email":null,"shippingAddress":null,"total":{"amount":"10.00"}}}}`; gone.body != want {
		t.Errorf("once the person is forgotten the order is %s", gone.body)
	}
	if got := staff(t, base, query, map[string]any{"after": "x"}).wrong(t); got != "BAD_USER_INPUT: after is not a cursor of this list" {
		t.Error(got)
	}
	other := one.text(t, "events", "pageInfo", "endCursor")
	if got := staff(t, base, query, map[string]any{"after": other}).wrong(t); got != "BAD_USER_INPUT: after is not a cursor of this list" {
		t.Errorf("a stream's cursor in the log: %s", got)
	}
}

// TestPaging pages through products from both ends.
func TestPaging(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	for i := range 5 {
		s.stocked(t, fmt.Sprint("S", i), fmt.Sprint("Thing ", i), "1.00", 0)
	}
	page := func(arguments string) string {
		a := ask(t, base, `{ products(`+arguments+`) { totalCount edges { cursor } nodes { title } pageInfo { hasNextPage hasPreviousPage startCursor endCursor } } }`, nil).must(t)
		var titles []string
		for i := range a.at(t, "products", "nodes").([]any) {
			titles = append(titles, strings.TrimPrefix(a.text(t, "products", "nodes", i, "title"), "Thing "))
		}
		if a.at(t, "products", "totalCount") != 5.0 {
			t.Errorf("totalCount is %v", a.at(t, "products", "totalCount"))
		}
		if len(titles) > 0 && a.at(t, "products", "pageInfo", "startCursor") != a.at(t, "products", "edges", 0, "cursor") {
			t.Error("startCursor is not the first edge's")
		}
		return fmt.Sprint(titles, a.at(t, "products", "pageInfo", "hasPreviousPage"), a.at(t, "products", "pageInfo", "hasNextPage"))
	}
	a := ask(t, base, `{ products { edges { cursor } } }`, nil).must(t)
	second, fourth := a.text(t, "products", "edges", 1, "cursor"), a.text(t, "products", "edges", 3, "cursor")
	for arguments, want := range map[string]string{
		`first: 2`: "[0 1] false true",
		`last: 2`:  "[3 4] true false",
		fmt.Sprintf(`first: 2, after: %q`, second):           "[2 3] true true",
		fmt.Sprintf(`last: 2, before: %q`, fourth):           "[1 2] true true",
		fmt.Sprintf(`after: %q, before: %q`, second, fourth): "[2] true true",
		`first: 0`:                "[] false true",
		`first: 1, reverse: true`: "[4] false true",
	} {
		if got := page(arguments); got != want {
			t.Errorf("%s: %s, not %s", arguments, got, want)
		}
	}
}

// TestOperator shows the sales report and the read models as they are told.
func TestOperator(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	s.sales = []sales.Row{{Key: "2010-12", Orders: 2, Units: 3_000_000_000, Sold: money.Money{Minor: 1234, Currency: "GBP"}, Returned: money.Zero("GBP")}}
	s.statuses = []projector.Status{{
		Name: "orders", Version: 2, Generation: 3, State: projector.Failed, Position: 7, Lag: 3_000_000_000, LagSeconds: 12.5, WorkersWanted: 4,
		Partitions: []projector.PartitionStatus{
			{Number: 0, Position: 7, Worker: "w1"}, {Number: 1, Position: 5, Lag: 3_000_000_000, LagSeconds: 12.5, Error: "no"},
		},
	}}
	a := staff(t, base, `{ salesReport(from: "2010-01-01T00:00:00+01:00", to: "2011-01-01T00:00:00Z", groupBy: MONTH) { key orders units sold { amount currency } returned { amount } }
		projections { name version generation previousGeneration rebuild { generation } status position lag lagSeconds workersWanted partitions { number position lag lagSeconds worker error } } }`, nil).must(t)
	want := `{"data":{"salesReport":[{"key":"2010-12","orders":2,"units":2147483647,"sold":{"amount":"12.34","currency":"GBP"},"returned":{"amount":"0.00"}}],` +
		`"projections":[{"name":"orders","version":2,"generation":3,"previousGeneration":null,"rebuild":null,"status":"FAILED","position":"7","lag":2147483647,"lagSeconds":12.5,"workersWanted":4,"partitions":[` +
		`{"number":0,"position":"7","lag":0,"lagSeconds":0,"worker":"w1","error":null},` +
		`{"number":1,"position":"5","lag":2147483647,"lagSeconds":12.5,"worker":null,"error":"no"}]}]}}`
	if a.body != want {
		t.Errorf("%s", a.body)
	}
	if got := staff(t, base, `{ salesReport(from: "2011-01-01T00:00:00Z", to: "2010-01-01T00:00:00Z", groupBy: MONTH) { key } }`, nil).wrong(t); got != "BAD_USER_INPUT: to is before from" {
		t.Error(got)
	}
}

// TestStock answers from the decided state, also while read models stand still.
func TestStock(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	s.stocked(t, "A", "Anvil", "10.00", 5)
	a := staff(t, base, `mutation { stockReceive(input: {sku: "a", quantity: 3}) { variant { sku available title } userErrors { code } position } }`, nil).must(t)
	if got := fmt.Sprint(a.at(t, "stockReceive", "variant", "available")); got != "8" {
		t.Errorf("available is %s", got)
	}
	s.mu.Lock()
	s.behind, s.seen = true, len(s.events)
	s.mu.Unlock()
	fresh := staff(t, base, `mutation { productCreate(input: {title: "Bell", status: ACTIVE, variants: [{sku: "b", price: "2"}]}) { product { slug variants { sku available } } } }`, nil).must(t)
	if want := `"product":{"slug":"bell","variants":[{"sku":"B","available":0}]}`; !strings.Contains(fresh.body, want) {
		t.Error(fresh.body)
	}
	s.mu.Lock()
	s.behind = false
	s.mu.Unlock()
	a = staff(t, base, `mutation { stockAdjust(input: {sku: "A", delta: -9, reason: "lost"}) { variant { sku } userErrors { code field message } } }`, nil).must(t)
	if want := `{"data":{"stockAdjust":{"variant":null,"userErrors":[{"code":"OUT_OF_STOCK","field":["input","delta"],"message":"SKU A: only 8 are available"}]}}}`; a.body != want {
		t.Error(a.body)
	}
}
