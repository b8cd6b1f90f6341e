package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/devstack/stacktest"
)

// stall is a shop whose api reaches each server through a proxy of its own.
type stall struct {
	t                             *testing.T
	addr, url                     string
	primary, replica, redis, nats *stacktest.Proxy
	bought                        int
}

// stallTimeout is the time that the api gives each request.
const stallTimeout = 3 * time.Second

func openStall(t *testing.T) *stall {
	t.Helper()
	e := stacktest.New(t)
	s := &stall{t: t, addr: freeAddr(t)}
	s.url = "http://" + s.addr + "/graphql"
	through := *e
	s.primary, through.DatabaseURL = stacktest.ProxyURL(t, e.DatabaseURL)
	s.replica, through.ReplicaURLs = nil, make([]string, 1)
	s.replica, through.ReplicaURLs[0] = stacktest.ProxyURL(t, e.ReplicaURLs[0])
	s.redis, through.RedisURL = stacktest.ProxyURL(t, e.RedisURL)
	s.nats, through.NATSURL = stacktest.ProxyURL(t, e.NATSURL)
	spawn(t, append(shopEnv(&through), "MILLRACE_REQUEST_TIMEOUT="+stallTimeout.String()), "api", "--addr", s.addr)
	spawn(t, shopEnv(e), "relay")
	spawn(t, shopEnv(e), "worker")
	await(t, "the api to be ready", settle, func() bool { return ready(s.addr) })
	var created map[string]struct{ UserErrors userErrors }
	mustAsk(t, s.url, `mutation { productCreate(input: {title: "Steady", status: ACTIVE, variants: [{sku: "STEADY", price: "2.50"}]}) { userErrors { code message } }
		stockReceive(input: {sku: "STEADY", quantity: 1000}) { userErrors { code message } } }`, nil, &created)
	for _, c := range created {
		if err := c.UserErrors.err(); err != nil {
			t.Fatal(err)
		}
	}
	s.buy("before anything stalls", 2)
	await(t, "the product to be shown", settle, func() bool {
		_, err := s.browse()
		return err == nil
	})
	return s
}

// buy fills carts and checks them out, one after the other. None of it may fail.
func (s *stall) buy(when string, many int) {
	s.t.Helper()
	var longest time.Duration
	for range many {
		began := time.Now()
		cart, err := createCart(s.t.Context(), s.url, "STEADY")
		if err != nil {
			s.t.Fatalf("%s: filling a cart: %v", when, err)
		}
		s.bought++
		if p := buyCart(s.t.Context(), s.url, cart, fmt.Sprint("steady-", s.bought)); p.err != nil || p.number == "" {
			s.t.Fatalf("%s: checking out: %+v", when, p)
		}
		longest = max(longest, time.Since(began))
	}
	s.t.Logf("%s: %d carts were filled and checked out, each within %v", when, many, longest.Round(time.Millisecond))
}

// browse reads a list that is not cached, because staff ask.
func (s *stall) browse() (*answer, error) {
	return ask(s.t.Context(), s.url, `{ products(first: 20) { nodes { title variants { sku available } } } }`, nil)
}

// without is what the api says that it does without.
func (s *stall) without() []string {
	s.t.Helper()
	response, err := http.Get("http://" + s.addr + "/readyz")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "without "); ok {
			names = append(names, name)
		}
	}
	return names
}

// awaitWithout waits until the api does without a server, or does not any more, and tells so by its metrics too.
func (s *stall) awaitWithout(name string, want bool) {
	s.t.Helper()
	await(s.t, fmt.Sprintf("the api to do without %s: %v", name, want), settle, func() bool {
		state, known := figures(s.t, s.addr)[`millrace_breaker_state{breaker="`+name+`"}`]
		return known && slices.Contains(s.without(), name) == want && (state > 0) == want
	})
}

// TestStalledServers has each server in turn take what an api sends and answer nothing. Checkouts go on without all but the primary, and
// browsing without a replica. Without the primary, commands are refused in time, and then at once, while browsing goes on; and all of them
// are asked again by themselves when they answer.
func TestStalledServers(t *testing.T) {
	t.Parallel()
	s := openStall(t)

	t.Run("replica", func(t *testing.T) {
		s.t = t
		s.replica.Stall()
		browsing, stop := context.WithCancel(t.Context())
		var shown, failed atomic.Int64
		var crowd sync.WaitGroup
		for range 40 {
			crowd.Go(func() {
				for browsing.Err() == nil {
					switch _, err := ask(browsing, s.url, `{ products(first: 20) { nodes { title } } }`, nil); {
					case browsing.Err() != nil:
					case err == nil:
						shown.Add(1)
					default: // while it is being noticed some wait in vain, and others for them
						failed.Add(1)
					}
				}
			})
		}
		s.buy("while the replica stalls and many browse", 4)
		s.awaitWithout("replica 1", true)
		before := shown.Load()
		await(t, "browsing to go on", settle, func() bool { return shown.Load() > before+100 })
		stop()
		crowd.Wait()
		t.Logf("%d pages were shown, %d were not", shown.Load(), failed.Load())
		s.replica.Heal()
		s.awaitWithout("replica 1", false)
	})

	t.Run("redis", func(t *testing.T) {
		s.t = t
		s.redis.Stall()
		s.buy("while Redis stalls", 4)
		await(t, "carts to be read without it", settle, func() bool {
			cart, err := createCart(t.Context(), s.url, "STEADY")
			if err != nil {
				t.Fatal(err)
			}
			a, err := ask(t.Context(), s.url, `query($id: ID!) { cart(id: $id) { lines { quantity } } }`, map[string]any{"id": cart})
			if err != nil || !strings.Contains(string(a.Data), `"quantity":1`) {
				t.Fatalf("the cart is %+v: %v", a, err)
			}
			return slices.Contains(s.without(), "redis documents")
		})
		s.redis.Heal()
	})

	t.Run("nats", func(t *testing.T) {
		s.t = t
		s.nats.Stall()
		s.buy("while NATS stalls", 4)
		s.nats.Heal()
	})

	t.Run("primary", func(t *testing.T) {
		s.t = t
		s.primary.Stall()
		began, most := time.Now(), time.Duration(0)
		await(t, "commands to be refused at once", settle, func() bool {
			asked := time.Now()
			_, err := createCart(t.Context(), s.url, "STEADY")
			if took := time.Since(asked); took > stallTimeout+settle/2 {
				t.Fatalf("a command ended after %v", took)
			} else if most = max(most, took); err == nil || !strings.HasPrefix(err.Error(), "UNAVAILABLE: ") {
				t.Fatalf("a command without the primary: %v", err)
			}
			return strings.Contains(err.Error(), errLogAway.Message)
		})
		t.Logf("commands were refused at once %v after the primary stalled; none of them waited for more than %v", time.Since(began), most)
		await(t, "the api to tell that it does without commands", settle, func() bool {
			return slices.Contains(s.without(), "commands") && figures(t, s.addr)[`millrace_breaker_refused_total{breaker="commands"}`] > 0
		})
		await(t, "browsing to go on", settle, func() bool {
			_, err := s.browse()
			return err == nil
		})
		if !ready(s.addr) {
			t.Error("the api is not ready though it serves reads")
		}
		s.primary.Heal()
		began = time.Now()
		await(t, "commands to be taken again", settle, func() bool {
			_, err := createCart(t.Context(), s.url, "STEADY")
			return err == nil
		})
		t.Logf("commands were taken again %v after the primary answered", time.Since(began))
		s.buy("afterwards", 2)
		s.awaitWithout("commands", false)
	})
}
