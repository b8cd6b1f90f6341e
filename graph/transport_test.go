package graph_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/millrace/millrace/graph"
	"github.com/millrace/millrace/internal/es"
)

const graphqlJSON = "application/graphql-response+json"

// TestStatus checks status codes and media types, for what the client accepts.
func TestStatus(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	api := base + "/graphql"
	good, bad := document(t, `{ products { totalCount } }`, nil), document(t, `{ nothing }`, nil)
	badVariable := document(t, `query($n: Int!) { products(first: $n) { totalCount } }`, map[string]any{"n": "x"})
	for name, c := range map[string]struct {
		method, url, body string
		headers           []string
		status            int
		contentType       string
	}{
		"plain":                       {"POST", api, good, nil, 200, "application/json; charset=utf-8"},
		"anything":                    {"POST", api, good, []string{"Accept", "*/*"}, 200, "application/json; charset=utf-8"},
		"graphql":                     {"POST", api, good, []string{"Accept", graphqlJSON}, 200, graphqlJSON + "; charset=utf-8"},
		"quality":                     {"POST", api, good, []string{"Accept", "application/json;q=0.5, " + graphqlJSON}, 200, graphqlJSON + "; charset=utf-8"},
		"not acceptable":              {"POST", api, good, []string{"Accept", "text/html"}, 406, "application/json; charset=utf-8"},
		"charset":                     {"POST", api, good, []string{"Content-Type", "application/json; charset=UTF-8"}, 200, ""},
		"invalid, json":               {"POST", api, bad, nil, 200, ""},
		"invalid, graphql":            {"POST", api, bad, []string{"Accept", graphqlJSON}, 400, ""},
		"variable, json":              {"POST", api, badVariable, nil, 200, ""},
		"variable, graphql":           {"POST", api, badVariable, []string{"Accept", graphqlJSON}, 400, ""},
		"token, json":                 {"POST", api, good, []string{"Authorization", "Bearer nonsense"}, 200, ""},
		"token, graphql":              {"POST", api, good, []string{"Authorization", "Bearer nonsense", "Accept", graphqlJSON}, 401, ""},
		"field error, graphql":        {"POST", api, document(t, `{ orders { totalCount } }`, nil), []string{"Accept", graphqlJSON}, 200, ""},
		"no JSON":                     {"POST", api, "{", nil, 400, ""},
		"no object":                   {"POST", api, `"x"`, nil, 400, ""},
		"no query":                    {"POST", api, `{}`, nil, 400, ""},
		"query of a wrong type":       {"POST", api, `{"query": 1}`, nil, 400, ""},
		"variables of a wrong type":   {"POST", api, `{"query": "{x}", "variables": []}`, nil, 400, ""},
		"batch":                       {"POST", api, "[" + good + "," + good + "]", nil, 400, ""},
		"too large":                   {"POST", api, strings.Repeat(" ", 1<<20) + good, nil, 413, ""},
		"text":                        {"POST", api, good, []string{"Content-Type", "text/plain"}, 415, ""},
		"no content type":             {"POST", api, good, []string{"Content-Type", ""}, 415, ""},
		"encoded":                     {"POST", api, good, []string{"Content-Encoding", "gzip"}, 415, ""},
		"put":                         {"PUT", api, good, nil, 405, ""},
		"get":                         {"GET", api + "?query=" + url.QueryEscape("{ products { totalCount } }"), "", nil, 200, ""},
		"get with variables":          {"GET", api + "?query=" + url.QueryEscape("query($n: Int) { products(first: $n) { totalCount } }") + "&variables=" + url.QueryEscape(`{"n": 3}`), "", nil, 200, ""},
		"get without query":           {"GET", api, "", nil, 400, ""},
		"get with broken variables":   {"GET", api + "?query=%7Bx%7D&variables=%7B", "", nil, 400, ""},
		"mutation by get":             {"GET", api + "?query=" + url.QueryEscape("mutation { cartCreate { position } }"), "", nil, 405, ""},
		"subscription without stream": {"POST", api, document(t, `subscription { stockChanged(skus: ["A"]) { sku } }`, nil), nil, 200, ""},
		"elsewhere":                   {"GET", base + "/elsewhere", "", nil, 404, ""},
	} {
		a := send(t, c.method, c.url, c.body, c.headers...)
		if a.status != c.status {
			t.Errorf("%s: status %d, not %d: %s", name, a.status, c.status, a.body)
		}
		if got := a.header.Get("Content-Type"); c.contentType != "" && got != c.contentType {
			t.Errorf("%s: content type %s", name, got)
		}
		if a.status >= 400 && a.status != 404 && len(a.Errors) == 0 {
			t.Errorf("%s: no errors in %s", name, a.body)
		}
		if len(a.Errors) > 0 && a.status != 200 && a.Data != nil {
			t.Errorf("%s: data in %s", name, a.body)
		}
	}
	if n := s.count("execute"); n != 0 {
		t.Errorf("%d commands were executed", n)
	}
}

