package graph_test

import (
	"context"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/graph"
	"github.com/millrace/millrace/internal/admission"
	"github.com/millrace/millrace/internal/responsecache"
	"github.com/millrace/millrace/projections/catalogue"
	"github.com/millrace/millrace/projections/paging"
)

// admitted tells what became of what was let in.
type admitted struct {
	graph.Operation
	released chan bool // what each release told
}

func admitAll(t *testing.T) (func(context.Context, graph.Operation) (graph.Release, error), chan admitted) {
	t.Helper()
	all := make(chan admitted, 100)
	return func(_ context.Context, op graph.Operation) (graph.Release, error) {
		a := admitted{op, make(chan bool, 2)}
		all <- a
		return func(completed bool) { a.released <- completed }, nil
	}, all
}

func within[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("waited for %s", what)
		panic("unreachable")
	}
}

// TestRelease checks that what was admitted is given back once, by every transport and however it ends.
func TestRelease(t *testing.T) {
	s := newShop(t)
	admit, all := admitAll(t)
	_, base := face(t, s, graph.Options{Admit: admit})
	s.stocked(t, "A", "Anvil", "10.00", 5)
	o := s.bought(t, "ann@example.org", commands.LineInput{SKU: "A", Quantity: 2})
	s.breaks("product list", errDisk)
	stock := `subscription { stockChanged(skus: ["A"]) { available } }`
	socket := open(t, base, `{}`)
	for name, c := range map[string]struct {
		run       func()
		completed bool
	}{
		"mutation":        {func() { ask(t, base, `mutation { cartCreate { position } }`, nil).must(t) }, true},
		"query":           {func() { ask(t, base, `{ cart(id: "x") { id } }`, nil).must(t) }, true},
		"error":           {func() { ask(t, base, `{ products { totalCount } }`, nil) }, false},
		"events":          {func() { ask(t, base, `{ cart(id: "x") { id } }`, nil, "Accept", "text/event-stream") }, true},
		"socket":          {func() { socket.subscribe("q", `{ cart(id: "x") { id } }`, nil); socket.data(); socket.next() }, true},
		"socket, streams": {func() { socket.subscribe("s", stock, nil); socket.data() }, false},
		"no such order": {func() {
			socket.subscribe("o", orderUpdated, map[string]any{"id": idOf("Order", o.State.Number), "token": "wrong"})
			socket.next()
		}, false},
	} {
		c.run()
		a := within(t, name, all)
		if completed := within(t, name+" to be released", a.released); completed != c.completed {
			t.Errorf("%s: completed is %v", name, completed)
		}
		if len(a.released) > 0 {
			t.Errorf("%s: was released twice", name)
		}
	}
	if len(all) > 0 {
		t.Errorf("%d operations more were admitted", len(all))
	}
}

