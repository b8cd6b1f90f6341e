// Package orders is the read model of orders in PostgreSQL: the shop's list, and one order by its number.
// Personal data stays sealed in it.
package orders

import (
	"context"
	"fmt"
	"time"

	"github.com/bytedance/sonic"
	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
	"github.com/millrace/millrace/projections/paging"
)

// Name is the projection's name.
const Name = "orders"

// Projection keeps a row for each order.
func Projection() projector.Projection {
	return projector.Projection{
		Name:    Name,
		Version: 1,
		Events:  es.TypesOf(order.Events()),
		Postgres: &projector.Postgres{
			Schema: []string{
				// A text, because PostgreSQL would parse each json document as it is written: nothing else costs more there.
				`CREATE TABLE orders.orders (
					number    text COLLATE "C" PRIMARY KEY,
					status    text NOT NULL,
					subject   text NOT NULL,
					placed_at timestamptz NOT NULL,
					document  text NOT NULL
				) WITH (fillfactor = 80)`,
				`ALTER TABLE orders.orders ALTER document SET STATISTICS 0`, // no query asks what is in it
				`CREATE INDEX ON orders.orders (placed_at, number)`,
				`CREATE INDEX ON orders.orders (status, placed_at, number)`,
				`CREATE INDEX ON orders.orders (subject, placed_at, number) WHERE subject <> ''`,
			},
			Apply: func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
				return projector.Fold(ctx, tx, events, number, load, fold, save)
			},
		},
	}
}

func number(e *es.Event) string { return es.IDOf(e.Stream) }

func fold(o order.State, e *es.Event) (order.State, error) {
	fact, ok := e.Fact.(order.Event)
	if !ok {
		return o, fmt.Errorf("orders: %T is no event of an order", e.Fact)
	}
	return order.Evolve(o, fact), nil
}

const byNumber = `SELECT number, document FROM orders.orders WHERE number = ANY ($1)`

func load(ctx context.Context, tx *projector.Tx, numbers []string) (map[string]order.State, error) {
	rows, err := tx.Query(ctx, byNumber, numbers)
	if err != nil {
		return nil, err
	}
	return collect(rows)
}

func collect(rows pgx.Rows) (map[string]order.State, error) {
	orders := map[string]order.State{}
	var number string
	var document []byte
	_, err := pgx.ForEachRow(rows, []any{&number, &document}, func() error {
		var o order.State
		if err := sonic.ConfigStd.Unmarshal(document, &o); err != nil {
			return fmt.Errorf("orders: the document of order %s: %w", number, err)
		}
		orders[number] = o
		return nil
	})
	return orders, err
}

func save(ctx context.Context, tx *projector.Tx, changed []projector.Changed[order.State]) error {
	n := len(changed)
	var added [][]any
	numbers, statuses, subjects := make([]string, 0, n), make([]string, 0, n), make([]string, 0, n)
	placed, documents := make([]time.Time, 0, n), make([]string, 0, n)
	for _, c := range changed {
		number, o := c.Key, c.State
		document, err := sonic.ConfigStd.MarshalToString(o) // a quarter of the time of encoding/json, in what a rebuild does most
		if err != nil {
			return fmt.Errorf("orders: the document of order %s: %w", number, err)
		}
		if c.New && tx.Bulk() {
			added = append(added, []any{number, string(o.Status), o.Subject, o.PlacedAt, document})
			continue
		}
		numbers, statuses, subjects = append(numbers, number), append(statuses, string(o.Status)), append(subjects, o.Subject)
		placed, documents = append(placed, o.PlacedAt), append(documents, document)
	}
	tx.Queue(`INSERT INTO orders.orders (number, status, subject, placed_at, document)
		SELECT number, status, subject, placed_at, document
		FROM unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::text[]) AS rows(number, status, subject, placed_at, document)
		ON CONFLICT (number) DO UPDATE SET status = excluded.status, document = excluded.document`,
		numbers, statuses, subjects, placed, documents)
	if len(added) == 0 {
		return nil
	}
	return tx.Copy(ctx, "orders.orders", []string{"number", "status", "subject", "placed_at", "document"}, added)
}

// Model answers queries about orders.
type Model struct{ models *projector.Models }

// New returns the model read through models.
func New(models *projector.Models) *Model { return &Model{models: models} }

// Query asks for a page of orders; an empty Status asks for all.
type Query struct {
	Status order.Status
	paging.Window
}

// Orders returns the orders with the numbers in their order, nil where there is none.
func (m *Model) Orders(ctx context.Context, numbers []string) ([]*order.State, error) {
	streams := make([]string, len(numbers))
	for i, n := range numbers {
		streams[i] = "order-" + n
	}
	var found map[string]order.State
	err := m.models.Query(ctx, projector.Need{Projections: []string{Name}, Streams: streams}, byNumber, []any{numbers}, func(rows pgx.Rows) (err error) {
		found, err = collect(rows)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("orders: reading %d orders: %w", len(numbers), err)
	}
	orders := make([]*order.State, len(numbers))
	for i, n := range numbers {
		if o, ok := found[n]; ok {
			orders[i] = &o
		}
	}
	return orders, nil
}

var newestFirst = paging.Order{
	Name: "placed", Key: "placed_at", Type: "timestamptz", ID: "number", Descending: true, Valid: paging.IsTime,
}

// List returns a page of orders, the newest first.
func (m *Model) List(ctx context.Context, q Query) (paging.Page[order.State], error) {
	clauses, err := newestFirst.Clauses(q.Window, []any{string(q.Status)})
	if err != nil {
		return paging.Page[order.State]{}, err
	}
	sql := `SELECT placed_at, number, document FROM orders.orders WHERE ($1 = '' OR status = $1) AND ` + clauses.Where +
		` ORDER BY ` + clauses.OrderBy + fmt.Sprintf(` LIMIT %d`, clauses.Limit)
	var page paging.Page[order.State]
	err = m.models.Query(ctx, projector.Need{Projections: []string{Name}}, sql, clauses.Args, func(rows pgx.Rows) error {
		list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (r paging.Row[order.State], err error) {
			var placed time.Time
			var number string
			var document []byte
			if err := row.Scan(&placed, &number, &document); err != nil {
				return r, err
			}
			r.Cursor = func() string { return newestFirst.Cursor(paging.TimeKey(placed), number) }
			r.Value = &order.State{}
			return r, sonic.ConfigStd.Unmarshal(document, r.Value)
		})
		page = paging.Cut(clauses, list)
		return err
	})
	if err != nil {
		return page, fmt.Errorf("orders: listing: %w", err)
	}
	return page, nil
}

// Count returns how many orders List would find on all its pages.
func (m *Model) Count(ctx context.Context, status order.Status) (n int, err error) {
	sql := `SELECT count(*) FROM orders.orders WHERE ($1 = '' OR status = $1)`
	err = m.models.Query(ctx, projector.Need{Projections: []string{Name}}, sql, []any{string(status)}, func(rows pgx.Rows) (err error) {
		n, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("orders: counting: %w", err)
	}
	return n, nil
}
