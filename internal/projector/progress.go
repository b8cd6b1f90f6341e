package projector

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"
)

// Progress is how far a rebuild has come.
type Progress struct {
	// Position is reached by every projection; Head is the end of the log as far as known.
	Position int64 `json:"position"`
	Head     int64 `json:"target"`
	// Rate is events a second, smoothed.
	Rate float64 `json:"eventsPerSecond"`
	// RemainingSeconds is an estimate of how long it takes; 0 at the end, and where it cannot be told.
	RemainingSeconds float64 `json:"remainingSeconds"`
}

// Percent is how much of the way is behind, 0 to 100; 100 where there is none.
func (p Progress) Percent() float64 {
	if p.Position >= p.Head {
		return 100
	}
	return 100 * float64(p.Position) / float64(p.Head)
}

const (
	// progressEvery is how often a rebuild reports its progress, and tellEvery how often it writes it down for others to see.
	progressEvery = 100 * time.Millisecond
	tellEvery     = 500 * time.Millisecond
)

// reported runs work and reports its progress meanwhile.
func (b *build) reported(ctx context.Context, work func(context.Context) error) error {
	var group errgroup.Group
	reporting, stop := context.WithCancel(ctx)
	group.Go(func() error {
		(&reporter{build: b, since: time.Now()}).run(reporting)
		return nil
	})
	err := work(ctx)
	stop()
	return errors.Join(err, group.Wait())
}

// reporter tells how far a rebuild has come while it runs.
type reporter struct {
	*build
	since, told time.Time
	last        int64
	rate        float64
}

func (r *reporter) run(ctx context.Context) {
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	previous := r.since
	for {
		select {
		case <-ctx.Done():
			r.report()
			return
		case now := <-ticker.C:
			position := r.position()
			measured := float64(position-r.last) / now.Sub(previous).Seconds()
			if r.rate == 0 {
				r.rate = measured
			}
			r.rate += (measured - r.rate) / 10
			r.last, previous = position, now
			p := r.report()
			if now.Sub(r.told) >= tellEvery {
				r.told = now
				r.tell(ctx, p)
			}
		}
	}
}

func (r *reporter) report() Progress {
	p := Progress{Position: r.position(), Head: r.head.Load(), Rate: r.rate}
	p.RemainingSeconds = remaining(p)
	if r.o.Progress != nil {
		r.o.Progress(p)
	}
	return p
}

// remaining estimates how many seconds it takes to the end, 0 where that cannot be told.
func remaining(p Progress) float64 {
	if p.Rate <= 0 || p.Position >= p.Head {
		return 0
	}
	return float64(p.Head-p.Position) / p.Rate
}

// tell writes the progress down for other processes. That it cannot is no reason to end a rebuild.
func (r *reporter) tell(ctx context.Context, p Progress) {
	names := slices.Sorted(maps.Keys(r.generations))
	numbers := make([]int, len(names))
	for i, name := range names {
		numbers[i] = r.generations[name]
	}
	_, err := r.o.Pool.Exec(ctx, `UPDATE projections p SET reached = $3, target = $4, rate = $5, told_at = now()
		FROM unnest($1::text[], $2::integer[]) AS own(name, generation)
		WHERE p.name = own.name AND p.generation = own.generation AND p.status = 'building' AND p.owner = $6`,
		names, numbers, p.Position, p.Head, p.Rate, r.owner)
	if err != nil && ctx.Err() == nil {
		r.o.Logger.DebugContext(ctx, "progress of a rebuild not written down", "error", err)
	}
}

// Rebuild is a generation that is being built.
type Rebuild struct {
	Generation int `json:"generation"`
	Progress
}

// buildingQuery has the generations that are being built, the latest of a projection last. What a rebuild fills is told by itself, as
// long as it lives, but for the end of the log before it knows that; what workers fill is seen by the checkpoints of the tables.
const buildingQuery = `SELECT p.name, p.generation, coalesce(CASE WHEN p.owner IS NULL THEN seen.reached ELSE p.reached END, 0),
	  CASE WHEN p.owner IS NULL OR coalesce(p.target, 0) = 0 THEN head.position ELSE p.target END,
	  coalesce(CASE WHEN p.owner IS NULL THEN seen.reached / greatest(extract(epoch FROM now() - p.created_at), 0.001) ELSE p.rate END, 0)::float8
	FROM unnest($1::text[], $2::integer[]) AS needed(name, version)
	JOIN projections p ON p.name = needed.name AND p.version = needed.version
	CROSS JOIN LATERAL (SELECT coalesce((SELECT position FROM events ORDER BY position DESC LIMIT 1), 0) AS position) AS head
	CROSS JOIN LATERAL (
	  SELECT avg(least(c.position, head.position))::bigint AS reached FROM checkpoints c
	  WHERE c.projection = p.name AND c.generation = p.generation AND c.store = 'postgres') AS seen
	WHERE p.status = 'building' AND (p.log_id, p.log_epoch) = ($3::uuid, $4)
	AND (p.owner IS NULL OR coalesce(p.told_at, p.created_at) > now() - interval '10 seconds')
	ORDER BY p.generation`