// TestRefuse checks that a request whose document is known is refused before it is understood, and that nobody else is, whatever others have hidden
// in requests that are to be refused.
func TestRefuse(t *testing.T) {
	s := newShop(t)
	admit, all := admitAll(t)
	var full atomic.Bool
	h, base := face(t, s, graph.Options{Admit: admit, Refuse: func(op graph.Operation) *graph.Error {
		if full.Load() && slices.Equal(op.Fields, []string{"cart"}) {
			return &graph.Error{Code: graph.Overloaded, Message: "full", RetryAfter: time.Second}
		}
		return nil
	}})
	const cart, two = `query($id: ID!) { cart(id: $id) { id } }`, `query a { cart(id: "x") { id } } query b { products { totalCount } }`
	const quoted, innocent = `{ cart(id: "y") { id } }`, `{ products { pageInfo { hasNextPage } } }`
	body := func(query string, more string) string { return fmt.Sprintf(`{%s "query" : %q}`, more, query) }
	persisted := func(query, more string) string {
		return fmt.Sprintf(`{"variables": {"id": "x"}, "extensions": {%s "persistedQuery": {"version": 1, "sha256Hash": "%x"}}}`, more, sha256.Sum256([]byte(query)))
	}
	known := func(query string) string {
		return strings.TrimSuffix(persisted(query, ""), "}") + fmt.Sprintf(`, "query": %q}`, query)
	}
	// Requests for the cart that show the innocent document, or its hash, where a glance falls.
	asking, hash := fmt.Sprintf(`"qu\u0065ry": %q, "variables": {"id": "x"}}`, cart), fmt.Sprintf(`"sha256Hash": "%x"`, sha256.Sum256([]byte(innocent)))
	for _, text := range []string{
		fmt.Sprintf(`{"x": {"query": %q}, `, innocent) + asking, fmt.Sprintf(`{"query": %q, `, innocent) + asking, `{"x": {` + hash + `}, ` + asking, known(cart),
		strings.Replace(persisted(cart, `"x": {`+hash+`},`), `1, "sha256Hash"`, `1, "sha256H\u0061sh"`, 1), known(innocent),
		body(cart, `"variables": {"id": "x"},`), persisted(cart, ""), body(quoted, ""), body(two, `"operationName": "a",`), body(`{ products { totalCount } }`, ""),
	} {
		send(t, http.MethodPost, base+graph.Path, text).must(t)
		within(t, "what is not refused", all)
	}
	full.Store(true)
	for name, c := range map[string]struct {
		body    string
		refused bool
	}{
		"the same":                             {body(cart, `"variables": {"id": "x"},`), true},
		"other variables":                      {body(cart, `"variables": {"id": "\"query\""},`), true},
		"by its hash":                          {persisted(cart, ""), true},
		"with quotes":                          {body(quoted, ""), true},
		"what others have hidden":              {body(innocent, ""), false},
		"what others have hidden, by its hash": {persisted(innocent, ""), false},
		"another document":                     {body(`{ cart(id: "x") { id } }`, ""), false},
		"a document that is not refused":       {body(`{ products { totalCount } }`, ""), false},
		"one of two operations":                {body(two, `"operationName": "a",`), false},
		"a variable that is called query":      {body(cart, `"variables": {"id": "x", "query": "shoes"},`), false},
	} {
		glance := httptest.NewRecorder()
		asked := httptest.NewRequestWithContext(t.Context(), http.MethodPost, graph.Path, strings.NewReader(c.body))
		asked.Header.Set("Content-Type", "application/json")
		h.Glance(glance, asked)
		a := send(t, http.MethodPost, base+graph.Path, c.body)
		if c.refused != (glance.Code == a.status && glance.Body.String() == string(a.body) && glance.Header().Get("Retry-After") == a.header.Get("Retry-After")) {
			t.Errorf("%s: at a glance %d %s", name, glance.Code, glance.Body)
		}
		if !c.refused && glance.Body.Len() > 0 {
			t.Errorf("%s: at a glance there is an answer: %s", name, glance.Body)
		}
		if !c.refused {
			a.must(t)
			within(t, name, all)
			continue
		}
		if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") != "1" || a.wrong(t) != "OVERLOADED: full" {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
	if len(all) > 0 {
		t.Errorf("%d operations were admitted that had been refused", len(all))
	}
}

// TestSubscriptionsAreBounded checks that one subscription more than there may be is refused by every transport, and that its place
// comes free with the end of another.
func TestSubscriptionsAreBounded(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{MaxSubscriptions: 1})
	s.stocked(t, "A", "Anvil", "10.00", 5)
	stock := `subscription { stockChanged(skus: ["A"]) { available } }`
	socket := open(t, base, `{}`)
	socket.subscribe("1", stock, nil)
	socket.data()

	const want = "OVERLOADED: there are as many subscriptions as this server takes; try again"
	if a := ask(t, base, stock, nil, "Accept", "text/event-stream"); a.status != 503 || a.header.Get("Retry-After") != "1" || a.wrong(t) != want {
		t.Errorf("%d %s", a.status, a.body)
	}
	socket.subscribe("2", stock, nil)
	if m := socket.next(); m.ID != "2" || m.Type != "error" || !strings.Contains(string(m.Payload), "OVERLOADED") {
		t.Errorf("the answer is %+v", m)
	}
	ask(t, base, `{ products { totalCount } }`, nil).must(t)
	socket.send(`{"type": "complete", "id": "1"}`)
	for deadline := time.Now().Add(patience); ; {
		socket.subscribe("3", stock, nil)
		if m := socket.next(); m.Type == "next" {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the place does not come free")
		}
	}
}

