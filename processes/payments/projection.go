package payments

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

const version = 1

// Each stream has its own table: a row must be written by one partition only, and an order and its payment are seldom in
// the same one. The partial indexes hold what may be open, so that looking for it does not grow with history.
var schema = []string{
	`CREATE TABLE payments.orders (
		order_id     text COLLATE "C" PRIMARY KEY,
		status       text NOT NULL,
		placed_at    timestamptz NOT NULL,
		payment_due  timestamptz,
		returned     bigint NOT NULL,
		-- Set where the order was cancelled before anything was heard of its payment.
		abandoned_at timestamptz
	)`,
	`CREATE INDEX ON payments.orders (placed_at) WHERE status = 'PENDING'`,
	`CREATE INDEX ON payments.orders (abandoned_at) WHERE abandoned_at IS NOT NULL`,
	`CREATE INDEX ON payments.orders (order_id) WHERE returned > 0`,
	`CREATE TABLE payments.payments (
		order_id text COLLATE "C" PRIMARY KEY,
		status   text NOT NULL,
		refunded bigint NOT NULL
	)`,
	`CREATE INDEX ON payments.payments (order_id) WHERE status = 'AUTHORISED'`,
}

// Projection returns the lists of orders and payments that the Runner looks for work in.
func Projection() projector.Projection {
	var types []string
	for _, e := range order.Events() {
		types = append(types, e.EventType())
	}
	for _, e := range payment.Events() {
		types = append(types, e.EventType())
	}
	return projector.Projection{
		Name: "payments", Version: version, Events: types,
		Postgres: &projector.Postgres{Schema: schema, Apply: apply},
	}
}

func apply(ctx context.Context, tx *projector.Tx, events []es.Event) error {
	if err := projector.Fold(ctx, tx, events, idIn(commands.Orders.Name), loadOrders, foldOrder, saveOrders); err != nil {
		return err
	}
	return projector.Fold(ctx, tx, events, idIn(commands.Payments.Name), loadPayments, foldPayment, savePayments)
}

func idIn(category string) func(*es.Event) string {
	return func(e *es.Event) string {
		if e.Category() != category {
			return ""
		}
		return es.IDOf(e.Stream)
	}
}

// orderRow is a row of payments.orders; one without a status does not exist: the order was imported.
type orderRow struct {
	status      order.Status
	placedAt    time.Time
	paymentDue  *time.Time
	returned    int64
	abandonedAt *time.Time
}

func loadOrders(ctx context.Context, tx *projector.Tx, ids []string) (map[string]orderRow, error) {
	rows, err := tx.Query(ctx, `SELECT order_id, status, placed_at, payment_due, returned, abandoned_at
		FROM payments.orders WHERE order_id = ANY ($1)`, ids)
	if err != nil {
		return nil, fmt.Errorf("payments: reading orders: %w", err)
	}
	found := make(map[string]orderRow, len(ids))
	var id string
	var o orderRow
	_, err = pgx.ForEachRow(rows, []any{&id, &o.status, &o.placedAt, &o.paymentDue, &o.returned, &o.abandonedAt}, func() error {
		found[id] = o
		o.paymentDue, o.abandonedAt = nil, nil
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("payments: reading orders: %w", err)
	}
	return found, nil
}

func foldOrder(o orderRow, e *es.Event) (orderRow, error) {
	if placed, ok := e.Fact.(order.Placed); ok {
		if placed.Imported {
			return orderRow{}, nil
		}
		o = orderRow{status: order.StatusPending, placedAt: placed.PlacedAt}
		if !placed.PaymentDue.IsZero() {
			o.paymentDue = &placed.PaymentDue
		}
		return o, nil
	}
	if o.status == "" {
		return o, nil
	}
	switch fact := e.Fact.(type) {
	case order.Confirmed:
		o.status = order.StatusConfirmed
	case order.Fulfilled:
		o.status = order.StatusFulfilled // orders placed here are sent as a whole
	case order.Cancelled:
		// Whoever writes the same words as a reason does not thereby say that the provider declined.
		declined := fact.By == order.BySystem && fact.Reason == commands.ReasonDeclined
		if o.status == order.StatusPending && !declined {
			at := e.OccurredAt
			o.abandonedAt = &at
		}
		o.status = order.StatusCancelled
	case order.Returned:
		o.returned += fact.Amount.Minor
	}
	return o, nil
}

func saveOrders(_ context.Context, tx *projector.Tx, changed []projector.Changed[orderRow]) error {
	var ids []string
	var statuses []string
	var placed, due, abandoned []*time.Time
	var returned []int64
	for _, c := range changed {
		id, o := c.Key, c.State
		if o.status == "" {
			continue
		}
		ids, statuses, returned = append(ids, id), append(statuses, string(o.status)), append(returned, o.returned)
		placed, due, abandoned = append(placed, &o.placedAt), append(due, o.paymentDue), append(abandoned, o.abandonedAt)
	}
	if len(ids) > 0 {
		tx.Queue(`INSERT INTO payments.orders (order_id, status, placed_at, payment_due, returned, abandoned_at)
			SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::timestamptz[], $5::bigint[], $6::timestamptz[])
			ON CONFLICT (order_id) DO UPDATE SET status = excluded.status, placed_at = excluded.placed_at,
				payment_due = excluded.payment_due, returned = excluded.returned, abandoned_at = excluded.abandoned_at`,
			ids, statuses, placed, due, returned, abandoned)
	}
	return nil
}

// paymentRow is a row of payments.payments; one without a status does not exist. What is refunded in full stays CAPTURED.
type paymentRow struct {
	status   payment.Status
	refunded int64
}

func loadPayments(ctx context.Context, tx *projector.Tx, ids []string) (map[string]paymentRow, error) {
	rows, err := tx.Query(ctx, `SELECT order_id, status, refunded FROM payments.payments WHERE order_id = ANY ($1)`, ids)
	if err != nil {
		return nil, fmt.Errorf("payments: reading payments: %w", err)
	}
	found := make(map[string]paymentRow, len(ids))
	var id string
	var p paymentRow
	_, err = pgx.ForEachRow(rows, []any{&id, &p.status, &p.refunded}, func() error {
		found[id] = p
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("payments: reading payments: %w", err)
	}
	return found, nil
}

func foldPayment(p paymentRow, e *es.Event) (paymentRow, error) {
	switch fact := e.Fact.(type) {
	case payment.Authorised:
		if fact.Reference != commands.ImportReference {
			p.status = payment.StatusAuthorised
		}
		return p, nil
	case payment.Declined:
		p.status = payment.StatusDeclined
		return p, nil
	}
	if p.status == "" { // imported
		return p, nil
	}
	switch fact := e.Fact.(type) {
	case payment.Captured:
		p.status = payment.StatusCaptured
	case payment.Voided:
		p.status = payment.StatusVoided
	case payment.Refunded:
		p.refunded += fact.Amount.Minor
	}
	return p, nil
}

func savePayments(_ context.Context, tx *projector.Tx, changed []projector.Changed[paymentRow]) error {
	var ids, statuses []string
	var refunded []int64
	for _, c := range changed {
		id, p := c.Key, c.State
		if p.status != "" {
			ids, statuses, refunded = append(ids, id), append(statuses, string(p.status)), append(refunded, p.refunded)
		}
	}
	if len(ids) > 0 {
		tx.Queue(`INSERT INTO payments.payments (order_id, status, refunded)
			SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
			ON CONFLICT (order_id) DO UPDATE SET status = excluded.status, refunded = excluded.refunded`, ids, statuses, refunded)
	}
	return nil
}
