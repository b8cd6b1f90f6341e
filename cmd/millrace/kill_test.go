package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/devstack/stacktest"
)

// TestAnyProcessCanBeKilledAtAnyMoment runs a shop of two processes a role, kills them with kill -9 while buyers buy, and
// then holds what buyers were told against the log, JetStream and every read model.
func TestAnyProcessCanBeKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	const buyers, stock, kills = 60, 15, 8
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))

	e := stacktest.New(t)
	env := []string{
		"MILLRACE_DATABASE_URL=" + e.DatabaseURL, "MILLRACE_REPLICA_URLS=" + strings.Join(e.ReplicaURLs, ","),
		"MILLRACE_REDIS_URL=" + e.RedisURL, "MILLRACE_NATS_URL=" + e.NATSURL, "MILLRACE_STAFF_TOKEN=" + testStaffToken,
		"MILLRACE_SECRET_KEY=" + strings.Repeat("5a", 32),
	}
	apis := []string{freeAddr(t), freeAddr(t)}
	urls := []string{"http://" + apis[0] + "/graphql", "http://" + apis[1] + "/graphql"}
	children := []*child{
		spawn(t, env, "api", "--addr", apis[0]), spawn(t, env, "api", "--addr", apis[1]),
		spawn(t, env, "relay"), spawn(t, env, "relay"), spawn(t, env, "worker"), spawn(t, env, "worker"),
		spawn(t, env, "process"), spawn(t, env, "process"),
	}
	for _, addr := range apis {
		await(t, "the api to be ready", settle, func() bool { return ready(addr) })
	}
	skus := []string{"KILL-1", "KILL-2", "KILL-3"}
	for _, sku := range skus {
		var created struct {
			ProductCreate, StockReceive struct{ UserErrors []struct{ Message string } }
		}
		mustAsk(t, urls[0], `mutation($sku: String!, $n: Int!) {
			productCreate(input: {title: $sku, status: ACTIVE, variants: [{sku: $sku, price: "2.50"}]}) { userErrors { message } }
			stockReceive(input: {sku: $sku, quantity: $n}) { userErrors { message } } }`, map[string]any{"sku": sku, "n": stock}, &created)
		if n := len(created.ProductCreate.UserErrors) + len(created.StockReceive.UserErrors); n > 0 {
			t.Fatalf("the product was refused: %+v", created)
		}
	}

	results := make([]purchase, buyers)
	var wg sync.WaitGroup
	for i := range buyers {
		wg.Go(func() { results[i] = buy(t.Context(), urls, skus[i%len(skus)], fmt.Sprintf("buyer-%d", i)) })
	}
	bought := make(chan struct{})
	go func() {
		wg.Wait()
		close(bought)
	}()
	for range kills {
		c := children[random.IntN(len(children))]
		c.kill()
		c.start()
		select {
		case <-bought:
		case <-time.After(time.Duration(100+random.IntN(500)) * time.Millisecond):
		}
	}
	<-bought
	for _, addr := range apis {
		await(t, "the api to be ready again", settle, func() bool { return ready(addr) })
	}

	var numbers []string
	refused := 0
	for i, r := range results {
		switch {
		case r.err != nil:
			t.Errorf("buyer %d: %v", i, r.err)
		case r.refusal == "OUT_OF_STOCK":
			refused++
		case r.refusal != "":
			t.Errorf("buyer %d was refused with %s", i, r.refusal)
		default:
			numbers = append(numbers, r.number)
			// The same key once more has the same answer.
			again := buyCart(t.Context(), urls[i%2], r.cart, fmt.Sprintf("buyer-%d", i))
			if again.number != r.number {
				t.Errorf("buyer %d got order %s, and %s for the same key (%v)", i, r.number, again.number, again.err)
			}
		}
	}
	slices.Sort(numbers)
	if distinct := slices.Compact(slices.Clone(numbers)); len(distinct) != stock*len(skus) || len(numbers) != len(distinct) || refused != buyers-stock*len(skus) {
		t.Errorf("%d orders (%d distinct) and %d refusals; want %d and %d", len(numbers), len(distinct), refused, stock*len(skus), buyers-stock*len(skus))
	}
	await(t, "every order to be confirmed", settle, func() bool {
		var list struct{ Orders struct{ TotalCount int } }
		a, err := ask(t.Context(), urls[0], `{ orders(first: 1, status: CONFIRMED) { totalCount } }`, nil)
		return err == nil && json.Unmarshal(a.Data, &list) == nil && list.Orders.TotalCount == len(numbers)
	})
	verify := spawn(t, env, "verify", "--json")
	<-verify.done
	if code := verify.cmd.ProcessState.ExitCode(); code != exitOK {
		t.Errorf("verify ended with %d:\n%s", code, verify.out)
	}
	for i, c := range children {
		if code := c.stop(); code != exitOK {
			t.Errorf("%s (%d) ended with %d when told to stop", c.args[0], i, code)
		}
	}
}

// purchase is what a buyer was told.
type purchase struct {
	cart, number, refusal string
	err                   error
}

// buy puts one unit into a cart and checks out, asking again, with the same key, until somebody answers.
func buy(ctx context.Context, urls []string, sku, key string) purchase {
	ctx, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	var p purchase
	for attempt := 0; ; attempt++ {
		url := urls[attempt%len(urls)]
		if p.cart == "" {
			p.cart, p.err = createCart(ctx, url, sku)
		}
		if p.cart != "" {
			p = buyCart(ctx, url, p.cart, key)
			if p.err == nil {
				return p
			}
		}
		select {
		case <-ctx.Done():
			return p
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func createCart(ctx context.Context, url, sku string) (string, error) {
	a, err := ask(ctx, url, `mutation($sku: String!) { cartCreate(input: {lines: [{sku: $sku, quantity: 1}]}) { cart { id } userErrors { message } } }`,
		map[string]any{"sku": sku})
	if err != nil {
		return "", err
	}
	var created struct {
		CartCreate struct{ Cart struct{ ID string } }
	}
	if err := json.Unmarshal(a.Data, &created); err != nil {
		return "", err
	}
	if created.CartCreate.Cart.ID == "" {
		return "", fmt.Errorf("no cart: %s", a.Data)
	}
	return created.CartCreate.Cart.ID, nil
}

func buyCart(ctx context.Context, url, cart, key string) purchase {
	p := purchase{cart: cart}
	a, err := ask(ctx, url, `mutation($cart: ID!, $key: String!) { checkout(input: {cartId: $cart, email: "buyer@example.com", idempotencyKey: $key, payment: {token: "ok"},
		shippingAddress: {name: "B", line1: "1 Road", city: "London", country: "GB"}}) { order { number } userErrors { code } } }`, map[string]any{"cart": cart, "key": key})
	if err != nil {
		p.err = err
		return p
	}
	var done struct {
		Checkout struct {
			Order      *struct{ Number string }
			UserErrors []struct{ Code string }
		}
	}
	if p.err = json.Unmarshal(a.Data, &done); p.err != nil {
		return p
	}
	switch {
	case len(done.Checkout.UserErrors) > 0:
		p.refusal = done.Checkout.UserErrors[0].Code
	case done.Checkout.Order == nil:
		p.err = fmt.Errorf("neither order nor refusal: %s", a.Data)
	default:
		p.number = done.Checkout.Order.Number
	}
	return p
}
