package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/devstack/stacktest"
)

// askAt asks at a position, which the request brings in one of the ways that there are; which one, by number. "" is none.
func askAt(ctx context.Context, address, query string, variables map[string]any, position string, way int64) (*answer, error) {
	fields := map[string]any{"query": query, "variables": variables}
	if way%3 == 1 {
		fields["extensions"] = map[string]string{"position": position}
	}
	body, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err == nil && way%3 == 2 {
		var text []byte
		if text, err = json.Marshal(variables); err != nil {
			return nil, err
		}
		parameters := url.Values{"query": {query}, "variables": {string(text)}}
		r, err = http.NewRequestWithContext(ctx, http.MethodGet, address+"?"+parameters.Encode(), nil)
	}
	if err != nil {
		return nil, err
	}
	if way%3 != 1 && position != "" {
		r.Header.Set("Millrace-Position", position)
	}
	return exchange(r)
}

// doors are two apis of a shop, whose clients change something through the one and look at it through the other.
type doors struct {
	t     *testing.T
	addrs []string

	turn, looks, stale, rebuilds atomic.Int64
}

// enough is whether a client that has gone round so often may stop: when everything has been rebuilt several times meanwhile.
func (d *doors) enough(gone, rounds int) bool {
	return gone >= rounds && d.rebuilds.Load() >= 3 || gone >= 20*rounds
}

func (d *doors) url(n int64) string { return "http://" + d.addrs[int(n)%len(d.addrs)] + "/graphql" }

// change mutates through a door and returns the position, and through which one it went. What is wanted of the answer is decoded. What is
// UNAVAILABLE is asked again under its key, as clients do.
func (d *doors) change(ctx context.Context, query string, variables map[string]any, into any) (position string, door int64, err error) {
	door = d.turn.Add(1)
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		return "", 0, err
	}
	key := rand.Text()
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var a *answer
	for again := true; again; {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, d.url(door), bytes.NewReader(body))
		if err != nil {
			return "", 0, err
		}
		r.Header.Set("Idempotency-Key", key)
		a, err = exchange(r)
		again = a != nil && len(a.Errors) > 0 && a.Errors[0].Extensions["code"] == "UNAVAILABLE"
		if err != nil && !again {
			return "", 0, fmt.Errorf("%s: %w", query, err)
		}
	}
	if err := ctx.Err(); err != nil {
		return "", 0, fmt.Errorf("%s: %w", query, err)
	}
	position = a.header.Get("Millrace-Position")
	if position != fmt.Sprint(a.Extensions["position"]) && position != "" {
		return "", 0, fmt.Errorf("the position is %q in the header, and %v in the extensions", position, a.Extensions["position"])
	}
	return position, door, json.Unmarshal(a.Data, into)
}

// look reads at a position through the other door. What is STALE is asked again, as clients do: this machine may be slower than the
// bound.
func (d *doors) look(ctx context.Context, position string, door int64, query string, variables map[string]any, into any) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		n := d.looks.Add(1)
		a, err := askAt(ctx, d.url(door+1), query, variables, position, n)
		if err == nil {
			return json.Unmarshal(a.Data, into)
		}
		if a == nil || len(a.Errors) == 0 || a.Errors[0].Extensions["code"] != "STALE" {
			return fmt.Errorf("at position %s: %s: %w", position, query, err)
		}
		d.stale.Add(1)
	}
}

// userErrors are those of one mutation.
type userErrors []struct{ Code, Message string }

func (e userErrors) err() error {
	if len(e) > 0 {
		return fmt.Errorf("%+v", e)
	}
	return nil
}

