package projector

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/es"
)

// switchOver makes a generation of a projection live that is not far from the end of the log. While the live one's
// checkpoints are locked it stands still, the other is folded to the end of the log and checked, and so is never behind what
// readers have seen. A server that undoes it, because of a deadlock for instance, is tried again.
func (b *build) switchOver(ctx context.Context, p *Projection) error {
	number := b.generations[p.Name]
	pause := backoff{}
	head, err := b.switchOnce(ctx, p, number)
	for serverAtFault(sqlState(err)) && pause.attempts < rebuildAttempts && ctx.Err() == nil {
		b.o.Logger.WarnContext(ctx, "switching to another generation failed; trying again", "projection", p.Name, "error", err)
		pause.pause(ctx)
		head, err = b.switchOnce(ctx, p, number)
	}
	if err != nil {
		return fmt.Errorf("projector: switching %s to generation %d: %w", p.Name, number, err)
	}
	b.switched[p.Name] = true
	b.o.Logger.InfoContext(ctx, "readers see another generation", "projection", p.Name, "generation", number, "position", head)
	return nil
}

// switchOnce is one attempt at switchOver; it returns the end of the log to which the generation was folded.
func (b *build) switchOnce(ctx context.Context, p *Projection, number int) (head int64, err error) {
	err = pgx.BeginFunc(ctx, b.conn, func(tx pgx.Tx) error {
		if err := lockGenerations(ctx, tx, b.o.Info, p.Name); err != nil {
			return err
		}
		// Those of Redis are only remembered: locking them too would get in the way of who remembers.
		if _, err := tx.Exec(ctx, `SELECT FROM checkpoints c JOIN projections o ON o.name = c.projection AND o.generation = c.generation
			WHERE o.name = $1 AND o.version = $2 AND o.status = 'live' AND c.store = 'postgres'
			ORDER BY c.generation, c.partition FOR UPDATE OF c`, p.Name, p.Version); err != nil {
			return err
		}
		var err error
		if head, err = b.log.Head(ctx); err != nil {
			return err
		}
		sinks := b.sinksOf(p)
		b.gate.free.Store(true) // readers wait
		defer b.gate.free.Store(false)
		if err := whileLocked(ctx, tx, func(ctx context.Context) error {
			return b.rebuilder.fold(ctx, sinks, b.reachedBy(sinks, head), head)
		}); err != nil {
			return err
		}
		if err := b.check(ctx, sinks, head); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, `UPDATE checkpoints SET position = $3
			WHERE projection = $1 AND generation = $2 AND store = 'redis' AND position < $3`, p.Name, number, head); err != nil {
			return err
		}
		var behind int
		if err := tx.QueryRow(ctx, `SELECT count(*) FROM checkpoints n JOIN checkpoints c USING (projection, store, partition)
			JOIN projections o ON o.name = c.projection AND o.generation = c.generation AND o.version = $3 AND o.status = 'live'
			WHERE n.projection = $1 AND n.generation = $2 AND n.store = 'postgres' AND n.position < c.position`,
			p.Name, number, p.Version).Scan(&behind); err != nil {
			return err
		}
		if behind > 0 {
			return fmt.Errorf("the live generation is ahead of the log in %d partitions", behind)
		}
		if err := listParked(ctx, tx, parkedIn(sinks)); err != nil {
			return err
		}
		// The live one is kept. What was kept before, and what workers have been building, is needed no more.
		if _, err := tx.Exec(ctx, `UPDATE projections SET status = CASE status WHEN 'live' THEN 'previous' ELSE 'dropped' END, switched_at = now()
			WHERE name = $1 AND version = $2 AND (log_id, log_epoch) = ($3::uuid, $4) AND generation <> $5 AND `+isFed,
			p.Name, p.Version, b.o.Info.ID, b.o.Info.Epoch, number); err != nil {
			return err
		}
		// What this one could apply and that one could not is tried there again.
		if _, err := tx.Exec(ctx, `UPDATE parked_events k SET retry_asked = true FROM projections p
			WHERE p.name = $1 AND p.version = $2 AND p.status = 'previous' AND k.projection = p.name AND k.generation = p.generation
			AND NOT EXISTS (SELECT FROM parked_events n WHERE n.projection = $1 AND n.generation = $3 AND n.store = k.store AND n.stream = k.stream)`,
			p.Name, p.Version, number); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `UPDATE projections SET status = 'live', owner = NULL, switched_at = now()
			WHERE name = $1 AND generation = $2`, p.Name, number)
		return err
	})
	return head, err
}

