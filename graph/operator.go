package graph

import (
	"context"
	"errors"
	"math"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/millrace/millrace/domain/rule"
	"github.com/millrace/millrace/graph/model"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
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
	return r.projections(ctx)
}

func (r *resolver) projections(ctx context.Context) ([]*model.Projection, error) {
	statuses, err := r.Deps.Projections.Status(ctx)
	if err != nil {
		return nil, err
	}
	// One read for all of them, and none where it is not selected.
	parked := sync.OnceValues(func() ([]projector.ParkedEvent, error) { return r.Deps.Projections.Parked(ctx) })
	all := make([]*model.Projection, len(statuses))
	for i := range statuses {
		all[i] = projection(&statuses[i], parked)
	}
	return all, nil
}

// projection shows a status. What is parked is read where it is selected.
func projection(s *projector.Status, parked func() ([]projector.ParkedEvent, error)) *model.Projection {
	p := &model.Projection{
		Name: s.Name, Version: s.Version, Generation: s.Generation, Rebuild: rebuild(s.Rebuild),
		Status: model.ProjectionStatus(s.State), Position: s.Position,
		Lag: int(min(s.Lag, math.MaxInt32)), LagSeconds: s.LagSeconds, WorkersWanted: s.WorkersWanted,
		Partitions: make([]*model.ProjectionPartition, len(s.Partitions)),
		List:       func(context.Context) ([]*model.ParkedEvent, error) { return parkedOf(s.Name, parked) },
	}
	if s.Previous > 0 {
		p.PreviousGeneration = &s.Previous
	}
	for j, part := range s.Partitions {
		p.Partitions[j] = &model.ProjectionPartition{
			Number: part.Number, Position: part.Position, Lag: int(min(part.Lag, math.MaxInt32)), LagSeconds: part.LagSeconds,
			Worker: orNull(part.Worker), Error: orNull(part.Error), Parked: part.Parked,
		}
	}
	return p
}

func rebuild(r *projector.Rebuild) *model.ProjectionRebuild {
	if r == nil {
		return nil
	}
	shown := &model.ProjectionRebuild{
		Generation: r.Generation, Position: r.Position, Target: r.Head, Percent: r.Percent(), EventsPerSecond: r.Rate,
	}
	if r.RemainingSeconds > 0 || r.Position >= r.Head {
		shown.RemainingSeconds = &r.RemainingSeconds
	}
	return shown
}

// mostParked bounds the list of a projection's parked events.
const mostParked = 100

func parkedOf(projection string, read func() ([]projector.ParkedEvent, error)) ([]*model.ParkedEvent, error) {
	found, err := read()
	if err != nil {
		return nil, err
	}
	list := []*model.ParkedEvent{}
	for _, e := range found {
		if e.Projection == projection && len(list) < mostParked {
			list = append(list, &model.ParkedEvent{
				Position: e.Position, Stream: e.Stream, Type: e.Type, Generation: e.Generation, Store: e.Store, Error: e.Error,
				Attempts: e.Attempts, Waiting: int(min(e.Waiting, math.MaxInt32)), Retrying: e.Retrying, ParkedAt: e.ParkedAt,
			})
		}
	}
	return list, nil
}

// ParkProjectionEvent sets an event aside that a read model stands still at.
func (r mutationResolver) ParkProjectionEvent(ctx context.Context, in model.ParkProjectionEventInput) (*model.ProjectionPayload, error) {
	return r.operate(ctx, in.Projection, in.Position, r.Deps.Projections.Park)
}

// RetryProjectionEvent has an event tried again.
func (r mutationResolver) RetryProjectionEvent(ctx context.Context, in model.RetryProjectionEventInput) (*model.ProjectionPayload, error) {
	return r.operate(ctx, in.Projection, in.Position, r.Deps.Projections.Retry)
}

// operate lets staff do something about an event that a read model cannot apply, and shows the model.
func (r *resolver) operate(
	ctx context.Context, projection string, position int64, do func(context.Context, string, int64) error,
) (*model.ProjectionPayload, error) {
	if err := staffOnly(ctx); err != nil {
		return nil, err
	}
	err := do(ctx, projection, position)
	if mistake, ok := errors.AsType[*projector.OperatorError](err); ok {
		broken := rule.New(rule.NotAllowed, "%s", mistake.Message).At("input", "position")
		if mistake.NoProjection {
			broken = rule.New(rule.NotFound, "%s", mistake.Message).At("input", "projection")
		}
		return &model.ProjectionPayload{UserErrors: []*rule.Error{broken}}, nil
	}
	if err != nil {
		return nil, err
	}
	all, err := r.projections(ctx)
	if err != nil {
		return nil, err
	}
	payload := &model.ProjectionPayload{UserErrors: []*rule.Error{}}
	for _, p := range all {
		if p.Name == projection {
			payload.Projection = p
		}
	}
	return payload, nil
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
		page.Rows = append(page.Rows, paging.Row[es.Event]{Cursor: func() string { return scope + " " + strconv.FormatInt(place, 10) }, Value: e})
	}
	list := &model.EventConnection{
		PageInfo: pageInfo(page), Nodes: make([]*es.Event, len(page.Rows)), Cursor: cursors(page),
	}
	for i, row := range page.Rows {
		announceSealed(ctx, row.Value)
		list.Nodes[i] = row.Value
	}
	return list, nil
}
