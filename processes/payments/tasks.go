package payments

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
	"github.com/millrace/millrace/internal/projector"
)

// process is the name under which attempts are recorded.
const process = "payments"

// task is a step that seems to be due.
type task struct {
	// name tells it from every other that was ever to be done.
	name  string
	order string
	step  Step
	lane  lane
	// attempt counts the tries, this one included.
	attempt int
}

// lane is a kind of work that must not wait for another kind: each has room of its own, and what fills one holds up no other.
type lane int

const (
	// fresh are authorisations tried for the first time.
	fresh lane = iota
	// unaided steps need no provider: deadlines are kept while the provider is down.
	unaided
	// settling are captures, voids and refunds tried for the first time.
	settling
	// retried tasks have failed before, and may block for long once more.
	retried
	lanes
)

// list is a place where the next step shows, looked at by itself.
type list struct {
	name  string
	lanes []lane
	// query returns tasks with their lanes, of each lane at most so many as $1 has at its place. Nothing in it may be claimed. $2 is
	// the grace, in seconds.
	query string
	// heard are the types of events behind which something may show.
	heard []string
	// rest is how many times as long as the last look nothing is looked for, so that looks take at most that share of the time.
	rest int
	// every is the least number of intervals between looks.
	every int
	// idle is the time between looks while nothing is heard and nothing found.
	idle time.Duration
}

// nextAt is when a task may be tried, null if it has not been yet. It is a subquery so that it is looked up by its key, whatever the
// planner believes of a table that changes all the time, and in the collation of the key, without which its index is of no use.
func nextAt(task string) string {
	return `(SELECT a.next_at FROM process_attempts a WHERE a.process = '` + process + `' AND a.task = (` + task + `) COLLATE "default")`
}

// lists are all places to look. New orders are the ones that come in crowds: they are read in the order of an index until there are enough,
// past those that are under way and those that the lists do not yet show as done. The others cost as much as there are orders that wait for their payment, and as
// there are payments that wait for their order to be sent.
var lists = []list{
	{
		name: "new orders", lanes: []lane{fresh}, every: 1, rest: 1, idle: 2 * time.Second,
		heard: []string{order.Placed{}.EventType()},
		query: `SELECT 'authorise ' || order_id, order_id, 'authorise', 0 FROM payments.orders o
			WHERE status = 'PENDING' AND (payment_due IS NULL OR payment_due > now()) AND $2::float8 IS NOT NULL
				AND ` + nextAt(`'authorise ' || o.order_id`) + ` IS NULL
				AND (SELECT p.status FROM payments.payments p WHERE p.order_id = o.order_id) IS NULL
			ORDER BY placed_at LIMIT ($1::bigint[])[1]`,
	},
	{
		name: "waiting orders", lanes: []lane{unaided, retried}, every: 2, rest: 10, idle: time.Second,
		query: dueQuery(`
			SELECT CASE WHEN payment_due <= now() THEN 'expire ' ELSE 'authorise ' END || order_id AS task, order_id,
				CASE WHEN payment_due <= now() THEN 'expire' ELSE 'authorise' END AS step, placed_at AS due
			FROM payments.orders o WHERE status = 'PENDING'
				AND (SELECT p.status FROM payments.payments p WHERE p.order_id = o.order_id) IS NULL`),
	},
	{
		name: "payments", lanes: []lane{settling, retried}, every: 5, rest: 20, idle: 10 * time.Second,
		heard: []string{order.Cancelled{}.EventType(), order.Fulfilled{}.EventType(), order.Returned{}.EventType(), payment.Captured{}.EventType()},
		query: dueQuery(`
			SELECT CASE o.status WHEN 'CANCELLED' THEN 'void ' ELSE 'capture ' END || o.order_id AS task, o.order_id,
				CASE o.status WHEN 'CANCELLED' THEN 'void' ELSE 'capture' END AS step, o.placed_at AS due
			FROM payments.payments p JOIN payments.orders o USING (order_id)
			WHERE p.status = 'AUTHORISED' AND o.status IN ('CANCELLED', 'FULFILLED')
			UNION ALL
			SELECT 'void ' || order_id, order_id, 'void', abandoned_at
			FROM payments.orders o WHERE abandoned_at BETWEEN now() - interval '30 days' AND now() - make_interval(secs => $2)
				AND NOT EXISTS (SELECT FROM payments.payments p WHERE p.order_id = o.order_id)
			UNION ALL
			SELECT 'refund ' || order_id || ' ' || returned, order_id, 'refund', o.placed_at
			FROM payments.orders o JOIN payments.payments p USING (order_id)
			WHERE o.returned > p.refunded AND o.returned > 0 AND p.status = 'CAPTURED'`),
	},
}