// approach folds, before the live generation stands still for it, what has come since the others were folded or switched to. The switch
// drops the generation before the live one: it comes when all readers have heard of the live one.
func (b *build) approach(ctx context.Context, p *Projection) error {
	var age float64 // seconds
	err := b.o.Pool.QueryRow(ctx, `SELECT coalesce(max(extract(epoch FROM now() - switched_at)), $3)::double precision FROM projections
		WHERE name = $1 AND version = $2 AND status = 'live'`, p.Name, p.Version, heardWithin.Seconds()).Scan(&age)
	if err != nil {
		return fmt.Errorf("projector: looking for the live generation of %s: %w", p.Name, err)
	}
	timer := time.NewTimer(heardWithin - time.Duration(age*float64(time.Second)))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	head, err := b.log.Head(ctx)
	if err != nil {
		return err
	}
	sinks := b.sinksOf(p)
	return b.rebuilder.fold(ctx, sinks, b.reachedBy(sinks, head), head)
}

// heardWithin is the time within which readers that can reach the primary hear of a switch.
const heardWithin = 3 * refreshEvery

// reachedBy is the position at or below head up to which the sinks have folded everything and this rebuild has read it: workers feed
// a generation that is gone back to as well, and may be ahead.
func (b *build) reachedBy(sinks []*sink, head int64) int64 {
	head = min(head, b.unbroken.position)
	for _, s := range sinks {
		head = min(head, slices.Min(s.checkpoints))
	}
	return head
}

// lockedSign is how often the server hears that the process is well: see lockedSilence.
const lockedSign = time.Second

// whileLocked does something that may take long while a transaction holds a lock of lockProjection.
func whileLocked(ctx context.Context, tx pgx.Tx, do func(ctx context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	done := make(chan struct{})
	group.Go(func() error {
		sign := time.NewTicker(lockedSign)
		defer sign.Stop()
		for {
			select {
			case <-done:
				return nil
			case <-sign.C:
			}
			if _, err := tx.Exec(ctx, `SELECT`); err != nil {
				return err
			}
		}
	})
	group.Go(func() error {
		defer close(done)
		return do(ctx)
	})
	return group.Wait()
}

// check makes sure, before readers see a generation, that its stores have come to where they were folded to: what a store
// has lost since is noticed now, and not by readers.
func (b *build) check(ctx context.Context, sinks []*sink, head int64) error {
	for _, s := range sinks {
		marks, err := s.store.load(ctx, everyPartition(b.o.Info.Partitions))
		if err != nil {
			return err
		}
		for n, m := range marks {
			if m.position < head {
				return fmt.Errorf("%s has lost what was written: partition %d is at %d, and was folded to %d", s.store.name(), n, m.position, head)
			}
		}
	}
	return nil
}

// everyPartition lists the numbers of n partitions.
func everyPartition(n int) []int {
	partitions := make([]int, n)
	for i := range partitions {
		partitions[i] = i
	}
	return partitions
}

// dropOld drops the generations of a projection that match a condition. Its arguments are those that follow, from $2 on.
func dropOld(
	ctx context.Context, pool *pgxpool.Pool, client redis.UniversalClient, info es.Log, p *Projection, condition string, args ...any,
) error {
	rows, err := pool.Query(ctx, `SELECT generation, status, log_id::text, log_epoch FROM projections p WHERE name = $1 AND (`+condition+`)`,
		slices.Insert(args, 0, any(p.Name))...)
	if err != nil {
		return fmt.Errorf("projector: looking for old generations of %s: %w", p.Name, err)
	}
	olds, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (o oldGeneration, err error) {
		o.info.Partitions = info.Partitions
		return o, row.Scan(&o.number, &o.status, &o.info.ID, &o.info.Epoch)
	})
	if err != nil {
		return fmt.Errorf("projector: looking for old generations of %s: %w", p.Name, err)
	}
	for _, o := range olds {
		if err := dropGeneration(ctx, pool, client, p.Name, o); err != nil {
			return err
		}
	}
	return nil
}

const (
	// isLeftOver is whether the generation p is one that a rebuild has left that was killed (whose lock is ours now), or one
	// that was dropped and is not gone.
	isLeftOver = `status = 'building' AND owner IS NOT NULL OR status = 'dropped'
		AND (EXISTS (SELECT FROM checkpoints c WHERE c.projection = p.name AND c.generation = p.generation)
		  OR to_regnamespace(p.name || '_' || p.generation) IS NOT NULL)`
	// isOutdated is whether the generation p is of a version before $2 that no worker feeds any more. The version before stays: its apis
	// may read yet, and the way back to it is short.
	isOutdated = `version < (SELECT max(f.version) FROM projections f WHERE f.name = p.name AND f.version < $2 AND f.status = 'live') AND owner IS NULL AND status IN ('live', 'previous') AND NOT EXISTS (SELECT FROM workers w
		WHERE p.name || '@' || p.version = ANY (w.projections) AND w.seen_at > now() - interval '1 minute')`
)