// product creates a product with one variant and some stock, and returns its id.
func (d *doors) product(ctx context.Context, sku string) (string, error) {
	var created struct {
		ProductCreate struct {
			Product    struct{ ID string }
			UserErrors userErrors
		}
		StockReceive struct{ UserErrors userErrors }
	}
	_, _, err := d.change(ctx, `mutation($sku: String!, $slug: String!) {
		productCreate(input: {title: "Before", slug: $slug, status: ACTIVE, variants: [{sku: $sku, price: "2.00"}]}) { product { id } userErrors { code message } }
		stockReceive(input: {sku: $sku, quantity: 1000}) { userErrors { code message } } }`, map[string]any{"sku": sku, "slug": strings.ToLower(sku)}, &created)
	if err == nil {
		err = created.ProductCreate.UserErrors.err()
	}
	return created.ProductCreate.Product.ID, err
}

// catalogue changes a title and a stock, and looks at them as product, node and list: Redis and rows.
func (d *doors) catalogue(ctx context.Context, sku string, rounds int) error {
	id, err := d.product(ctx, sku)
	if err != nil {
		return err
	}
	type product struct {
		Title    string
		Variants []struct{ Available int }
	}
	for i := 1; !d.enough(i-1, rounds); i++ {
		title := fmt.Sprintf("Title %d of %s", i, sku)
		var changed struct {
			ProductUpdate, StockReceive struct{ UserErrors userErrors }
		}
		position, door, err := d.change(ctx, `mutation($id: ID!, $title: String!, $sku: String!) {
			productUpdate(input: {id: $id, title: $title}) { userErrors { code message } }
			stockReceive(input: {sku: $sku, quantity: 1}) { userErrors { code message } } }`,
			map[string]any{"id": id, "title": title, "sku": sku}, &changed)
		if err != nil {
			return err
		}
		var seen struct {
			Product, BySlug, Node product
			Products              struct{ Nodes []product }
		}
		err = d.look(ctx, position, door, `query($id: ID!, $slug: String!, $words: String!) {
			product(id: $id) { ...seen } bySlug: product(slug: $slug) { ...seen } node(id: $id) { ...seen }
			products(query: $words, first: 5) { nodes { ...seen } } }
			fragment seen on Product { title variants { available } }`,
			map[string]any{"id": id, "slug": strings.ToLower(sku), "words": sku}, &seen)
		if err != nil {
			return err
		}
		if len(seen.Products.Nodes) != 1 {
			return fmt.Errorf("at position %s the list has %+v", position, seen.Products.Nodes)
		}
		for how, p := range map[string]product{"id": seen.Product, "slug": seen.BySlug, "node": seen.Node, "list": seen.Products.Nodes[0]} {
			if p.Title != title || len(p.Variants) != 1 || p.Variants[0].Available != 1000+i {
				return fmt.Errorf("at position %s the product by %s is %+v, want %q and %d", position, how, p, title, 1000+i)
			}
		}
	}
	return nil
}

// carts fills a cart, and looks into it.
func (d *doors) carts(ctx context.Context, sku string, rounds int) error {
	if _, err := d.product(ctx, sku); err != nil {
		return err
	}
	var created struct {
		CartCreate struct{ Cart struct{ ID string } }
	}
	if _, _, err := d.change(ctx, `mutation { cartCreate { cart { id } } }`, nil, &created); err != nil {
		return err
	}
	id := created.CartCreate.Cart.ID
	for i := 1; !d.enough(i-1, rounds); i++ {
		var changed struct {
			CartLinesAdd struct{ UserErrors userErrors }
		}
		position, door, err := d.change(ctx, `mutation($cart: ID!, $sku: String!) {
			cartLinesAdd(input: {cartId: $cart, lines: [{sku: $sku, quantity: 1}]}) { userErrors { code message } } }`,
			map[string]any{"cart": id, "sku": sku}, &changed)
		if err == nil {
			err = changed.CartLinesAdd.UserErrors.err()
		}
		if err != nil {
			return err
		}
		var seen struct {
			Cart struct{ Lines []struct{ Quantity int } }
		}
		if err := d.look(ctx, position, door, `query($cart: ID!) { cart(id: $cart) { lines { quantity } } }`, map[string]any{"cart": id}, &seen); err != nil {
			return err
		}
		if len(seen.Cart.Lines) != 1 || seen.Cart.Lines[0].Quantity != i {
			return fmt.Errorf("at position %s the cart is %+v, want %d units", position, seen.Cart, i)
		}
	}
	return nil
}

