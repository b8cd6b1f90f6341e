package graph_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/graph"
	"github.com/millrace/millrace/internal/responsecache"
	"github.com/millrace/millrace/projections/catalogue"
	"github.com/millrace/millrace/projections/paging"
)

// BenchmarkProducts lists 20 products, refuses to, and writes the same bytes by a plain handler.
func BenchmarkProducts(b *testing.B) {
	s := newShop(b)
	for i := range 20 {
		s.stocked(b, fmt.Sprint("SKU", i), fmt.Sprint("Thing ", i), "1.00", 10)
	}
	list := readyCatalogue{catalogueOf: s.catalogue()}
	var err error
	if list.page, err = s.catalogue().List(context.Background(), catalogue.Query{Window: paging.Window{First: 20}}); err != nil {
		b.Fatal(err)
	}
	newHandler := func(o graph.Options) *graph.Handler {
		h, err := graph.NewHandler(graph.Deps{
			Commands: s.app, Catalogue: list, Stock: s.stock(), Carts: s.carts(), Orders: s.orders(), Sales: s, Projections: s,
			Log: s, Feed: feedOf{s}, Vault: s,
		}, o)
		if err != nil {
			b.Fatal(err)
		}
		return h
	}
	h := newHandler(graph.Options{})
	busy := newHandler(graph.Options{Admit: func(context.Context, graph.Operation) (graph.Release, error) {
		return nil, &graph.Error{Code: graph.Overloaded, Message: "busy"}
	}})
	keeping := newHandler(graph.Options{Cache: newCache(b, s, responsecache.Options{})})
	const query = `{ products(first: 20) { nodes { id slug title status variants { sku title price { amount currency } } } pageInfo { endCursor } } }`
	const body = `{"query": "` + query + `"}`
	address := "/graphql?" + url.Values{"query": {query}}.Encode()
	serve := func(h http.Handler, method string) string {
		r := httptest.NewRequest(http.MethodGet, address, nil)
		if method == http.MethodPost {
			r = httptest.NewRequest(method, "/graphql", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/json")
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Body.String()
	}
	answer := serve(h, http.MethodPost)
	if strings.Contains(answer, "errors") {
		b.Fatal(answer)
	}
	b.Run("graphql", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			serve(h, http.MethodPost)
		}
	})
	for _, method := range []string{http.MethodGet, http.MethodPost} {
		b.Run("kept by "+method, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				serve(keeping, method)
			}
		})
	}
	b.Run("refused", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			serve(busy, http.MethodPost)
		}
	})
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }), http.MethodGet)
		}
	})
}

// readyCatalogue has its page ready, so that the face alone is measured.
type readyCatalogue struct {
	catalogueOf
	page paging.Page[catalog.State]
}

func (r readyCatalogue) List(context.Context, catalogue.Query) (paging.Page[catalog.State], error) {
	return r.page, nil
}
