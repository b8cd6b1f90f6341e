package model

import (
	"context"
	"time"

	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/internal/es"
)

// Projection is a read model and how far it has come.
type Projection struct {
	Name                string
	Version, Generation int
	PreviousGeneration  *int
	Rebuild             *ProjectionRebuild
	Status              ProjectionStatus
	Position            int64
	Lag                 int
	LagSeconds          float64
	WorkersWanted       int
	Partitions          []*ProjectionPartition
	// List finds out what is parked of it.
	List func(context.Context) ([]*ParkedEvent, error)
}

// Parked lists the events that were set aside. It is asked for only where it is selected.
func (p *Projection) Parked(ctx context.Context) ([]*ParkedEvent, error) { return p.List(ctx) }

// ProjectionRebuild is a build that is being made, and how far it has come.
type ProjectionRebuild struct {
	Generation               int
	Position, Target         int64
	Percent, EventsPerSecond float64
	RemainingSeconds         *float64
}

// ParkedEvent is an event that a read model goes on without.
type ParkedEvent struct {
	Position          int64
	Stream, Type      string
	Generation        int
	Store, Error      string
	Attempts, Waiting int
	Retrying          bool
	ParkedAt          time.Time
}

// ProjectionStatus is LIVE, REBUILDING, STOPPED or FAILED.
type ProjectionStatus string

// ProjectionPartition is how far one part of a read model has come.
type ProjectionPartition struct {
	Number        int
	Position      int64
	Lag           int
	LagSeconds    float64
	Worker, Error *string
	Parked        int
}

// EventConnection is a page of events.
type EventConnection struct {
	Nodes    []*es.Event
	PageInfo PageInfo
	// Cursor returns the cursor of a node.
	Cursor func(i int) string
}

// Edges returns the nodes with their cursors.
func (c *EventConnection) Edges() []*EventEdge {
	edges := make([]*EventEdge, len(c.Nodes))
	for i, node := range c.Nodes {
		edges[i] = &EventEdge{Cursor: c.Cursor(i), Node: node}
	}
	return edges
}

// EventEdge is an event in a list.
type EventEdge struct {
	Cursor string
	Node   *es.Event
}

// SalesGroup is DAY, MONTH, COUNTRY or SKU.
type SalesGroup string

// ProductSortKey is TITLE, CREATED_AT, PRICE or RELEVANCE.
type ProductSortKey string

// The keys that a list of products is sorted by where none is given.
const (
	SortTitle     ProductSortKey = "TITLE"
	SortRelevance ProductSortKey = "RELEVANCE"
)

// SalesRow is the sales of a key.
type SalesRow struct {
	Key            string
	Orders, Units  int
	Sold, Returned money.Money
}
