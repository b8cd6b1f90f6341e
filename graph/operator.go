package graph

import (
	"context"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/millrace/millrace/graph/model"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/projections/paging"
)

// SalesReport sums sales for staff.
func (r queryResolver) SalesReport(ctx context.Context, from, to time.Time, groupBy model.SalesGroup) ([]*model.SalesRow, error) {
	if err := staffOnly(ctx); err != nil {
		return nil, err
	}
	if to.Before(from) {
		return nil, problem(BadUserInput, "to is before from")
	}
	found, err := r.Sales.Report(ctx, from, to, string(groupBy))
	if err != nil {
		return nil, err
	}
	rows := make([]*model.SalesRow, len(found))
	for i, row := range found {
		rows[i] = &model.SalesRow{Key: row.Key, Orders: row.Orders, Units: row.Units, Sold: row.Sold, Returned: row.Returned}
	}
	return rows, nil
}

// Projections tells staff how far the read models have come.
func (r queryResolver) Projections(ctx context.Context) ([]*model.Projection, error) {
	if err := staffOnly(ctx); err != nil {
		return nil, err
	}
	statuses, err := r.Deps.Projections.Status(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]*model.Projection, len(statuses))
	for i, s := range statuses {
		p := &model.Projection{
			Name: s.Name, Generation: s.Generation, Status: model.ProjectionStatus(s.State), Position: s.Position,
			Lag: int(min(s.Lag, math.MaxInt32)), Partitions: make([]*model.ProjectionPartition, len(s.Partitions)),
		}
		for j, part := range s.Partitions {
			p.Partitions[j] = &model.ProjectionPartition{
				Number: part.Number, Position: part.Position, Worker: orNull(part.Worker), Error: orNull(part.Error),
			}
		}
		all[i] = p
	}
	return all, nil
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// Events shows staff the log, or one stream of it.
func (r queryResolver) Events(ctx context.Context, stream *string, first *int, after *string) (*model.EventConnection, error) {
	if err := staffOnly(ctx); err != nil {
		return nil, err
	}
	w, _, err := window(first, after, nil, nil, defaultEvents)
	if err != nil {
		return nil, err
	}
	scope := "log"
	if stream != nil {
		scope = "stream"
		if !model.Plain(*stream) {
			return nil, problem(BadUserInput, "stream holds a control character")
		}
	}
	var behind int64
	if w.After != "" {
		text, ok := strings.CutPrefix(w.After, scope+" ")
		if behind, err = strconv.ParseInt(text, 10, 64); err != nil || !ok || behind < 0 {
			return nil, problem(BadUserInput, "after is not a cursor of this list")
		}
	}
	var events []es.Event
	if stream != nil {
		events, err = r.Log.ReadStream(ctx, *stream, behind, w.First+1)
	} else {
		events, err = r.Log.ReadAll(ctx, behind, w.First+1)
	}
	if err != nil {
		return nil, err
	}
	page := paging.Page[es.Event]{HasPrevious: behind > 0, HasNext: len(events) > w.First}
	for i := range events[:min(w.First, len(events))] {
		e := &events[i]
		place := e.Position
		if stream != nil {
			place = e.Version
		}
		page.Rows = append(page.Rows, paging.Row[es.Event]{Cursor: scope + " " + strconv.FormatInt(place, 10), Value: e})
	}
	list := &model.EventConnection{
		PageInfo: pageInfo(page), Edges: make([]*model.EventEdge, len(page.Rows)), Nodes: make([]*es.Event, len(page.Rows)),
	}
	for i, row := range page.Rows {
		announceSealed(ctx, row.Value)
		list.Nodes[i] = row.Value
		list.Edges[i] = &model.EventEdge{Cursor: sealCursor(row.Cursor), Node: row.Value}
	}
	return list, nil
}
