package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/devstack/stacktest"
)

// TestBuyingGoesFirst has many more browse an api than it takes on, and some buy meanwhile: whoever browses too much hears so, whoever
// buys notices nothing.
func TestBuyingGoesFirst(t *testing.T) {
	t.Parallel()
	const browsers, buyers = 200, 12 // the queue of those who browse has 128 places
	e := stacktest.New(t)
	env := []string{
		"MILLRACE_DATABASE_URL=" + e.DatabaseURL, "MILLRACE_REPLICA_URLS=" + strings.Join(e.ReplicaURLs, ","),
		"MILLRACE_REDIS_URL=" + e.RedisURL, "MILLRACE_NATS_URL=" + e.NATSURL, "MILLRACE_STAFF_TOKEN=" + testStaffToken,
		"MILLRACE_SECRET_KEY=" + strings.Repeat("5a", 32), "MILLRACE_MAX_CONCURRENCY=2",
	}
	addr := freeAddr(t)
	url := "http://" + addr + "/graphql"
	spawn(t, env, "api", "--addr", addr)
	spawn(t, env, "relay")
	spawn(t, env, "worker")
	await(t, "the api to be ready", settle, func() bool { return ready(addr) })
	var created struct {
		ProductCreate, StockReceive struct{ UserErrors []struct{ Message string } }
	}
	mustAsk(t, url, `mutation { productCreate(input: {title: "Busy", status: ACTIVE, variants: [{sku: "BUSY", price: "2.50"}]}) { userErrors { message } }
		stockReceive(input: {sku: "BUSY", quantity: 1000}) { userErrors { message } } }`, nil, &created)
	if n := len(created.ProductCreate.UserErrors) + len(created.StockReceive.UserErrors); n > 0 {
		t.Fatalf("the product was refused: %+v", created)
	}

	browsing, stop := context.WithCancel(t.Context())
	defer stop()
	var shown, refused atomic.Int64
	var crowd sync.WaitGroup
	for range browsers {
		crowd.Go(func() {
			for browsing.Err() == nil {
				a, err := ask(browsing, url, `{ products(first: 20) { nodes { title variants { sku available } } } }`, nil)
				switch {
				case browsing.Err() != nil:
				case err == nil:
					shown.Add(1)
				case a != nil && strings.HasPrefix(err.Error(), "OVERLOADED: ") && a.header.Get("Retry-After") == "1":
					refused.Add(1)
					select {
					case <-browsing.Done():
					case <-time.After(50 * time.Millisecond): // they are no machines
					}
				default:
					t.Error(err)
				}
			}
		})
	}
	await(t, "somebody to be refused", settle, func() bool { return refused.Load() > 0 })
	for i := range buyers {
		cart, err := createCart(t.Context(), url, "BUSY")
		if err != nil {
			t.Fatalf("cart %d: %v", i, err)
		}
		if p := buyCart(t.Context(), url, cart, fmt.Sprint("busy-", i)); p.err != nil || p.number == "" {
			t.Errorf("buyer %d: %+v", i, p)
		}
	}
	response, err := http.Get("http://" + addr + "/metrics") // in the middle of it
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if err != nil {
		t.Fatal(err)
	}
	stop()
	crowd.Wait()
	t.Logf("%d pages were shown and %d refused while %d bought", shown.Load(), refused.Load(), buyers)
	refusals := regexp.MustCompile(`(?m)^millrace_admission_refused_total\{priority="(\w+)",reason="(\w+)".*\} (\d+)$`).FindAllStringSubmatch(string(metrics), -1)
	told := false
	for _, r := range refusals {
		priority, reason, n := r[1], r[2], r[3]
		told = told || priority == "browse" && reason == "full" && n != "0"
		if priority != "browse" && n != "0" {
			t.Errorf("%s of %s were refused: %s", n, priority, reason)
		}
	}
	if !told {
		t.Error("the metrics do not tell that browsers were refused")
	}
	if shown.Load() == 0 {
		t.Error("nobody saw anything")
	}
}
