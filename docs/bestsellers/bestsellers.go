// Package bestsellers is the read model that docs/adding-a-projection.md adds: which SKUs are ordered most. It is an example, and no
// part of the shop.
package bestsellers

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// Name is the projection's name.
const Name = "bestsellers"

// Projection counts the units of each SKU that were ordered.
func Projection() projector.Projection {
	return projector.Projection{
		Name:    Name,
		Version: 1,
		Events:  []string{order.Placed{}.EventType()},
		Postgres: &projector.Postgres{
			Schema: []string{
				`CREATE TABLE bestsellers.ordered (
					partition smallint NOT NULL,
					sku       text COLLATE "C" NOT NULL,
					units     bigint NOT NULL,
					PRIMARY KEY (partition, sku)
				)`,
			},
			Apply: apply,
		},
	}
}

// apply adds a batch of orders to the rows of their partitions: two orders with the same SKU may be in different ones.
func apply(_ context.Context, tx *projector.Tx, events []es.Event) error {
	type key struct {
		partition int
		sku       string
	}
	ordered := make(map[key]int64)
	for _, e := range events {
		placed, ok := e.Fact.(order.Placed)
		if !ok {
			return fmt.Errorf("bestsellers: %T is no order that was placed", e.Fact)
		}
		for _, l := range placed.Lines {
			ordered[key{e.Partition, l.SKU}] += int64(l.Quantity)
		}
	}
	for k, units := range ordered {
		tx.Queue(`INSERT INTO bestsellers.ordered AS o (partition, sku, units) VALUES ($1, $2, $3)
			ON CONFLICT (partition, sku) DO UPDATE SET units = o.units + excluded.units`, k.partition, k.sku, units)
	}
	return nil
}

// Model answers queries about bestsellers.
type Model struct{ models *projector.Models }

// New returns the model read through models.
func New(models *projector.Models) *Model { return &Model{models: models} }

// Seller is a SKU and how many units of it were ordered.
type Seller struct {
	SKU   string
	Units int64
}

// Top returns the n SKUs of which most units were ordered, the most first.
func (m *Model) Top(ctx context.Context, n int) (top []Seller, err error) {
	need := projector.Need{Projections: []string{Name}}
	sql := `SELECT sku, sum(units)::bigint AS units FROM bestsellers.ordered GROUP BY sku ORDER BY units DESC, sku LIMIT $1`
	err = m.models.Query(ctx, need, sql, []any{n}, func(rows pgx.Rows) (err error) {
		top, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Seller])
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("bestsellers: reading the top %d: %w", n, err)
	}
	return top, nil
}
