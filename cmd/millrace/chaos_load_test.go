package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// market is the clients of a shop.
type market struct {
	t       *testing.T
	urls    []string
	skus    []string
	witness witness
	client  *http.Client
	round   int

	mu   sync.Mutex
	sold []string // ids of orders that staff may send
}

const (
	buyers = 8
	clerks = 3
	shelf0 = 60 // units of each SKU at the beginning: buyers find some of them sold out
)

func newMarket(t *testing.T, urls []string) *market {
	t.Helper()
	m := &market{t: t, urls: urls, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2 * (buyers + clerks)}}}
	t.Cleanup(m.client.CloseIdleConnections)
	setup := &visitor{market: m, name: "setup", random: rand.New(rand.NewPCG(0, 0))}
	for i := range 6 {
		var variants []map[string]any
		for j := range 2 {
			sku := fmt.Sprintf("CHAOS-%d-%d", i, j)
			variants = append(variants, map[string]any{"sku": sku, "title": fmt.Sprintf("Size %d", j), "price": fmt.Sprintf("%d.50", i+1)})
			m.skus = append(m.skus, sku)
		}
		setup.must(setup.create(variants, "ACTIVE"))
	}
	for _, sku := range m.skus {
		setup.must(setup.receive(sku, shelf0))
	}
	return m
}

// open has clients be busy until the returned function is called; it returns when all of them have got their answers.
func (m *market) open(t *testing.T, seed uint64) (empty func()) {
	t.Helper()
	m.round++
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range buyers + clerks {
		v := &visitor{market: m, name: fmt.Sprintf("r%dv%d", m.round, i), random: rand.New(rand.NewPCG(seed, uint64(m.round*100+i)))}
		wg.Go(func() {
			for ctx.Err() == nil {
				if i < buyers {
					v.buy()
				} else {
					v.keepShop()
				}
			}
		})
	}
	return func() { cancel(); wg.Wait() }
}

// visitor is one client, a buyer or a clerk. It does one thing at a time.
type visitor struct {
	market *market
	name   string
	random *rand.Rand
	marks  int
	api    int // the one that it asks
}

// mark returns a text that nobody else ever uses.
func (v *visitor) mark() string {
	v.marks++
	return fmt.Sprintf("%s-%d", v.name, v.marks)
}

func (v *visitor) sku() string { return v.market.skus[v.random.IntN(len(v.market.skus))] }

func (v *visitor) chance(percent int) bool { return v.random.IntN(100) < percent }

// command is a mutation, and the event that it makes the last of the log.
type command struct {
	mutation, input, selection string
	with                       map[string]any

	event string         // its type
	data  map[string]any // what is in it, among other things
	mark  string         // the member of data that has no equal in the log; "": none has
	// settled says that there may be nothing left to do, because it was done before.
	settled bool
}

// reply is what a client was told of a command.
type reply struct {
	Cart *struct {
		ID    string
		Lines []struct{ Quantity int }
	}
	Order       *struct{ ID, Number string }
	AccessToken string
	Product     *struct {
		ID       string
		Variants []struct{ SKU string }
	}
	UserErrors []struct{ Code, Message string }
	Position   string
}

func (r *reply) refusal() string {
	if len(r.UserErrors) == 0 {
		return ""
	}
	return r.UserErrors[0].Code
}

// send sends commands together, and has the witness note what came of each. A reply that is nil says nothing: the command was done, or was not.
func (v *visitor) send(commands ...command) []*reply {
	var declared, fields strings.Builder
	variables := make(map[string]any)
	for i, c := range commands {
		fmt.Fprintf(&declared, "$v%d: %s! ", i, c.input)
		fmt.Fprintf(&fields, " a%d: %s(input: $v%d) { %s userErrors { code message } position }", i, c.mutation, i, c.selection)
		variables[fmt.Sprintf("v%d", i)] = c.with
	}
	var answer map[string]*reply
	v.ask("mutation("+declared.String()+") {"+fields.String()+" }", variables, "", &answer)
	replies := make([]*reply, len(commands))
	for i, c := range commands {
		if r := answer[fmt.Sprintf("a%d", i)]; r != nil && (r.Position != "" || len(r.UserErrors) > 0) {
			replies[i] = r
		}
		v.market.witness.note(c, replies[i])
	}
	return replies
}

