package projector

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/es"
)

const (
	// leaseTick is how often a worker renews its leases, and then looks around.
	leaseTick = 250 * time.Millisecond
	// leaseTTL is how long a worker that has fallen silent keeps its partitions: eight beats.
	leaseTTL = 2 * time.Second
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
	free        map[string]int      // by projection, how many partitions can be taken
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

// isFree is whether nobody holds a lease. Its argument 2 says whether one that has run out counts: see heartbeat.steady.
const isFree = `(worker IS NULL OR $2 AND expires_at < now())`

// look looks around, in one round trip.
func (l *leases) look(ctx context.Context, steady bool) (*survey, error) {
	s := &survey{owned: make(map[string][]int), workers: make(map[string][]string), free: make(map[string]int), leases: make(map[string]int)}
	b := &pgx.Batch{}
	b.Queue(`SELECT projection, partition FROM leases WHERE worker = $1 AND projection || '@' || version = ANY ($2)
		ORDER BY projection, partition`, l.worker, l.takes).
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
	b.Queue(`SELECT projection, count(*), count(*) FILTER (WHERE `+isFree+`) FROM leases
		WHERE projection || '@' || version = ANY ($1) GROUP BY projection`, l.takes, steady).
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
		return nil, fmt.Errorf("projector: looking at leases: %w", err)
	}
	return s, nil
}

// take leases up to n of a projection's free partitions.
func (l *leases) take(ctx context.Context, p *Projection, n int, steady bool) ([]int, error) {
	rows, err := l.pool.Query(ctx, `UPDATE leases SET worker = $1, expires_at = now() + $3::interval
		WHERE projection = $4 AND version = $5 AND partition IN (
		  SELECT partition FROM leases WHERE projection = $4 AND version = $5 AND `+isFree+`
		  ORDER BY partition LIMIT $6 FOR UPDATE SKIP LOCKED)
		RETURNING partition`, l.worker, steady, leaseTTL, p.Name, p.Version, n)
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

// allot returns how many partitions of each projection, named as in takes, a worker is to have. All workers come to the same
// result: the partitions of a projection are divided among those who take it, and what cannot be divided goes to
// those who have the least so far, so that nobody has all the remainders.
func allot(worker string, workers map[string][]string, partitions int) map[string]int {
	shares, totals := make(map[string]int), make(map[string]int)
	byFewest := func(a, b string) int { return cmp.Or(cmp.Compare(len(workers[a]), len(workers[b])), cmp.Compare(a, b)) }
	for _, taken := range slices.SortedFunc(maps.Keys(workers), byFewest) { // who has no choice comes first
		ids := slices.Clone(workers[taken])
		slices.SortFunc(ids, func(a, b string) int { return cmp.Or(cmp.Compare(totals[a], totals[b]), cmp.Compare(a, b)) })
		for place, id := range ids {
			n := partitions / len(ids)
			if place < partitions%len(ids) {
				n++
			}
			totals[id] += n
			if id == worker {
				shares[taken] = n
			}
		}
	}
	return shares
}
