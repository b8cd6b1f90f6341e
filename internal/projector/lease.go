package projector

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/es"
)

const (
	// leaseTick is how often a worker renews its leases and looks around.
	leaseTick = 250 * time.Millisecond
	// leaseTTL is how long a worker that has fallen silent keeps its partitions.
	leaseTTL = 2500 * time.Millisecond
)

// leases is one worker's view of who folds what. All times are the database's.
type leases struct {
	pool        *pgxpool.Pool
	worker      string
	info        es.Log
	projections []Projection
	takes       []string
	names       []string // with stores: see storesOf
	stores      []string
}

// survey is what a worker saw at a tick.
type survey struct {
	owned       map[string][]int    // by projection, what this worker holds
	workers     map[string][]string // by "<name>@<version>", the ids of the living workers in order
	free        map[string]int      // by projection, how many partitions nobody holds
	leases      map[string]int      // by projection, how many leases there are
	generations []generation
	told        map[runnerKey]map[int]told
}

// prepare makes rows for the leases of the projections.
func (l *leases) prepare(ctx context.Context) error {
	for _, p := range l.projections {
		if _, err := l.pool.Exec(ctx, `INSERT INTO leases (projection, version, partition)
			SELECT $1, $2, generate_series(0, $3::integer - 1) ON CONFLICT DO NOTHING`, p.Name, p.Version, l.info.Partitions); err != nil {
			return fmt.Errorf("projector: preparing the leases of %s: %w", p.Name, err)
		}
	}
	return nil
}

// renew shows that the worker lives, renews what it holds, and looks around, in one round trip.
func (l *leases) renew(ctx context.Context) (*survey, error) {
	s := &survey{owned: make(map[string][]int), workers: make(map[string][]string), free: make(map[string]int), leases: make(map[string]int)}
	b := &pgx.Batch{}
	b.Queue(`SELECT set_config('synchronous_commit', 'off', true)`) // nothing is lost that a tick does not bring back
	b.Queue(`INSERT INTO workers (id, projections) VALUES ($1, $2)
		ON CONFLICT (id) DO UPDATE SET projections = excluded.projections, seen_at = now()`, l.worker, l.takes)
	b.Queue(`DELETE FROM workers WHERE seen_at < now() - interval '1 minute'`)
	b.Queue(`UPDATE leases SET expires_at = now() + $2::interval WHERE worker = $1
		AND projection || '@' || version = ANY ($3) RETURNING projection, partition`, l.worker, leaseTTL, l.takes).
		Query(func(rows pgx.Rows) error {
			var name string
			var partition int
			_, err := pgx.ForEachRow(rows, []any{&name, &partition}, func() error {
				s.owned[name] = append(s.owned[name], partition)
				return nil
			})
			return err
		})
	b.Queue(`SELECT taken, id FROM workers, unnest(projections) AS taken
		WHERE seen_at > now() - $1::interval ORDER BY taken, id`, leaseTTL).
		Query(func(rows pgx.Rows) error {
			var taken, id string
			_, err := pgx.ForEachRow(rows, []any{&taken, &id}, func() error {
				s.workers[taken] = append(s.workers[taken], id)
				return nil
			})
			return err
		})
	b.Queue(`SELECT projection, count(*), count(*) FILTER (WHERE worker IS NULL OR expires_at < now()) FROM leases
		WHERE projection || '@' || version = ANY ($1) GROUP BY projection`, l.takes).
		Query(func(rows pgx.Rows) error {
			var name string
			var n, free int
			_, err := pgx.ForEachRow(rows, []any{&name, &n, &free}, func() error {
				s.leases[name], s.free[name] = n, free
				return nil
			})
			return err
		})
	b.Queue(fedGenerations, l.takes, l.info.ID, l.info.Epoch, l.names, l.stores).Query(func(rows pgx.Rows) (err error) {
		s.generations, err = pgx.CollectRows(rows, scanGeneration)
		return err
	})
	b.Queue(toldQuery, l.names).Query(func(rows pgx.Rows) (err error) {
		s.told, err = scanTold(rows)
		return err
	})
	if err := l.pool.SendBatch(ctx, b).Close(); err != nil {
		return nil, fmt.Errorf("projector: renewing leases: %w", err)
	}
	for _, owned := range s.owned {
		slices.Sort(owned)
	}
	return s, nil
}

// take leases up to n of a projection's free partitions.
func (l *leases) take(ctx context.Context, p *Projection, n int) ([]int, error) {
	rows, err := l.pool.Query(ctx, `UPDATE leases SET worker = $1, expires_at = now() + $2::interval
		WHERE projection = $3 AND version = $4 AND partition IN (
		  SELECT partition FROM leases
		  WHERE projection = $3 AND version = $4 AND (worker IS NULL OR expires_at < now())
		  ORDER BY partition LIMIT $5 FOR UPDATE SKIP LOCKED)
		RETURNING partition`, l.worker, leaseTTL, p.Name, p.Version, n)
	if err != nil {
		return nil, fmt.Errorf("projector: taking leases of %s: %w", p.Name, err)
	}
	taken, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("projector: taking leases of %s: %w", p.Name, err)
	}
	return taken, nil
}

// release frees partitions for others.
func (l *leases) release(ctx context.Context, p *Projection, partitions []int) error {
	if _, err := l.pool.Exec(ctx, `UPDATE leases SET worker = NULL, expires_at = now()
		WHERE worker = $1 AND projection = $2 AND version = $3 AND partition = ANY ($4::smallint[])`,
		l.worker, p.Name, p.Version, partitions); err != nil {
		return fmt.Errorf("projector: releasing leases of %s: %w", p.Name, err)
	}
	return nil
}

// leave frees everything and takes the worker off the list.
func (l *leases) leave(ctx context.Context) error {
	b := &pgx.Batch{}
	b.Queue(`UPDATE leases SET worker = NULL, expires_at = now() WHERE worker = $1`, l.worker)
	b.Queue(`DELETE FROM workers WHERE id = $1`, l.worker)
	if err := l.pool.SendBatch(ctx, b).Close(); err != nil {
		return fmt.Errorf("projector: handing over: %w", err)
	}
	return nil
}

// share returns how many partitions of a projection the worker is to have. What cannot be divided goes to workers in turn,
// beginning with another one for each projection, so that nobody has all the remainders.
func (s *survey) share(worker, taken string, partitions int) int {
	workers := s.workers[taken]
	place := slices.Index(workers, worker)
	if place < 0 {
		return 0
	}
	all := make([]string, 0, len(s.workers))
	for t := range s.workers {
		all = append(all, t)
	}
	slices.Sort(all)
	start := 0 // where the remainders of the projections before this one ended
	for _, t := range all {
		if t == taken {
			break
		}
		start += partitions % len(s.workers[t])
	}
	n := partitions / len(workers)
	if (place-start%len(workers)+len(workers))%len(workers) < partitions%len(workers) {
		n++
	}
	return n
}
