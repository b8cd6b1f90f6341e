package graph_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/graph"
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
	face := func(o graph.Options) *graph.Handler {
		h, err := graph.NewHandler(graph.Deps{
			Commands: s.app, Catalogue: list, Stock: s.stock(), Carts: s.carts(), Orders: s.orders(), Sales: s, Projections: s,
			Log: s, Feed: feedOf{s}, Vault: s,
		}, o)
		if err != nil {
			b.Fatal(err)
		}
		return h
	}
	h := face(graph.Options{})
	busy := face(graph.Options{Admit: func(context.Context, graph.Operation) (graph.Release, error) {
		return nil, &graph.Error{Code: graph.Overloaded, Message: "busy"}
	}})
	body := `{"query": "{ products(first: 20) { nodes { id slug title status variants { sku title price { amount currency } } } pageInfo { endCursor } } }"}`
	serve := func(h http.Handler) string {
		r := httptest.NewRequest(http.MethodPost, "/graphql", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Body.String()
	}
	answer := serve(h)
	if strings.Contains(answer, "errors") {
		b.Fatal(answer)
	}
	b.Run("graphql", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			serve(h)
		}
	})
	b.Run("refused", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			serve(busy)
		}
	})
	b.Run("plain", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			serve(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
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
