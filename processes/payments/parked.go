package payments

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Parked is a task that was given up on and waits for an operator.
type Parked struct {
	Task     string `json:"task"`
	Step     Step   `json:"step"`
	Order    string `json:"order"`
	Attempts int    `json:"attempts"`
	Error    string `json:"error"`
}

// ListParked returns all that is parked, by task.
func ListParked(ctx context.Context, pool *pgxpool.Pool) ([]Parked, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	rows, err := pool.Query(ctx, `SELECT task, attempts, coalesce(last_error, '') FROM process_attempts
		WHERE process = $1 AND next_at = 'infinity' ORDER BY task`, process)
	if err != nil {
		return nil, fmt.Errorf("payments: listing parked tasks: %w", err)
	}
	parked, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p Parked, err error) {
		err = row.Scan(&p.Task, &p.Attempts, &p.Error)
		if step, rest, ok := strings.Cut(p.Task, " "); ok { // see lists
			p.Step = Step(step)
			p.Order, _, _ = strings.Cut(rest, " ")
		}
		return p, err
	})
	if err != nil {
		return nil, fmt.Errorf("payments: listing parked tasks: %w", err)
	}
	return parked, nil
}

// RetryParked has those of the tasks that are parked tried again, as if for the first time, and returns them. Runners find them when they look next.
func RetryParked(ctx context.Context, pool *pgxpool.Pool, tasks []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	rows, err := pool.Query(ctx, `UPDATE process_attempts SET next_at = now(), attempts = 0
		WHERE process = $1 AND next_at = 'infinity' AND task = ANY ($2) RETURNING task`, process, tasks)
	if err != nil {
		return nil, fmt.Errorf("payments: retrying parked tasks: %w", err)
	}
	retried, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("payments: retrying parked tasks: %w", err)
	}
	return retried, nil
}