// orders buys and has the goods sent, and looks at order, list and report.
func (d *doors) orders(ctx context.Context, sku string, rounds int) error {
	if _, err := d.product(ctx, sku); err != nil {
		return err
	}
	for i := 1; !d.enough(i-1, rounds); i++ {
		cart, err := createCart(ctx, d.url(d.turn.Add(1)), sku)
		if err != nil {
			return err
		}
		var bought struct {
			Checkout struct {
				Order      struct{ ID, Number string }
				UserErrors userErrors
			}
		}
		position, door, err := d.change(ctx, `mutation($cart: ID!) { checkout(input: {cartId: $cart, email: "b@example.com", payment: {token: "ok"},
			shippingAddress: {name: "B", line1: "1 Road", city: "London", country: "GB"}}) { order { id number } userErrors { code message } } }`,
			map[string]any{"cart": cart}, &bought)
		if err == nil {
			err = bought.Checkout.UserErrors.err()
		}
		if err != nil {
			return err
		}
		id := bought.Checkout.Order.ID
		if err := d.ordered(ctx, position, door, id, bought.Checkout.Order.Number, sku, i, ""); err != nil {
			return err
		}
		if position, door, err = d.fulfilled(ctx, id); err != nil {
			return err
		}
		if err := d.ordered(ctx, position, door, id, bought.Checkout.Order.Number, sku, i, "FULFILLED"); err != nil {
			return err
		}
	}
	return nil
}

// fulfilled has an order sent as soon as it is paid for.
func (d *doors) fulfilled(ctx context.Context, id string) (position string, door int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		var sent struct {
			OrderFulfill struct{ UserErrors userErrors }
		}
		position, door, err = d.change(ctx, `mutation($id: ID!) { orderFulfill(input: {orderId: $id}) { userErrors { code message } } }`, map[string]any{"id": id}, &sent)
		if err != nil || len(sent.OrderFulfill.UserErrors) == 0 {
			return position, door, err
		}
		select {
		case <-ctx.Done():
			return "", 0, fmt.Errorf("%w: %w", ctx.Err(), sent.OrderFulfill.UserErrors.err())
		case <-tick.C:
		}
	}
}

// ordered looks at an order, which is the n-th of its SKU, at a position; status is what it has to be there, "" for whatever.
func (d *doors) ordered(ctx context.Context, position string, door int64, id, number, sku string, n int, status string) error {
	type order struct{ Number, Status string }
	var seen struct {
		Order       order
		Orders      struct{ Nodes []order }
		SalesReport []struct {
			Key           string
			Orders, Units int
		}
	}
	err := d.look(ctx, position, door, `query($id: ID!) { order(id: $id) { number status } orders(first: 100) { nodes { number status } }
		salesReport(from: "2000-01-01T00:00:00Z", to: "2100-01-01T00:00:00Z", groupBy: SKU) { key orders units } }`, map[string]any{"id": id}, &seen)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(seen.Orders.Nodes, func(o order) bool { return o.Number == number })
	if i < 0 || seen.Order.Number != number || status != "" && (seen.Order.Status != status || seen.Orders.Nodes[i].Status != status) {
		return fmt.Errorf("at position %s order %s is %+v, and in the list it is number %d of %+v; want status %q", position, number, seen.Order, i, seen.Orders.Nodes, status)
	}
	if status == "" {
		return nil // sales count once they are paid for
	}
	for _, row := range seen.SalesReport {
		if row.Key == sku && row.Orders == n && row.Units == n {
			return nil
		}
	}
	return fmt.Errorf("at position %s the report is %+v, want %d of %s", position, seen.SalesReport, n, sku)
}

