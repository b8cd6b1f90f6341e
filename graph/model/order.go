package model

import (
	"context"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/order"
)

// Order is an order as its events have made it.
type Order struct {
	order.State
	// AsOf is the time at which the log is asked how it stood, zero for now.
	AsOf time.Time
}

// NewOrder returns the order with that state, nil if it does not exist.
func NewOrder(s *order.State) *Order {
	if s == nil || !s.Exists() {
		return nil
	}
	return &Order{State: *s}
}

// ID returns the order's global id.
func (o *Order) ID() string { return GlobalID(KindOrder, o.Number) }

// Subtotal returns the price of all lines. Nothing is added to it or taken off so far.
func (o *Order) Subtotal() money.Money { return o.Total }

// Parts returns what was bought.
func (o *Order) Parts() []*OrderLine {
	all := make([]*OrderLine, len(o.State.Lines))
	for i, l := range o.State.Lines {
		all[i] = &OrderLine{Line: l, Order: o.Number}
	}
	return all
}

// OrderLine is a line of an order.
type OrderLine struct {
	order.Line
	// Order is the number of the order.
	Order string
}

// ID returns the line's global id.
func (l *OrderLine) ID() string { return GlobalID(kindOrderLine, l.Order+":"+l.Line.ID) }

// Address is where goods are sent. What is empty is null.
type Address struct{ commands.Address }

// Line2 returns what the first line had no room for.
func (a *Address) Line2() *string { return filled(a.Address.Line2) }

// Postcode returns the postal code.
func (a *Address) Postcode() *string { return filled(a.Address.Postcode) }

func filled(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// OrderHistoryEntry is one thing that happened to an order.
type OrderHistoryEntry struct {
	Position int64
	At       time.Time
	Type     string
	Summary  string
}

// OrderConnection is a page of orders.
type OrderConnection struct {
	Nodes    []*Order
	PageInfo PageInfo
	// Cursor returns the cursor of a node.
	Cursor func(i int) string
	// Count finds out how many orders the whole list has.
	Count func(context.Context) (int, error)
}

// Edges returns the nodes with their cursors.
func (c *OrderConnection) Edges() []*OrderEdge {
	edges := make([]*OrderEdge, len(c.Nodes))
	for i, node := range c.Nodes {
		edges[i] = &OrderEdge{Cursor: c.Cursor(i), Node: node}
	}
	return edges
}

// OrderEdge is an order in a list.
type OrderEdge struct {
	Cursor string
	Node   *Order
}

// TotalCount returns how many orders the whole list has. It is asked for only where it is selected.
func (c *OrderConnection) TotalCount(ctx context.Context) (*int, error) { return counted(ctx, c.Count) }
