package main

import (
	"testing"

	"github.com/millrace/millrace/graph"
)

// TestPriorities checks how urgent operations are.
func TestPriorities(t *testing.T) {
	for _, c := range []struct {
		kind   string
		fields []string
		want   string
	}{
		{"mutation", []string{"checkout"}, "checkout"},
		{"mutation", []string{"orderCancel"}, "checkout"},
		{"mutation", []string{"__typename", "checkout"}, "checkout"},
		{"mutation", []string{"cartLinesAdd"}, "cart"},
		{"mutation", []string{"checkout", "cartCreate"}, "cart"},
		{"mutation", []string{"productUpdate"}, "cart"},
		{"query", []string{"cart"}, "cart"},
		{"query", []string{"order"}, "cart"},
		{"subscription", []string{"orderUpdated"}, "cart"},
		{"query", []string{"products"}, "browse"},
		{"query", []string{"cart", "products"}, "browse"},
		{"query", []string{"node"}, "browse"},
		{"query", []string{"__schema"}, "browse"},
		{"subscription", []string{"stockChanged"}, "browse"},
		{"query", []string{"salesReport"}, "report"},
		{"query", []string{"cart", "orders"}, "report"},
		{"subscription", []string{"projectionProgress"}, "report"},
	} {
		if got := priorities[priority(graph.Operation{Kind: c.kind, Fields: c.fields})].Name; got != c.want {
			t.Errorf("%s %v: %s, not %s", c.kind, c.fields, got, c.want)
		}
	}
}