// slowCatalogue takes as long for a list as it is made to.
type slowCatalogue struct {
	catalogueOf
	list func()
}

func (c slowCatalogue) List(context.Context, catalogue.Query) (paging.Page[catalog.State], error) {
	c.list()
	return paging.Page[catalog.State]{}, nil
}

// crowded serves a shop whose product lists are slow, behind a limiter for mutations and, less urgent, queries.
func crowded(t *testing.T, s *shop, limit, queue int, list func()) (base string, metrics *prometheus.Registry) {
	t.Helper()
	metrics = prometheus.NewRegistry()
	limiter, err := admission.New(admission.Options{
		Classes: []admission.Class{
			{Name: "mutation", Share: 1, Queue: queue, Wait: patience}, {Name: "query", Share: 1, Queue: queue, Wait: patience},
		}, Min: limit, Initial: limit, Max: limit, Metrics: metrics,
	})
	if err != nil {
		t.Fatal(err)
	}
	h, err := graph.NewHandler(graph.Deps{
		Commands: s.app, Catalogue: slowCatalogue{s.catalogue(), list}, Stock: s.stock(), Carts: s.carts(), Orders: s.orders(), Sales: s,
		Projections: s, Log: s, Feed: feedOf{s}, Vault: s,
	}, graph.Options{Logger: slog.New(slog.DiscardHandler), Admit: func(ctx context.Context, op graph.Operation) (graph.Release, error) {
		class := 1
		if op.Kind == "mutation" {
			class = 0
		}
		slot, err := limiter.Acquire(ctx, class)
		if err != nil {
			return nil, &graph.Error{Code: graph.Overloaded, Message: "busy", RetryAfter: time.Second}
		}
		return slot.Release, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL, metrics
}

// queued waits until so many operations wait to be let in.
func queued(t *testing.T, metrics *prometheus.Registry, want float64) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		families, err := metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		n := 0.0
		for _, f := range families {
			if f.GetName() == "millrace_admission_queued" {
				for _, m := range f.GetMetric() {
					n += m.GetGauge().GetValue()
				}
			}
		}
		if n == want {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%v operations wait, not %v", n, want)
		}
	}
}

// TestUrgentFirst checks that a mutation overtakes the queries that wait while the shop is full of queries.
func TestUrgentFirst(t *testing.T) {
	s := newShop(t)
	began, finish := make(chan struct{}, 10), make(chan struct{})
	base, metrics := crowded(t, s, 1, 10, func() {
		began <- struct{}{}
		<-finish
	})
	var wg sync.WaitGroup
	defer wg.Wait()
	query := func() { wg.Go(func() { ask(t, base, `{ products { totalCount } }`, nil) }) }
	query()
	within(t, "the first query", began)
	for i := range 3 {
		query()
		queued(t, metrics, float64(i+1))
	}
	wg.Go(func() { ask(t, base, `mutation { cartCreate { position } }`, nil) })
	queued(t, metrics, 4)
	finish <- struct{}{}
	within(t, "the second query", began)
	if n := s.count("execute"); n != 1 {
		t.Errorf("%d mutations ran before the second query", n)
	}
	close(finish)
}

// TestOverload offers, by a clock and not by who is ready, five times what can be done. What is accepted takes as long as it does alone; the
// rest is refused at once, and told when to come again.
func TestOverload(t *testing.T) {
	const (
		limit   = 4
		work    = 100 * time.Millisecond
		every   = work / limit / 5
		offered = 400
	)
	base, _ := crowded(t, newShop(t), limit, limit, func() { time.Sleep(work) })
	var mu sync.Mutex
	var done, refused []time.Duration
	var wg sync.WaitGroup
	clock := time.NewTicker(every)
	defer clock.Stop()
	began := time.Now()
	for range offered {
		<-clock.C
		wg.Go(func() {
			came := time.Now()
			a := ask(t, base, `{ products { totalCount } }`, nil, "Accept", graphqlJSON)
			took := time.Since(came)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case a.status == http.StatusOK && len(a.Errors) == 0:
				done = append(done, took)
			case a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") == "1" && a.wrong(t) == "OVERLOADED: busy":
				refused = append(refused, took)
			default:
				t.Errorf("%d %s", a.status, a.body)
			}
		})
	}
	wg.Wait()
	could := int(time.Since(began) * limit / work)
	slices.Sort(done)
	slices.Sort(refused)
	if len(done) == 0 || len(refused) == 0 {
		t.Fatalf("%d done, %d refused", len(done), len(refused))
	}
	p99, median := done[len(done)*99/100], refused[len(refused)/2]
	t.Logf("%d done of %d, p99 %s; %d refused, median %s", len(done), could, p99, len(refused), median)
	if os.Getenv("MILLRACE_TEST_PROMISES") != "" && (len(done) < could*7/10 || p99 > 3*work || median >= 10*time.Millisecond) {
		t.Error("that is less than is promised")
	}
	if len(done) > could+2*limit {
		t.Error("more were let in than the limit allows")
	}
}