// TestCaching checks what caches between are told.
func TestCaching(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{Limit: func(_ context.Context, _ graph.Client, _ int, answer http.Header) error {
		for _, name := range []string{"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy"} {
			answer.Set(name, "1")
		}
		return nil
	}})
	get := func(query string, headers ...string) answer {
		return send(t, "GET", base+"/graphql?query="+url.QueryEscape(query), "", headers...)
	}
	for name, c := range map[string]struct {
		a    answer
		want string
	}{
		"public":     {get(`{ products { totalCount } }`), "public, max-age=0"},
		"authorised": {get(`{ products { totalCount } }`, "Authorization", "Bearer "+staffToken), "no-store"},
		"wrong":      {get(`{ products { totalCount } }`, "Authorization", "Bearer x"), "no-store"},
		"cart":       {get(`{ products { totalCount } cart(id: "x") { id } }`), "no-store"},
		"node":       {get(`{ node(id: "x") { id } }`), "no-store"},
		"errors":     {get(`{ products(after: "x") { totalCount } }`), "no-store"},
		"post":       {ask(t, base, `{ products { totalCount } }`, nil), "no-store"},
	} {
		if got := c.a.header.Get("Cache-Control"); got != c.want {
			t.Errorf("%s: Cache-Control %s, not %s", name, got, c.want)
		}
		told := 0
		for header := range c.a.header {
			if strings.HasPrefix(header, "Ratelimit-") {
				told++
			}
		}
		if want := map[bool]int{true: 0, false: 4}[strings.HasPrefix(c.want, "public")]; told != want { // a cache would show them to others
			t.Errorf("%s: %d headers tell how often the client may ask, not %d", name, told, want)
		}
		if got := c.a.header.Get("Vary"); got != "Accept, Authorization, Millrace-Position" {
			t.Errorf("%s: Vary %s", name, got)
		}
	}
}

// TestPosition checks that a query that sends a position back sees it, or hears that it came too early.
func TestPosition(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	s.stocked(t, "A", "Anvil", "10.00", 1)
	head := fmt.Sprint(len(s.events))
	query := `{ products { totalCount } }`
	body := func(position any) string {
		return fmt.Sprintf(`{"query": %q, "extensions": {"position": %s}}`, query, position)
	}
	product := idOf("Product", "x")
	for name, c := range map[string]struct {
		a    answer
		want string
	}{
		"reached, header":   {ask(t, base, query, nil, "Millrace-Position", head), ""},
		"reached, body":     {send(t, "POST", base+"/graphql", body(`"`+head+`"`)), ""},
		"no position":       {send(t, "POST", base+"/graphql", body("null")), ""},
		"not reached":       {ask(t, base, `{ node(id: "`+product+`") { id } }`, nil, "Millrace-Position", "1000"), "STALE: what was asked for has not come as far as position 1000 in time; ask again"},
		"the higher counts": {send(t, "POST", base+"/graphql", fmt.Sprintf(`{"query": %q, "extensions": {"position": "1000"}}`, `{ node(id: "`+product+`") { id } }`), "Millrace-Position", "1"), "STALE: what was asked for has not come as far as position 1000 in time; ask again"},
		"nonsense, header":  {ask(t, base, query, nil, "Millrace-Position", "one"), `BAD_USER_INPUT: Millrace-Position: "one" is not a position as a mutation answered it`},
		"nonsense, body":    {send(t, "POST", base+"/graphql", body(`12`)), `BAD_USER_INPUT: extensions.position: a Position is a string as a mutation answered it`},
		"negative":          {ask(t, base, query, nil, "Millrace-Position", "-1"), `BAD_USER_INPUT: Millrace-Position: "-1" is not a position as a mutation answered it`},
	} {
		got := ""
		if len(c.a.Errors) > 0 {
			got = c.a.wrong(t)
		}
		if got != c.want {
			t.Errorf("%s: %q", name, got)
		}
	}
	two := ask(t, base, `mutation { a: cartCreate { position } b: cartCreate { position } }`, nil).must(t)
	if two.Extensions["position"] != two.text(t, "b", "position") || two.header.Get("Millrace-Position") != two.text(t, "b", "position") {
		t.Errorf("of two mutations the answer is %s, the header %s", two.body, two.header.Get("Millrace-Position"))
	}
}

