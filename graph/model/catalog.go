package model

import (
	"time"

	"context"

	"github.com/millrace/millrace/domain/catalog"
)

// Product is a product as its events have made it.
type Product struct {
	catalog.State
	// AsOf is the time at which the log is asked how it stood, zero for now.
	AsOf time.Time
}

// NewProduct returns the product with that state, nil if it does not exist.
func NewProduct(s *catalog.State) *Product {
	if s == nil || !s.Exists() {
		return nil
	}
	return &Product{State: *s}
}

// ID returns the product's global id.
func (p *Product) ID() string { return GlobalID(KindProduct, p.State.ID) }

// Variants returns what can be bought of the product.
func (p *Product) Variants() []*Variant {
	all := make([]*Variant, len(p.State.Variants))
	for i, v := range p.State.Variants {
		all[i] = &Variant{Variant: v, Product: p}
	}
	return all
}

// Variant returns the variant with that SKU, nil if the product has none.
func (p *Product) Variant(sku string) *Variant {
	v, ok := p.State.Variant(sku)
	if !ok {
		return nil
	}
	return &Variant{Variant: v, Product: p}
}

// Variant is one of a product's variants.
type Variant struct {
	catalog.Variant
	Product *Product
	// Available, if set, is known better than the read model knows it: from the decision that was just taken or
	// from the event that was just seen.
	Available *int
}

// ID returns the variant's global id.
func (v *Variant) ID() string { return GlobalID(KindVariant, v.SKU) }

// Title returns the variant's own title, or else its product's.
func (v *Variant) Title() string {
	if v.Variant.Title == "" {
		return v.Product.Title
	}
	return v.Variant.Title
}

// PageInfo says where a page lies in its list.
type PageInfo struct {
	HasNextPage, HasPreviousPage bool
	StartCursor, EndCursor       *string
}

// ProductConnection is a page of products.
type ProductConnection struct {
	Nodes    []*Product
	PageInfo PageInfo
	// Cursor returns the cursor of a node.
	Cursor func(i int) string
	// Count finds out how many products the whole list has.
	Count func(context.Context) (int, error)
}

// Edges returns the nodes with their cursors.
func (c *ProductConnection) Edges() []*ProductEdge {
	edges := make([]*ProductEdge, len(c.Nodes))
	for i, node := range c.Nodes {
		edges[i] = &ProductEdge{Cursor: c.Cursor(i), Node: node}
	}
	return edges
}

// ProductEdge is a product in a list.
type ProductEdge struct {
	Cursor string
	Node   *Product
}

// TotalCount returns how many products the whole list has. It is asked for only where it is selected.
func (c *ProductConnection) TotalCount(ctx context.Context) (*int, error) {
	return counted(ctx, c.Count)
}

func counted(ctx context.Context, count func(context.Context) (int, error)) (*int, error) {
	n, err := count(ctx)
	if err != nil {
		return nil, err
	}
	return &n, nil
}
