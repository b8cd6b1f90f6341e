package payments

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

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
	// attempt counts the tries, this one included.
	attempt int
}

// lane is a kind of work that must not wait for another kind.
type lane int

const (
	// unaided steps need no provider: deadlines are kept while the provider is down.
	unaided lane = iota
	// fresh tasks are tried for the first time.
	fresh
	// retried tasks have failed before, and may block for long once more.
	retried
	lanes
)

// The lists where the next step shows. What needs attention at once is asked for often and costs as much as there are
// orders that wait for their payment; the rest is asked for less often.
const (
	urgent = `
		SELECT 'authorise ' || order_id AS task, order_id, 'authorise' AS step, placed_at AS due
		FROM payments.orders o WHERE status = 'PENDING' AND (payment_due IS NULL OR payment_due > now())
			AND NOT EXISTS (SELECT FROM payments.payments p WHERE p.order_id = o.order_id)
		UNION ALL
		SELECT 'expire ' || order_id, order_id, 'expire', payment_due
		FROM payments.orders o WHERE status = 'PENDING' AND payment_due <= now()
			AND NOT EXISTS (SELECT FROM payments.payments p WHERE p.order_id = o.order_id)`
	unhurried = `
		SELECT CASE o.status WHEN 'CANCELLED' THEN 'void ' ELSE 'capture ' END || o.order_id AS task, o.order_id,
			CASE o.status WHEN 'CANCELLED' THEN 'void' ELSE 'capture' END AS step, o.placed_at AS due
		FROM payments.payments p JOIN payments.orders o USING (order_id)
		WHERE p.status = 'AUTHORISED' AND o.status IN ('CANCELLED', 'FULFILLED')
		UNION ALL
		SELECT 'void ' || order_id, order_id, 'void', abandoned_at
		FROM payments.orders o WHERE abandoned_at BETWEEN now() - interval '30 days' AND now() - make_interval(secs => $4)
			AND NOT EXISTS (SELECT FROM payments.payments p WHERE p.order_id = o.order_id)
		UNION ALL
		SELECT 'refund ' || order_id || ' ' || returned, order_id, 'refund', o.placed_at
		FROM payments.orders o JOIN payments.payments p USING (order_id)
		WHERE o.returned > p.refunded AND o.returned > 0 AND p.status = 'CAPTURED'`
)

// dueQuery takes from a list what nobody has claimed, each lane up to its limit ($1, $2, $3).
func dueQuery(list string) string {
	return `WITH todo AS MATERIALIZED (
			SELECT t.*, a.task IS NOT NULL AS tried FROM (` + list + `) AS t
			LEFT JOIN process_attempts a ON a.process = '` + process + `' AND a.task = t.task
			WHERE a.task IS NULL OR a.next_at <= now()
		)
		(SELECT task, order_id, step FROM todo WHERE step = 'expire' ORDER BY due LIMIT $1)
		UNION ALL
		(SELECT task, order_id, step FROM todo WHERE step <> 'expire' AND NOT tried ORDER BY due LIMIT $2)
		UNION ALL
		(SELECT task, order_id, step FROM todo WHERE step <> 'expire' AND tried ORDER BY due LIMIT $3)`
}

var urgentQuery, unhurriedQuery = dueQuery(urgent), dueQuery(unhurried)

// find returns what seems to be due in a list, each lane up to the room that it has.
func (r *Runner) find(ctx context.Context, query string, room [lanes]int) ([]task, error) {
	args := []any{room[unaided], room[fresh], room[retried]}
	if query == unhurriedQuery {
		args = append(args, r.o.Grace.Seconds())
	}
	var found []task
	err := r.o.Models.Query(ctx, projector.Need{Projections: []string{"payments"}}, func(ctx context.Context, s *projector.Snapshot) error {
		rows, err := s.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (t task, err error) {
			return t, row.Scan(&t.name, &t.order, &t.step)
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

// RetryParked has everything that was given up on tried again, and returns how much that is.
func (r *Runner) RetryParked(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	tag, err := r.o.Pool.Exec(ctx, `UPDATE process_attempts SET next_at = now(), attempts = 0
		WHERE process = $1 AND next_at = 'infinity'`, process)
	if err != nil {
		return 0, fmt.Errorf("payments: retrying parked tasks: %w", err)
	}
	return tag.RowsAffected(), r.countParked(ctx)
}