// TestAdmission checks that an operation is refused before anything of it runs.
func TestAdmission(t *testing.T) {
	s := newShop(t)
	var seen graph.Operation
	refuse := error(&graph.Error{Code: graph.Unavailable, Message: "away", RetryAfter: 1500 * time.Millisecond})
	_, base := face(t, s, graph.Options{Admit: func(_ context.Context, op graph.Operation) (graph.Release, error) {
		seen = op
		if op.Kind == "mutation" {
			return nil, refuse
		}
		return func(bool) {}, nil
	}})
	mutation := `mutation Fill { cartCreate { position } }`
	for _, accept := range []string{"application/json", graphqlJSON} {
		a := ask(t, base, mutation, nil, "Accept", accept)
		if a.status != 503 || a.header.Get("Retry-After") != "2" || a.wrong(t) != "UNAVAILABLE: away" || a.Data != nil {
			t.Errorf("%s: %d %s %s", accept, a.status, a.header.Get("Retry-After"), a.body)
		}
	}
	if seen.Name != "Fill" || fmt.Sprint(seen.Fields) != "[cartCreate]" || seen.Staff || seen.Complexity < 1 {
		t.Errorf("the hook saw %+v", seen)
	}
	refuse = &graph.Error{Code: graph.RateLimited, Message: "slowly"}
	if a := ask(t, base, mutation, nil); a.status != 429 || a.header.Get("Retry-After") != "1" {
		t.Errorf("%d %s", a.status, a.body)
	}
	refuse = errDisk
	if a := ask(t, base, mutation, nil); a.status != 503 || strings.Contains(a.body, "disk") {
		t.Errorf("%d %s", a.status, a.body)
	}
	ask(t, base, `{ products { totalCount } }`, nil).must(t)
	if n := s.count("execute"); n != 0 {
		t.Errorf("%d commands were executed", n)
	}
}

// TestLogAway checks what a client hears when the log goes away while its mutation runs.
func TestLogAway(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	s.breaks("execute", fmt.Errorf("postgres: %w", es.ErrUnavailable))
	a := ask(t, base, `mutation { a: cartCreate { position } b: cartCreate { position } }`, nil)
	if a.status != http.StatusServiceUnavailable || a.header.Get("Retry-After") == "" || len(a.Errors) != 2 {
		t.Errorf("%d %s", a.status, a.body)
	}
	s.breaks("execute", errors.Join(es.ErrUnavailable, es.ErrOutcomeUnknown))
	a = ask(t, base, `mutation { cartCreate { position } }`, nil)
	if a.status != http.StatusOK || !strings.HasSuffix(a.wrong(t), "look whether it has before you send it again") {
		t.Errorf("%d %s", a.status, a.body)
	}
	a = ask(t, base, `mutation { cartCreate { position } }`, nil, "Idempotency-Key", "k")
	if a.status != http.StatusOK || !strings.HasSuffix(a.wrong(t), "send it again with the same idempotency key") {
		t.Errorf("%d %s", a.status, a.body)
	}
	a = ask(t, base, `mutation { a: cartCreate(input: {idempotencyKey: "k"}) { position } b: cartCreate { position } }`, nil)
	if len(a.Errors) != 2 || !strings.HasSuffix(a.Errors[0].Message, "before you send it again") { // the whole of it is sent again
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestLeaks checks that what goes wrong inside stays inside.
func TestLeaks(t *testing.T) {
	s := newShop(t)
	registry := prometheus.NewRegistry()
	_, base := face(t, s, graph.Options{Metrics: registry})
	s.breaks("product list", errDisk)
	defer func() {
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		internal := 0.0
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == "millrace_graphql_errors_total" && m.GetLabel()[0].GetValue() == string(graph.Internal) {
					internal += m.GetCounter().GetValue()
				}
			}
		}
		if got := fmt.Sprint(families); internal == 0 || !strings.Contains(got, `"cartCreate"`) {
			t.Errorf("the metrics are %s", got)
		}
	}()
	a := ask(t, base, `{ products { totalCount } stillThere: cart(id: "x") { id } }`, nil)
	if a.status != 200 || !strings.HasPrefix(a.wrong(t), "INTERNAL: something went wrong on our side; quote ") || strings.Contains(a.body, "disk") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a.Errors[0].Extensions["correlation"] == "" || fmt.Sprint(a.Errors[0].Path) != "[products]" {
		t.Errorf("the error is %+v", a.Errors[0])
	}
	trace := "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	a = ask(t, base, `{ products { totalCount } }`, nil, "Traceparent", trace)
	if a.Errors[0].Extensions["correlation"] != "0af7651916cd43dd8448eb211c80319c" {
		t.Errorf("the correlation is %v", a.Errors[0].Extensions["correlation"])
	}
	ask(t, base, `mutation { cartCreate { position } }`, nil, "Traceparent", trace).must(t)
	if got := string(s.events[0].Metadata); !strings.Contains(got, trace) || !strings.Contains(got, `"actor":"guest"`) {
		t.Errorf("the metadata is %s", got)
	}
}