// TestLimit checks what is counted, for whom, and what clients are told, by every transport.
func TestLimit(t *testing.T) {
	s := newShop(t)
	var mu sync.Mutex
	var counted []string
	var over string
	_, base := face(t, s, graph.Options{Limit: func(_ context.Context, c graph.Client, mutations int, answer http.Header) error {
		mu.Lock()
		defer mu.Unlock()
		what := "request"
		if mutations > 0 {
			what = "mutation"
		}
		counted = append(counted, strings.Join(strings.Fields(strings.TrimPrefix(fmt.Sprint(mutations, " "), "0 ")+what+" "+c.Header.Get("X-Name")+" "+c.Token), " "))
		answer.Set("RateLimit-Remaining", fmt.Sprint(len(counted)))
		if !strings.HasPrefix(c.Peer, "127.0.0.1:") {
			t.Errorf("the peer is %s", c.Peer)
		}
		if what == over {
			return &graph.Error{Code: graph.RateLimited, Message: "slowly", RetryAfter: 1500 * time.Millisecond}
		}
		return nil
	}})
	mutation, query := `mutation { cartCreate { position } }`, `{ cart(id: "x") { id } }`
	socket := open(t, base, `{"Authorization": "Bearer `+staffToken+`"}`)
	invalid := []string{`[]`, `{}`, `{"query": "{"}`, `{"query": "{ nope }"}`, `{"extensions": {"persistedQuery": {"version": 1}}}`}
	requests := strings.TrimPrefix(strings.Repeat(", request "+staffToken, len(invalid)), ", ")
	allHear := func(code string) func() answer {
		return func() answer {
			for _, payload := range invalid {
				socket.send(`{"type": "subscribe", "id": "3", "payload": ` + payload + `}`)
				if m := socket.next(); m.ID != "3" || m.Type != "error" || !strings.Contains(string(m.Payload), code) {
					t.Errorf("%s: the socket hears %s %s", payload, m.Type, m.Payload)
				}
			}
			return answer{status: 200}
		}
	}
	for _, c := range []struct {
		name, over string
		run        func() answer
		status     int
		want       string
	}{
		{"the socket itself", "", func() answer { return answer{status: 200} }, 200, "request"},
		{"query", "", func() answer { return ask(t, base, query, nil, "X-Name", "ann") }, 200, "request ann"},
		{"staff", "", func() answer { return ask(t, base, query, nil, "Authorization", "Bearer "+staffToken) }, 200, "request " + staffToken},
		{"a wrong token", "", func() answer { return ask(t, base, query, nil, "Authorization", "Bearer x") }, 200, "request"},
		{"nonsense", "", func() answer { return ask(t, base, "{", nil) }, 200, "request"},
		{"mutation", "", func() answer { return ask(t, base, mutation, nil) }, 200, "request, 1 mutation"},
		{"several mutations", "", func() answer {
			return ask(t, base, `mutation { a: cartCreate { position } ... on Mutation { b: cartCreate { position } ...more } __typename } fragment more on Mutation { c: cartCreate { position } }`, nil)
		}, 200, "request, 3 mutation"},
		{"no mutation in a mutation", "", func() answer { return ask(t, base, `mutation { __typename }`, nil) }, 200, "request, 1 mutation"},
		{"too many requests", "request", func() answer { return ask(t, base, mutation, nil) }, 429, "request"},
		{"too many mutations", "mutation", func() answer { return ask(t, base, mutation, nil, "Accept", graphqlJSON) }, 429, "request, 1 mutation"},
		{"too many mutations, query", "mutation", func() answer { return ask(t, base, query, nil) }, 200, "request"},
		{"too many streams", "request", func() answer {
			return ask(t, base, `subscription { stockChanged(skus: ["A"]) { sku } }`, nil, "Accept", "text/event-stream")
		}, 429, "request"},
		{"on a socket", "", func() answer {
			socket.subscribe("1", mutation, nil)
			socket.data()
			socket.next()
			return answer{status: 200}
		}, 200, "request " + staffToken + ", 1 mutation " + staffToken},
		{"too many mutations on a socket", "mutation", func() answer {
			socket.subscribe("2", mutation, nil)
			if m := socket.next(); m.Type != "error" || !strings.Contains(string(m.Payload), "RATE_LIMITED") {
				t.Errorf("the socket hears %+v", m)
			}
			return answer{status: 200}
		}, 200, "request " + staffToken + ", 1 mutation " + staffToken},
		{"what cannot run on a socket", "", allHear("BAD_USER_INPUT"), 200, requests},
		{"too many on a socket are not looked at", "request", allHear("RATE_LIMITED"), 200, requests},
	} {
		mu.Lock()
		over = c.over
		mu.Unlock()
		a := c.run()
		mu.Lock()
		got := strings.Join(counted, ", ")
		n := len(counted)
		counted = nil
		mu.Unlock()
		if got != c.want || a.status != c.status {
			t.Errorf("%s: %d, counted: %s", c.name, a.status, got)
		}
		if a.header != nil && a.header.Get("RateLimit-Remaining") != fmt.Sprint(n) {
			t.Errorf("%s: the header is %v", c.name, a.header)
		}
		if a.status == 429 && (a.wrong(t) != "RATE_LIMITED: slowly" || a.header.Get("Retry-After") != "2") {
			t.Errorf("%s: Retry-After %s, %s", c.name, a.header.Get("Retry-After"), a.body)
		}
	}
	if n := s.count("execute"); n != 5 {
		t.Errorf("%d mutations were executed", n)
	}
}

