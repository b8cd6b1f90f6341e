// Package stock is the read model of what can be bought: one level a SKU, in Redis and in PostgreSQL.
package stock

import (
	"context"
	"fmt"

	"github.com/bytedance/sonic"
	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// Name is the projection's name.
const Name = "stock"

// Projection keeps a level for each SKU.
func Projection() projector.Projection {
	return projector.Projection{
		Name:    Name,
		Version: 2, // 2: found by product
		Events:  es.TypesOf(inventory.Events()),
		Postgres: &projector.Postgres{
			Schema: []string{
				`CREATE TABLE stock.levels (
					sku      text COLLATE "C" PRIMARY KEY,
					product  text COLLATE "C" NOT NULL,
					on_hand  bigint NOT NULL,
					reserved bigint NOT NULL
				) WITH (fillfactor = 70)`,
				`CREATE INDEX ON stock.levels (product)`, // no reservation changes it: its updates stay within their page
			},
			Apply: func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
				return projector.Fold(ctx, tx, events, sku, load, fold, save)
			},
		},
		Redis: projector.Documents(
			func(e *es.Event) string { return e.Stream },
			func(level *inventory.State, e *es.Event) (*inventory.State, error) {
				if level == nil {
					level = &inventory.State{}
				}
				next, err := fold(*level, e)
				return &next, err
			}),
	}
}

func sku(e *es.Event) string { return es.IDOf(e.Stream) }

func fold(level inventory.State, e *es.Event) (inventory.State, error) {
	fact, ok := e.Fact.(inventory.Event)
	if !ok {
		return level, fmt.Errorf("stock: %T is no event of a SKU", e.Fact)
	}
	return inventory.Evolve(level, fact), nil
}

func load(ctx context.Context, tx *projector.Tx, skus []string) (map[string]inventory.State, error) {
	rows, err := tx.Query(ctx, `SELECT sku, product, on_hand, reserved FROM stock.levels WHERE sku = ANY ($1)`, skus)
	if err != nil {
		return nil, err
	}
	return collect(rows)
}

func collect(rows pgx.Rows) (map[string]inventory.State, error) {
	levels := map[string]inventory.State{}
	var l inventory.State
	_, err := pgx.ForEachRow(rows, []any{&l.SKU, &l.Product, &l.OnHand, &l.Reserved}, func() error {
		levels[l.SKU] = l
		return nil
	})
	return levels, err
}

func save(_ context.Context, tx *projector.Tx, changed []projector.Changed[inventory.State]) error {
	skus, products := make([]string, 0, len(changed)), make([]string, 0, len(changed))
	onHand, reserved := make([]int64, 0, len(changed)), make([]int64, 0, len(changed))
	for _, c := range changed {
		skus, products = append(skus, c.Key), append(products, c.State.Product)
		onHand, reserved = append(onHand, int64(c.State.OnHand)), append(reserved, int64(c.State.Reserved))
	}
	tx.Queue(`INSERT INTO stock.levels (sku, product, on_hand, reserved)
		SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
		ON CONFLICT (sku) DO UPDATE SET product = excluded.product, on_hand = excluded.on_hand, reserved = excluded.reserved`,
		skus, products, onHand, reserved)
	return nil
}

// Model answers queries about stock.
type Model struct{ models *projector.Models }

// New returns the model read through models.
func New(models *projector.Models) *Model { return &Model{models: models} }

// Levels returns the stocks of the SKUs in their order, nil where a SKU is not known.
func (m *Model) Levels(ctx context.Context, skus []string) ([]*inventory.State, error) {
	levels, streams := make([]*inventory.State, len(skus)), make([]string, len(skus))
	keys := make([]projector.DocKey, len(skus))
	for i, sku := range skus {
		streams[i] = "stock-" + sku
		keys[i] = projector.DocKey{Stream: streams[i], Key: streams[i]}
	}
	documents, err := m.models.Documents(ctx, Name, keys)
	if err != nil {
		return nil, err
	}
	var askedSKUs, askedStreams []string
	for i, d := range documents {
		if d == nil {
			askedSKUs, askedStreams = append(askedSKUs, skus[i]), append(askedStreams, streams[i])
			continue
		}
		levels[i] = &inventory.State{}
		if err := sonic.ConfigStd.Unmarshal(d, levels[i]); err != nil {
			return nil, fmt.Errorf("stock: the document of %s: %w", skus[i], err)
		}
	}
	if len(askedSKUs) == 0 {
		return levels, nil
	}
	var found map[string]inventory.State
	sql := `SELECT sku, product, on_hand, reserved FROM stock.levels WHERE sku = ANY ($1)`
	need := projector.Need{Projections: []string{Name}, Streams: askedStreams}
	err = m.models.Query(ctx, need, sql, []any{askedSKUs}, func(rows pgx.Rows) (err error) {
		found, err = collect(rows)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("stock: reading %d levels: %w", len(askedSKUs), err)
	}
	for i, sku := range skus {
		if l, ok := found[sku]; ok && levels[i] == nil {
			levels[i] = &l
		}
	}
	return levels, nil
}
