package projector

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
)

// ErrNoPrevious says that a projection has no generation to go back to.
var ErrNoPrevious = errors.New("there is no generation before the live one")

// Rollback has readers see the generation of each projection again that they saw before the last [Replay], in one step
// and as it would be had they never left it: workers go on feeding it, and what it lacks is folded first. The live one takes its
// place, so that another Rollback goes forward again. It returns an error wrapping [ErrNoPrevious] before anything has changed
// if one of the projections has none, [ErrReplaying] if a rebuild is under way, and one that names the event if the previous
// generation stands still at one that it cannot apply.
func Rollback(ctx context.Context, o ReplayOptions) (Result, error) {
	began := time.Now()
	if err := validateAll(o.Projections); err != nil {
		return Result{}, err
	}
	b, err := openBuild(ctx, o)
	if err != nil {
		return Result{}, err
	}
	if err := b.findPrevious(ctx); err != nil {
		return Result{}, errors.Join(err, b.end(ctx, false))
	}
	err = b.reported(ctx, func(ctx context.Context) error {
		if err := b.goBack(ctx); err != nil {
			return err
		}
		for i := range o.Projections {
			if err := b.switchOver(ctx, &o.Projections[i]); err != nil {
				return err
			}
		}
		return nil
	})
	result := Result{Events: b.events.Load(), Elapsed: time.Since(began), Generations: b.generations}
	return result, errors.Join(err, b.end(ctx, false))
}

// findPrevious finds the previous generations.
func (b *build) findPrevious(ctx context.Context) error {
	for i := range b.o.Projections {
		p := &b.o.Projections[i]
		number, err := b.previous(ctx, p)
		if err != nil {
			return err
		}
		b.generations[p.Name] = number
		if p.Postgres != nil {
			b.resumeWith(p, number, newPostgresStore(b.o.Pool, p, number, b.o.Info.Partitions, func() {}))
		}
		if p.Redis != nil {
			b.resumeWith(p, number, newRedisStore(b.o.Redis, p, number, b.o.Info))
		}
	}
	return nil
}

// goBack folds what the previous generations lack.
func (b *build) goBack(ctx context.Context) error {
	head, err := b.log.Head(ctx)
	if err != nil {
		return err
	}
	for _, s := range b.sinks {
		if err := s.resume(ctx, s.store); err != nil {
			return err
		}
	}
	b.folded = head
	for _, s := range b.sinks {
		reached := min(head, slices.Min(s.checkpoints))
		s.position.Store(reached)
		b.folded = min(b.folded, reached)
	}
	if err := b.rebuilder.fold(ctx, b.sinks, b.folded, head); err != nil {
		return err
	}
	b.folded = head
	return nil
}

func (b *build) resumeWith(p *Projection, number int, s store) {
	b.sinks = append(b.sinks, newSink(&b.o, p, number, prompt{s}, everyPartition(b.o.Info.Partitions)))
}

// previous returns the generation of a projection that readers saw before the live one.
func (b *build) previous(ctx context.Context, p *Projection) (number int, err error) {
	err = b.o.Pool.QueryRow(ctx, `SELECT generation FROM projections WHERE name = $1 AND version = $2 AND status = 'previous'
		AND (log_id, log_epoch) = ($3::uuid, $4) ORDER BY switched_at DESC LIMIT 1`,
		p.Name, p.Version, b.o.Info.ID, b.o.Info.Epoch).Scan(&number)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("projector: %s: %w", p.Name, ErrNoPrevious)
	}
	if err != nil {
		return 0, fmt.Errorf("projector: looking for the previous generation of %s: %w", p.Name, err)
	}
	return number, nil
}

// prompt is a store that writes at once: its generation has workers too, and whoever is first has done it.
type prompt struct{ store }

func (s prompt) apply(ctx context.Context, moves []move, events []es.Event, _ bool) error {
	return s.store.apply(ctx, moves, events, false)
}
func (prompt) flush(context.Context) error { return nil }
func (prompt) discard(context.Context)     {}
func (s prompt) direct() store             { return s.store }