// one sends one command.
func (v *visitor) one(c command) *reply { return v.send(c)[0] }

// must sends a command until it is answered.
func (v *visitor) must(c command) {
	for v.one(c) == nil {
		select {
		case <-v.market.t.Context().Done():
			return
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// patience is how long a client waits for an answer, before it asks another api.
const patience = 4 * time.Second

// ask sends a request as staff and decodes its data, as far as there is any. A client that gets an error turns to another api.
func (v *visitor) ask(query string, variables map[string]any, position string, into any) (ok bool) {
	m := v.market
	ctx, cancel := context.WithTimeout(m.t.Context(), patience)
	defer cancel()
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		m.t.Error(err)
		return false
	}
	var a answer
	err = func() error {
		r, err := http.NewRequestWithContext(ctx, http.MethodPost, m.urls[v.api%len(m.urls)], bytes.NewReader(body))
		if err != nil {
			return err
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+testStaffToken)
		if position != "" {
			r.Header.Set("Millrace-Position", position)
		}
		response, err := m.client.Do(r)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		return json.NewDecoder(response.Body).Decode(&a)
	}()
	if err == nil && len(a.Data) > 0 {
		err = json.Unmarshal(a.Data, into)
	}
	for _, e := range a.Errors {
		code, _ := e.Extensions["code"].(string)
		m.witness.failed(code, e.Message)
	}
	if err == nil && len(a.Errors) == 0 {
		return true
	}
	if err != nil {
		m.witness.failed("", "")
	}
	v.api++
	select {
	case <-m.t.Context().Done():
	case <-time.After(time.Duration(50+v.random.IntN(250)) * time.Millisecond):
	}
	return false
}

// cart is a cart as its buyer knows it: nobody else changes it.
type cart struct {
	id    string
	lines []line
}

type line struct {
	sku      string
	quantity int
}

// party is how many carts a buyer fills together, to send as many commands in one request.
const party = 6

// buy fills carts, looks at some, and buys most of them. What became of a cart that a buyer had no answer for is not known: it is left alone.
func (v *visitor) buy() {
	creations, carts := make([]command, party), make([]*cart, party)
	for i := range carts {
		l := line{v.sku(), 1 + v.random.IntN(3)}
		carts[i] = &cart{lines: []line{l}}
		creations[i] = command{
			mutation: "cartCreate", input: "CartCreateInput", selection: "cart { id lines { quantity } }",
			with:  map[string]any{"lines": []map[string]any{{"sku": l.sku, "quantity": l.quantity}}},
			event: "cart.line_added", data: map[string]any{"sku": l.sku, "quantity": l.quantity},
		}
	}
	carts = v.answered(carts, v.send(creations...))
	for range v.random.IntN(4) {
		if len(carts) == 0 {
			return
		}
		changes := make([]command, len(carts))
		for i, c := range carts {
			changes[i] = v.change(c)
		}
		replies := v.send(changes...)
		if last := replies[len(replies)-1]; last != nil && v.chance(50) {
			v.look(carts[len(carts)-1], last.Position)
		}
		carts = v.answered(carts, replies)
	}
	v.checkOut(slices.DeleteFunc(carts, func(*cart) bool { return v.chance(15) }))
}

// answered returns the carts whose last command was answered, and compares them with the answers.
func (v *visitor) answered(carts []*cart, replies []*reply) []*cart {
	var known []*cart
	for i, c := range carts {
		if r := replies[i]; r != nil && r.Cart != nil {
			if c.id == "" {
				c.id = r.Cart.ID
			}
			v.compare("the answer to a command", r.Cart.Lines, c.lines)
			known = append(known, c)
		}
	}
	return known
}

// change changes a line of the cart, to what will be in it if the command is done.
func (v *visitor) change(c *cart) command {
	change := command{input: "CartLinesUpdateInput", mutation: "cartLinesUpdate", selection: "cart { lines { quantity } }"}
	l := line{v.sku(), 1 + v.random.IntN(3)}
	i := slices.IndexFunc(c.lines, func(o line) bool { return o.sku == l.sku })
	switch {
	case i < 0 || v.chance(30):
		change.mutation, change.input, change.event = "cartLinesAdd", "CartLinesAddInput", "cart.line_added"
		if i < 0 {
			c.lines = append(c.lines, l)
		} else {
			c.lines[i].quantity += l.quantity
		}
	case v.chance(30):
		l.quantity = 0
		change.event = "cart.line_removed"
		c.lines = slices.Delete(c.lines, i, i+1)
	default:
		l.quantity += c.lines[i].quantity
		change.event = "cart.line_changed"
		c.lines[i].quantity = l.quantity
	}
	change.with = map[string]any{"cartId": c.id, "lines": []map[string]any{{"sku": l.sku, "quantity": l.quantity}}}
	change.data = map[string]any{"sku": l.sku, "quantity": l.quantity}
	if l.quantity == 0 {
		delete(change.data, "quantity")
	}
	return change
}

// look reads a cart as of a position at least: nobody else changes it.
func (v *visitor) look(c *cart, position string) {
	var found struct {
		Cart *struct{ Lines []struct{ Quantity int } }
	}
	if !v.ask(`query($id: ID!) { cart(id: $id) { lines { quantity } } }`, map[string]any{"id": c.id}, position, &found) {
		return
	}
	if found.Cart == nil {
		v.market.witness.lie("a cart that was there at position %s is not found with it", position)
		return
	}
	v.compare("reading the cart at position "+position, found.Cart.Lines, c.lines)
}

func (v *visitor) compare(what string, found []struct{ Quantity int }, want []line) {
	same := len(found) == len(want)
	for i := range found {
		same = same && found[i].Quantity == want[i].quantity
	}
	if !same {
		v.market.witness.lie("%s shows %v, want %v", what, found, want)
	}
	v.market.witness.looked()
}

// checkOut buys the carts, asking again with the same keys until there is an answer, and sometimes calls an order off.
func (v *visitor) checkOut(carts []*cart) {
	var checkouts []command
	empty := make(map[string]bool) // by cart
	for _, c := range carts {
		checkouts = append(checkouts, v.checkOutOf(c))
		empty[c.id] = len(c.lines) == 0
	}
	for len(checkouts) > 0 && v.market.t.Context().Err() == nil {
		var left []command
		for i, r := range v.send(checkouts...) {
			if r == nil {
				left = append(left, checkouts[i])
				continue
			}
			if id, _ := checkouts[i].with["cartId"].(string); empty[id] != (r.refusal() == "CART_EMPTY") {
				v.market.witness.lie("a checkout was answered with %v; the cart is empty: %t", r.UserErrors, empty[id])
			}
			if v.chance(10) { // who asks again although there was an answer gets the same
				v.one(checkouts[i])
			}
			v.bought(r)
		}
		checkouts = left
	}
}

func (v *visitor) checkOutOf(c *cart) command {
	token := "ok"
	switch n := v.random.IntN(100); {
	case n < 15:
		token = "declined"
	case n < 18:
		token = "flaky"
	case n < 19:
		token = "timeout"
	}
	return command{
		mutation: "checkout", input: "CheckoutInput", selection: "order { id number } accessToken",
		with: map[string]any{
			"cartId": c.id, "email": v.name + "@example.com", "payment": map[string]any{"token": token}, "idempotencyKey": v.mark(),
			"shippingAddress": map[string]any{"name": v.name, "line1": "1 Road", "city": "London", "country": "GB"},
		},
		event: "cart.checked_out",
	}
}

// bought calls some of the orders off, and leaves the others to the clerks.
func (v *visitor) bought(r *reply) {
	switch {
	case r.Order == nil:
	case v.chance(10):
		v.one(command{
			mutation: "orderCancel", input: "OrderCancelInput", selection: "order { id }", settled: true,
			with:  map[string]any{"orderId": r.Order.ID, "accessToken": r.AccessToken, "reason": r.Order.Number},
			event: "order.cancelled", data: map[string]any{"reason": r.Order.Number}, mark: "reason",
		})
	default:
		v.market.mu.Lock()
		v.market.sold = append(v.market.sold, r.Order.ID)
		v.market.mu.Unlock()
	}
}

// keepShop does some of what staff do, in one request.
func (v *visitor) keepShop() {
	var commands []command
	for range 1 + v.random.IntN(20) {
		switch n := v.random.IntN(100); {
		case n < 40:
			commands = append(commands, v.receive(v.sku(), 1+v.random.IntN(8)))
		case n < 50:
			commands = append(commands, v.adjust())
		case n < 60:
			sku := strings.ToUpper(v.mark())
			commands = append(commands, v.create([]map[string]any{{"sku": sku, "price": "3.00"}}, "DRAFT"))
		case n < 75:
			commands = append(commands, v.reprice())
		default:
			if id := v.market.next(); id != "" {
				commands = append(commands, v.fulfil(id))
			}
		}
	}
	if len(commands) == 0 {
		commands = append(commands, v.receive(v.sku(), 1))
	}
	for i, r := range v.send(commands...) {
		c := commands[i]
		switch {
		case r == nil:
		case c.mutation == "orderFulfill" && r.refusal() == "NOT_ALLOWED" && v.chance(70): // it may not be paid for yet
			v.market.mu.Lock()
			v.market.sold = append(v.market.sold, c.with["orderId"].(string))
			v.market.mu.Unlock()
		case c.mutation == "productCreate" && r.Product != nil:
			v.revise(r.Product.ID)
		}
	}
}

// next returns an order that may be sent, "" for none.
func (m *market) next() (id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.sold) > 0 {
		id, m.sold = m.sold[0], m.sold[1:]
	}
	return id
}

func (v *visitor) receive(sku string, n int) command {
	mark := v.mark()
	return command{
		mutation: "stockReceive", input: "StockReceiveInput", with: map[string]any{"sku": sku, "quantity": n, "reference": mark},
		event: "stock.received", data: map[string]any{"quantity": n, "reference": mark}, mark: "reference",
	}
}

func (v *visitor) adjust() command {
	mark, n := v.mark(), -1-v.random.IntN(2)
	return command{
		mutation: "stockAdjust", input: "StockAdjustInput", with: map[string]any{"sku": v.sku(), "delta": n, "reason": mark},
		event: "stock.adjusted", data: map[string]any{"delta": n, "reason": mark}, mark: "reason",
	}
}

func (v *visitor) create(variants []map[string]any, status string) command {
	title := "Thing " + v.mark()
	return command{
		mutation: "productCreate", input: "ProductCreateInput", selection: "product { id }",
		with:  map[string]any{"title": title, "description": "Of oak, " + v.name, "status": status, "variants": variants},
		event: "product.created", data: map[string]any{"title": title, "status": status}, mark: "title",
	}
}

// revise changes a product of this clerk's own.
func (v *visitor) revise(id string) {
	update := func(member, value, event string, data map[string]any) command {
		c := command{mutation: "productUpdate", input: "ProductUpdateInput", with: map[string]any{"id": id, member: value}, event: event, data: data}
		if data != nil {
			c.mark = member
		}
		return c
	}
	text, slug := "Of iron, "+v.mark(), v.mark()
	v.send(update("description", text, "product.described", map[string]any{"description": text}),
		update("slug", slug, "product.slug_changed", map[string]any{"slug": slug}), update("status", "ACTIVE", "product.published", nil))
	if v.chance(30) {
		v.one(update("status", "ARCHIVED", "product.archived", nil))
	}
}

// reprice gives a SKU a price that it has not had before.
func (v *visitor) reprice() command {
	sku, price := v.sku(), v.market.witness.price()
	return command{
		mutation: "variantPriceChange", input: "VariantPriceChangeInput", with: map[string]any{"sku": sku, "price": fmt.Sprintf("%d.%02d", price/100, price%100)},
		event: "product.price_changed", data: map[string]any{"sku": sku, "price": map[string]any{"minor": price, "currency": "GBP"}}, mark: "price",
	}
}

func (v *visitor) fulfil(id string) command {
	mark := v.mark()
	return command{
		mutation: "orderFulfill", input: "OrderFulfillInput", with: map[string]any{"orderId": id, "tracking": mark}, settled: true,
		event: "order.fulfilled", data: map[string]any{"tracking": mark}, mark: "tracking",
	}
}

// positionOf reads a position as a reply has it.
func positionOf(r *reply) int64 {
	n, err := strconv.ParseInt(r.Position, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
