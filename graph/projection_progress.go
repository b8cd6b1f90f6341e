package graph

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/graph/model"
	"github.com/millrace/millrace/internal/projector"
)

// ProjectionProgress gives staff a read model as it is, and again when something about it has changed.
func (r subscriptionResolver) ProjectionProgress(ctx context.Context, name string) (<-chan *model.Projection, error) {
	if err := staffOnly(ctx); err != nil {
		return nil, err
	}
	l, err := r.statuses.follow()
	if err != nil {
		return nil, err
	}
	first := l.behind(ctx, nil)
	switch {
	case first == nil:
		err = ctx.Err()
	case first.err != nil:
		err = first.err
	case first.of(name) == nil:
		err = first.unknown(name)
	}
	if err != nil {
		l.leave()
		return nil, err
	}
	return publish(ctx, r.resolver, l.leave, func(values chan<- *model.Projection) error {
		return l.show(ctx, name, first, values)
	}), nil
}

// show gives the states of a read model that differ from the one before, until the subscription ends. It returns an error when they
// could not be found out for too long.
func (l *lookout) show(ctx context.Context, name string, seen *sight, values chan<- *model.Projection) error {
	var last *projector.Status
	lastSeen := time.Now()
	for ; seen != nil; seen = l.behind(ctx, seen) {
		switch now := seen.of(name); {
		case seen.err != nil && time.Since(lastSeen) > patience:
			return seen.err
		case seen.err != nil:
		case now == nil:
			return seen.unknown(name)
		default:
			lastSeen = time.Now()
			if last != nil && reflect.DeepEqual(last, now) {
				break
			}
			if !give(ctx, values, projection(now, seen.parked)) {
				return nil
			}
			last = now
		}
	}
	return nil
}

// of returns the status of a read model, nil if there is none of that name.
func (s *sight) of(name string) *projector.Status {
	at := slices.IndexFunc(s.statuses, func(p projector.Status) bool { return p.Name == name })
	if at < 0 {
		return nil
	}
	return &s.statuses[at]
}

func (s *sight) unknown(name string) error {
	names := make([]string, len(s.statuses))
	for i := range s.statuses {
		names[i] = s.statuses[i].Name
	}
	return problem(BadUserInput, "there is no read model %q; there are %s", name, strings.Join(names, ", "))
}
