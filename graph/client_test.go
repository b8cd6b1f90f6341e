package graph_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/catalog"
)

// answer is what came back for a request.
type answer struct {
	status int
	header http.Header
	body   string

	Data       map[string]any
	Errors     []problem
	Extensions map[string]any
}

type problem struct {
	Message    string
	Path       []any
	Locations  []any
	Extensions map[string]any
}

// send sends a request with headers, given as pairs.
func send(t *testing.T, method, url, body string, headers ...string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] == "" {
			req.Header.Del(headers[i])
		} else {
			req.Header.Set(headers[i], headers[i+1])
		}
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answer{status: res.StatusCode, header: res.Header, body: string(text)}
	if strings.Contains(res.Header.Get("Content-Type"), "json") {
		if err := json.Unmarshal(text, &a); err != nil {
			t.Fatalf("the answer is not JSON: %v\n%s", err, text)
		}
	}
	return a
}

func document(t *testing.T, query string, variables map[string]any) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(map[string]any{"query": query, "variables": variables}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// ask sends a query or mutation as a guest.
func ask(t *testing.T, url, query string, variables map[string]any, headers ...string) answer {
	t.Helper()
	return send(t, http.MethodPost, url+"/graphql", document(t, query, variables), headers...)
}

// staff sends it with the staff token.
func staff(t *testing.T, url, query string, variables map[string]any) answer {
	t.Helper()
	return ask(t, url, query, variables, "Authorization", "Bearer "+staffToken)
}

// must fails the test if there were errors.
func (a answer) must(t *testing.T) answer {
	t.Helper()
	if a.status != http.StatusOK || len(a.Errors) > 0 {
		t.Fatalf("status %d: %s", a.status, a.body)
	}
	return a
}

// at walks down objects and lists.
func (a answer) at(t *testing.T, path ...any) any {
	t.Helper()
	var v any = a.Data
	for _, step := range path {
		switch s := step.(type) {
		case string:
			m, ok := v.(map[string]any)
			if !ok {
				t.Fatalf("there is no %v in %s", path, a.body)
			}
			v = m[s]
		case int:
			l, ok := v.([]any)
			if !ok || len(l) <= s {
				t.Fatalf("there is no %v in %s", path, a.body)
			}
			v = l[s]
		}
	}
	return v
}

func (a answer) text(t *testing.T, path ...any) string {
	t.Helper()
	s, ok := a.at(t, path...).(string)
	if !ok {
		t.Fatalf("%v is no string in %s", path, a.body)
	}
	return s
}

// wrong returns "CODE: message" of the only error.
func (a answer) wrong(t *testing.T) string {
	t.Helper()
	if len(a.Errors) != 1 {
		t.Fatalf("%d errors, not 1: %s", len(a.Errors), a.body)
	}
	code, _ := a.Errors[0].Extensions["code"].(string)
	return code + ": " + a.Errors[0].Message
}

// stocked puts a product with one variant on sale.
func (s *shop) stocked(t testing.TB, sku, title, price string, units int) catalog.State {
	t.Helper()
	ctx := context.Background()
	p, err := s.app.ProductCreate(ctx, commands.ProductCreate{
		Title: title, Status: catalog.StatusActive, Variants: []commands.VariantInput{{SKU: sku, Price: price}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if units > 0 {
		if _, err := s.app.StockReceive(ctx, commands.StockReceive{SKU: sku, Quantity: units}); err != nil {
			t.Fatal(err)
		}
	}
	return p.State
}

// bought checks a cart out and returns the order with its access token.
func (s *shop) bought(t *testing.T, email string, lines ...commands.LineInput) commands.OrderResult {
	t.Helper()
	ctx := context.Background()
	c, err := s.app.CartCreate(ctx, commands.CartCreate{Lines: lines})
	if err != nil {
		t.Fatal(err)
	}
	o, err := s.app.CheckOut(ctx, commands.CheckOut{
		CartID: c.ID, Email: email, PaymentToken: "ok",
		ShippingAddress: commands.Address{Name: "Ann Example", Line1: "1 Mill Lane", City: "Leeds", Country: "GB"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return o
}