// TestReadingYourWritesThroughAnotherDoor runs a shop of two apis and two workers over replicas at different lags. Clients change
// something through one api, and look at it through the other with the position that they were told, while every read model is rebuilt
// over and over.
func TestReadingYourWritesThroughAnotherDoor(t *testing.T) {
	t.Parallel()
	stack := stacktest.Private(t, stacktest.WithReplicas(2))
	if err := stack.DelayReplay(t.Context(), 1, 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	env := shopEnv(&stacktest.Env{
		DatabaseURL: stack.PostgresURL(), ReplicaURLs: stack.ReplicaURLs(), RedisURL: stack.RedisURL(), NATSURL: stack.NATSURL(),
	})
	d := &doors{t: t, addrs: []string{freeAddr(t), freeAddr(t)}}
	for _, addr := range d.addrs {
		spawn(t, env, "api", "--addr", addr)
	}
	for _, role := range []string{"relay", "worker", "worker", "process"} {
		spawn(t, env, role)
	}
	for _, addr := range d.addrs {
		await(t, "the api to be ready", settle, func() bool { return ready(addr) })
	}
	clients, ctx := errgroup.WithContext(t.Context())
	for n := range 2 {
		clients.Go(func() error { return d.catalogue(ctx, fmt.Sprintf("DOOR-%d", n), 60) })
		clients.Go(func() error { return d.carts(ctx, fmt.Sprintf("CART-%d", n), 60) })
		clients.Go(func() error { return d.orders(ctx, fmt.Sprintf("ORDER-%d", n), 8) })
	}
	done := make(chan error, 1)
	go func() { done <- clients.Wait() }()
	for looking := true; looking; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			looking = false
		default:
			replay := spawn(t, env, "replay", "--all")
			<-replay.done
			if code := replay.cmd.ProcessState.ExitCode(); code != exitOK {
				t.Fatalf("replay ended with %d:\n%s", code, replay.out)
			}
			d.rebuilds.Add(1)
		}
	}
	t.Logf("%d looks while everything was rebuilt %d times; %d were STALE and asked again", d.looks.Load(), d.rebuilds.Load(), d.stale.Load())
	d.beyond()
}

// beyond asks for a position that the log does not have: all of a query is refused, whatever it reads, and the metrics tell that nothing was waited for.
func (d *doors) beyond() {
	d.t.Helper()
	const query = `{ product(slug: "door-0") { title variants { available } } orders(first: 1) { totalCount nodes { number lines { variant { available } } } }
		salesReport(from: "2000-01-01T00:00:00Z", to: "2100-01-01T00:00:00Z", groupBy: SKU) { units } }`
	for way := range int64(3) {
		a, err := askAt(d.t.Context(), d.url(0), query, nil, "9000000000000000000", way)
		if err == nil || a == nil || len(a.Errors) == 0 || a.Errors[0].Extensions["code"] != "STALE" {
			d.t.Errorf("a position beyond the end: %v", err)
		}
	}
	told := figures(d.t, d.addrs[0])
	for _, of := range []string{
		`projection="catalogue",store="postgres"`, `projection="catalogue",store="redis"`, `projection="stock",store="redis"`, `projection="carts",store="redis"`,
		`projection="orders",store="postgres"`, `projection="sales",store="postgres"`,
	} {
		count, sum := told["millrace_position_wait_seconds_count{"+of+"}"], told["millrace_position_wait_seconds_sum{"+of+"}"]
		if count == 0 || sum <= 0 {
			d.t.Errorf("the metrics tell of %v reads of %s that took %v s", count, of, sum)
		}
	}
	for _, name := range []string{"catalogue", "orders", "sales"} {
		of := `millrace_position_wait_failures_total{projection="` + name + `",reason="beyond",store="postgres"}`
		if n := told[of]; n < 3 {
			d.t.Errorf("%s is %v, want 3", of, n)
		}
	}
}