// dueQuery takes from a list what nobody has claimed, but for first authorisations, which are another list's. What is tried again takes turns, so that
// what fails for ever holds up nothing that would not.
func dueQuery(list string) string {
	return `WITH waiting AS MATERIALIZED (SELECT t.*, ` + nextAt(`t.task`) + ` AS next_at FROM (` + list + `) AS t),
		todo AS (
			SELECT task, order_id, step, due, next_at, CASE WHEN step = 'expire' THEN 1 WHEN next_at IS NULL THEN 2 ELSE 3 END AS lane
			FROM waiting WHERE next_at <= now() OR (next_at IS NULL AND step <> 'authorise')
		),
		ranked AS (SELECT *, row_number() OVER (PARTITION BY lane ORDER BY coalesce(next_at, due)) AS place FROM todo)
		SELECT task, order_id, step, lane FROM ranked WHERE place <= ($1::bigint[])[lane + 1] AND $2::float8 IS NOT NULL`
}

// find returns what seems to be due in a list, each lane up to the room that it has.
func (r *Runner) find(ctx context.Context, l *list, room [lanes]int) ([]task, error) {
	var found []task
	err := r.o.Models.Query(ctx, projector.Need{Projections: []string{"payments"}}, l.query, []any{room[:], r.o.Grace.Seconds()}, func(rows pgx.Rows) (err error) {
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t task, err error) {
			return t, row.Scan(&t.name, &t.order, &t.step, &t.lane)
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("payments: looking for what is due: %w", err)
	}
	return found, nil
}

// listTimeout bounds a change of the list of attempts, so that a database that does not answer is noticed.
const listTimeout = 5 * time.Second

// claim returns those of the tasks that nobody else has claimed meanwhile, with their attempts counted.
func (r *Runner) claim(ctx context.Context, found []task) ([]task, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	byName := make(map[string]task, len(found))
	names := make([]string, len(found))
	for i, t := range found {
		byName[t.name], names[i] = t, t.name
	}
	// Ordered, so that two processes that claim the same tasks wait for each other and do not deadlock.
	rows, err := r.o.Pool.Query(ctx, `
		INSERT INTO process_attempts (process, task, attempts, next_at)
		SELECT $1, task, 1, now() + $2 FROM unnest($3::text[]) AS task ORDER BY task
		ON CONFLICT (process, task) DO UPDATE SET attempts = process_attempts.attempts + 1, next_at = excluded.next_at
			WHERE process_attempts.next_at <= now()
		RETURNING task, attempts`, process, r.o.Lease, names)
	if err != nil {
		return nil, fmt.Errorf("payments: claiming tasks: %w", err)
	}
	var claimed []task
	var name string
	var attempts int
	_, err = pgx.ForEachRow(rows, []any{&name, &attempts}, func() error {
		t := byName[name]
		t.attempt = attempts
		claimed = append(claimed, t)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("payments: claiming tasks: %w", err)
	}
	return claimed, nil
}

// postpone has the task tried again after a while, never if parked is set.
func (r *Runner) postpone(ctx context.Context, t task, after time.Duration, parked bool, attempts int, reason string) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	_, err := r.o.Pool.Exec(ctx, `
		UPDATE process_attempts SET next_at = CASE WHEN $3 THEN 'infinity' ELSE now() + $4 END, attempts = $5, last_error = $6
		WHERE process = $1 AND task = $2`, process, t.name, parked, after, attempts, reason)
	if err != nil {
		return fmt.Errorf("payments: postponing %s: %w", t.name, err)
	}
	return nil
}

// tidy drops what is recorded of tasks that were done long ago: of those that are not, the next attempt is in the future.
func (r *Runner) tidy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	if _, err := r.o.Pool.Exec(ctx, `DELETE FROM process_attempts WHERE process = $1 AND next_at < now() - interval '1 hour'`, process); err != nil {
		return fmt.Errorf("payments: dropping old attempts: %w", err)
	}
	return r.countParked(ctx)
}

func (r *Runner) countParked(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	var n int
	err := r.o.Pool.QueryRow(ctx, `SELECT count(*) FROM process_attempts WHERE process = $1 AND next_at = 'infinity'`, process).Scan(&n)
	if err != nil {
		return fmt.Errorf("payments: counting parked tasks: %w", err)
	}
	r.o.Metrics.setParked(n)
	return nil
}
