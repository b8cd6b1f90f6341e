package graph_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/graph"
	"github.com/millrace/millrace/internal/projector"
)

func (s *shop) Parked(context.Context, ...string) ([]projector.ParkedEvent, error) {
	return s.parked, s.called("parked")
}

func (s *shop) Park(_ context.Context, projection string, position int64) error {
	return s.operate("park", projection, position)
}

func (s *shop) Retry(_ context.Context, projection string, position int64) error {
	return s.operate("retry", projection, position)
}

func (s *shop) operate(what, projection string, position int64) error {
	s.operated = append(s.operated, fmt.Sprint(what, " ", projection, " ", position))
	return s.called(what)
}

// TestParkedEvents lets staff, and nobody else, see what read models go without, and get them moving.
func TestParkedEvents(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	s.statuses = []projector.Status{
		{Name: "orders", State: projector.Live, Partitions: []projector.PartitionStatus{{Worker: "w", Parked: 1}}},
		{Name: "sales", State: projector.Live, Partitions: []projector.PartitionStatus{}},
	}
	s.parked = []projector.ParkedEvent{{
		Projection: "orders", Generation: 2, Store: "postgres", Position: 5, Stream: "order-1", Type: "order.placed", Error: "too long",
		Attempts: 3, Waiting: 2, ParkedAt: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}}
	a := staff(t, base, `{ projections { name partitions { parked }
		parked { position stream type generation store error attempts waiting retrying parkedAt } } }`, nil).must(t)
	want := `{"data":{"projections":[{"name":"orders","partitions":[{"parked":1}],"parked":[{"position":"5","stream":"order-1","type":"order.placed",` +
		`"generation":2,"store":"postgres","error":"too long","attempts":3,"waiting":2,"retrying":false,"parkedAt":"2026-01-02T03:04:05Z"}]},` +
		`{"name":"sales","partitions":[],"parked":[]}]}}`
	if a.body != want {
		t.Error(a.body)
	}
	if n := s.count("parked"); n != 1 {
		t.Errorf("the list was read %d times", n)
	}
	s.resetCounts()
	staff(t, base, `{ projections { name } }`, nil).must(t)
	if n := s.count("parked"); n != 0 {
		t.Errorf("the list was read %d times where nobody asked for it", n)
	}

	const park = `mutation { parkProjectionEvent(input: {projection: "orders", position: "5"}) { projection { name } userErrors { code field message } } }`
	retry := strings.Replace(park, "park", "retry", 1)
	for name, mutation := range map[string]string{"park": park, "retry": retry} {
		if got := ask(t, base, mutation, nil).wrong(t); !strings.HasPrefix(got, "FORBIDDEN") {
			t.Errorf("a guest may %s: %s", name, got)
		}
		field := name + "ProjectionEvent"
		if got, want := staff(t, base, mutation, nil).must(t).body, `{"data":{"`+field+`":{"projection":{"name":"orders"},"userErrors":[]}}}`; got != want {
			t.Errorf("%s: %s", name, got)
		}
		for code, err := range map[string]*projector.OperatorError{
			`"NOT_ALLOWED","field":["input","position"]`: {Message: "100% wrong"},
			`"NOT_FOUND","field":["input","projection"]`: {NoProjection: true, Message: "100% wrong"},
		} {
			s.breaks(name, err)
			want := `{"data":{"` + field + `":{"projection":null,"userErrors":[{"code":` + code + `,"message":"100% wrong"}]}}}`
			if got := staff(t, base, mutation, nil).must(t).body; got != want {
				t.Errorf("%s: %s", name, got)
			}
		}
	}
	if asked := slices.Compact(slices.Sorted(slices.Values(s.operated))); !slices.Equal(asked, []string{"park orders 5", "retry orders 5"}) {
		t.Errorf("asked for %v", asked)
	}

	// What is parked is no news to wait for.
	s.breaks("products", &projector.ParkedError{Projection: "catalogue", Stream: "product-1", Position: 7})
	got := ask(t, base, `query($id: ID!) { product(id: $id) { title } }`, map[string]any{"id": idOf("Product", "1")}).wrong(t)
	if want := "STALE: what was asked for is set aside from position 7 on until staff retry it; without a position it is shown as it was before"; got != want {
		t.Error(got)
	}
}
