package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/devstack/stacktest"
)

// keyedRequest is a mutation under a key, and what it appends.
type keyedRequest struct {
	query   string
	appends map[string]int
}

// TestAKeyHasOneEffectOverHTTP has two api processes asked for the same at once, under one key, while their connections to PostgreSQL
// break: what is asked for happens once, and every answer is the same.
func TestAKeyHasOneEffectOverHTTP(t *testing.T) {
	t.Parallel()
	const each, senders, atOnce = 6, 4, 5
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	e := stacktest.New(t)
	env := []string{
		"MILLRACE_REDIS_URL=" + e.RedisURL, "MILLRACE_NATS_URL=" + e.NATSURL, "MILLRACE_STAFF_TOKEN=" + testStaffToken,
		"MILLRACE_SECRET_KEY=" + strings.Repeat("5a", 32),
	}
	direct := append([]string{"MILLRACE_DATABASE_URL=" + e.DatabaseURL}, env...)
	spawn(t, direct, "worker")
	spawn(t, direct, "relay")
	var urls []string
	var proxies []*stacktest.Proxy
	for range 2 {
		proxy, through := stacktest.ProxyURL(t, e.DatabaseURL)
		addr := freeAddr(t)
		spawn(t, append([]string{"MILLRACE_DATABASE_URL=" + through}, env...), "api", "--addr", addr)
		proxies, urls = append(proxies, proxy), append(urls, "http://"+addr+"/graphql")
		await(t, "the api to be ready", settle, func() bool { return ready(addr) })
	}
	var created struct {
		ProductCreate, StockReceive struct{ UserErrors []struct{ Message string } }
	}
	mustAsk(t, urls[0], `mutation { productCreate(input: {title: "Key", status: ACTIVE, variants: [{sku: "KEY", price: "2.50"}]}) { userErrors { message } }
		stockReceive(input: {sku: "KEY", quantity: 1000}) { userErrors { message } } }`, nil, &created)
	carts := make([]string, 2*each)
	for i := range carts {
		id, err := createCart(t.Context(), urls[0], "KEY")
		if err != nil {
			t.Fatal(err)
		}
		carts[i] = id
	}
	const cart = `cart { id total { amount } lines { quantity unitPrice { amount } } } userErrors { code } position`
	var requests []keyedRequest
	for i := range each {
		requests = append(requests,
			keyedRequest{`mutation { cartCreate(input: {lines: [{sku: "KEY", quantity: 2}]}) { ` + cart + ` } }`, map[string]int{"cart.created": 1, "cart.line_added": 1}},
			keyedRequest{`mutation { cartLinesAdd(input: {cartId: "` + carts[i] + `", lines: [{sku: "KEY", quantity: 2}]}) { ` + cart + ` } }`, map[string]int{"cart.line_added": 1}},
			keyedRequest{`mutation { checkout(input: {cartId: "` + carts[each+i] + `", email: "buyer@example.com", payment: {token: "ok"},
				shippingAddress: {name: "B", line1: "1 Road", city: "London", country: "GB"}}) { order { id status email history { position summary } } accessToken userErrors { code } position } }`,
				map[string]int{"order.placed": 1, "stock.reserved": 1, "cart.checked_out": 1}},
			keyedRequest{`mutation { productCreate(input: {title: "Thing", variants: [{sku: "T-` + fmt.Sprint(i) + `", price: "1.00"}]}) { product { id slug } userErrors { code } position } }`,
				map[string]int{"product.created": 1, "slug.claimed": 1, "stock.opened": 1}},
			keyedRequest{`mutation { stockReceive(input: {sku: "KEY", quantity: 1, reference: "` + fmt.Sprint(i) + `"}) { variant { available } userErrors { code } position } }`,
				map[string]int{"stock.received": 1}},
			keyedRequest{`mutation { a: stockReceive(input: {sku: "KEY", quantity: 1}) { position userErrors { code } } b: stockReceive(input: {sku: "KEY", quantity: 1}) { position userErrors { code } } }`,
				map[string]int{"stock.received": 2}})
	}
	pool := connect(t, e.DatabaseURL)
	want := countEvents(t, pool)
	for _, r := range requests {
		for eventType, n := range r.appends {
			want[eventType] += n
			want[""] += n
		}
	}

	stop, answered := make(chan struct{}), make(chan struct{})
	var breaking sync.WaitGroup
	for i, p := range proxies {
		random := rand.New(rand.NewPCG(seed, uint64(i)))
		breaking.Go(func() {
			for {
				// However slow the machine is, somebody is answered between two faults.
				for range 1 + random.IntN(8) {
					select {
					case <-stop:
						return
					case <-answered:
					}
				}
				[]func(){p.Cut, p.Reset, p.Stall}[random.IntN(3)]()
				<-time.After(time.Duration(random.IntN(150)) * time.Millisecond)
				p.Heal()
			}
		})
	}
	var retries atomic.Int64
	var working sync.WaitGroup
	todo := make(chan int)
	for range atOnce {
		working.Go(func() {
			for n := range todo {
				answers := make([]string, senders)
				var sending sync.WaitGroup
				for s := range senders {
					sending.Go(func() {
						answers[s] = insist(t, urls, s, requests[n].query, fmt.Sprintf("request %d", n), &retries)
						select {
						case answered <- struct{}{}:
						default:
						}
					})
				}
				sending.Wait()
				for _, a := range answers[1:] {
					if a != answers[0] {
						t.Errorf("one answer to request %d is\n%s\nanother\n%s", n, answers[0], a)
					}
				}
				if strings.Contains(answers[0], `"code"`) {
					t.Errorf("request %d was refused: %s", n, answers[0])
				}
			}
		})
	}
	for n := range requests {
		todo <- n
	}
	close(todo)
	working.Wait()
	close(stop)
	breaking.Wait()
	if got := countEvents(t, pool); !maps.Equal(got, want) {
		t.Errorf("the log has %v, want %v", got, want)
	}
	t.Logf("%d requests, each sent %d times at once, and %d times more", len(requests), senders, retries.Load())
}

// insist sends a request under a key to one api and the other until one of them answers, and returns the data of the answer.
func insist(t *testing.T, urls []string, first int, query, key string, retries *atomic.Int64) string {
	deadline := time.Now().Add(90 * time.Second)
	for attempt := first; ; attempt++ {
		body, err := json.Marshal(map[string]any{"query": query})
		if err != nil {
			t.Error(err)
			return ""
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, urls[attempt%len(urls)], bytes.NewReader(body))
		if err != nil {
			t.Error(err)
			return ""
		}
		r.Header.Set("Idempotency-Key", `"`+key+`"`)
		a, err := exchange(r)
		if err == nil {
			return string(a.Data)
		}
		if time.Now().After(deadline) {
			t.Errorf("%s: %v", key, err)
			return ""
		}
		retries.Add(1)
		<-time.After(50 * time.Millisecond)
	}
}