// TestGlance checks that an answer that is kept is given at a glance, as it would be otherwise, and that any other request has to be understood.
func TestGlance(t *testing.T) {
	s := newShop(t)
	h, base := face(t, s, graph.Options{Cache: newCache(t, s, responsecache.Options{})})
	const list, other = `{"query": "{ products { totalCount } }"}`, `{"query": "{ products { nodes { id } } }"}`
	glance := func(method, path, body string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequestWithContext(t.Context(), method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		h.Glance(w, r)
		return w
	}
	if got := glance(http.MethodPost, graph.Path, list); got.Body.Len() > 0 {
		t.Errorf("what is not kept was answered at a glance: %s", got.Body)
	}
	a := send(t, http.MethodPost, base+graph.Path, list)
	a.must(t)
	if got := glance(http.MethodPost, graph.Path, list); got.Code != http.StatusOK || got.Body.String() != string(a.body) || got.Header().Get("Cache-Status") != "millrace; hit" {
		t.Errorf("at a glance: %d %s %v", got.Code, got.Body, got.Header())
	}
	for name, got := range map[string]*httptest.ResponseRecorder{
		"another query":         glance(http.MethodPost, graph.Path, other),
		"with a token":          glance(http.MethodPost, graph.Path, list, "Authorization", "Bearer "+staffToken),
		"at a position":         glance(http.MethodPost, graph.Path, list, "Millrace-Position", "1"),
		"another path":          glance(http.MethodPost, "/elsewhere", list),
		"another method":        glance(http.MethodPut, graph.Path, list),
		"another form":          glance(http.MethodPost, graph.Path, list, "Content-Type", "text/plain"),
		"an answer not to have": glance(http.MethodPost, graph.Path, list, "Accept", "image/png"),
	} {
		if got.Body.Len() > 0 {
			t.Errorf("%s: at a glance: %s", name, got.Body)
		}
	}
}
