// Package catalogue is the read model of products: rows in PostgreSQL for lists and search, and a document
// a product in Redis, found by its id or its slug.
package catalogue

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/bytedance/sonic"
	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// Name is the projection's name.
const Name = "catalogue"

// document is what Redis keeps for a stream: a product, or whose a slug is.
type document struct {
	Product *catalog.State `json:"product,omitempty"`
	Slug    string         `json:"slug,omitempty"`
}

// Projection keeps each product, its variants and its slug.
func Projection() projector.Projection {
	return projector.Projection{
		Name:    Name,
		Version: 1,
		Events:  append(es.TypesOf(catalog.Events()), es.TypesOf(catalog.SlugEvents())...),
		Postgres: &projector.Postgres{
			Schema: []string{
				`CREATE TABLE catalogue.products (
					id         text COLLATE "C" PRIMARY KEY,
					slug       text NOT NULL,
					status     text NOT NULL,
					title_key  text COLLATE "C" NOT NULL,
					min_price  bigint NOT NULL,
					created_at timestamptz NOT NULL,
					search     tsvector NOT NULL,
					document   json NOT NULL
				)`,
				`CREATE INDEX ON catalogue.products (slug)`,
				`CREATE INDEX ON catalogue.products (title_key, id)`,
				`CREATE INDEX ON catalogue.products (min_price, id)`,
				`CREATE INDEX ON catalogue.products (created_at, id)`,
				`CREATE INDEX ON catalogue.products USING gin (search)`,
				`CREATE TABLE catalogue.variants (
					sku     text COLLATE "C" PRIMARY KEY,
					product text COLLATE "C" NOT NULL,
					price   bigint NOT NULL
				)`,
				`CREATE INDEX ON catalogue.variants (product)`,
			},
			Apply: func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
				return projector.Fold(ctx, tx, events, productID, load, foldProduct, save)
			},
		},
		Redis: projector.Documents(func(e *es.Event) string { return e.Stream }, foldDocument),
	}
}

// productID leaves slugs out: in PostgreSQL a product's slug is a column.
func productID(e *es.Event) string {
	if e.Category() != "product" {
		return ""
	}
	return es.IDOf(e.Stream)
}

func foldProduct(p catalog.State, e *es.Event) (catalog.State, error) {
	fact, ok := e.Fact.(catalog.Event)
	if !ok {
		return p, fmt.Errorf("catalogue: %T is no event of a product", e.Fact)
	}
	return catalog.Evolve(p, fact).At(e.OccurredAt), nil
}

func foldDocument(d *document, e *es.Event) (*document, error) {
	if d == nil {
		d = &document{}
	}
	if fact, ok := e.Fact.(catalog.SlugEvent); ok {
		return &document{Slug: catalog.EvolveSlug(catalog.SlugState{Product: d.Slug}, fact).Product}, nil
	}
	var before catalog.State
	if d.Product != nil {
		before = *d.Product
	}
	p, err := foldProduct(before, e)
	return &document{Product: &p}, err
}

const byID = `SELECT id, document FROM catalogue.products WHERE id = ANY ($1)`

func load(ctx context.Context, tx *projector.Tx, ids []string) (map[string]catalog.State, error) {
	rows, err := tx.Query(ctx, byID, ids)
	if err != nil {
		return nil, err
	}
	return collect(rows)
}

// collect reads rows of a key and a product's document.
func collect(rows pgx.Rows) (map[string]catalog.State, error) {
	products := map[string]catalog.State{}
	var key string
	var doc []byte
	_, err := pgx.ForEachRow(rows, []any{&key, &doc}, func() error {
		var p catalog.State
		if err := sonic.ConfigStd.Unmarshal(doc, &p); err != nil {
			return fmt.Errorf("catalogue: the document of product %s: %w", key, err)
		}
		products[key] = p
		return nil
	})
	return products, err
}

func save(_ context.Context, tx *projector.Tx, changed []projector.Changed[catalog.State]) error {
	n := len(changed)
	ids, slugs, statuses := make([]string, 0, n), make([]string, 0, n), make([]string, 0, n)
	titles, descriptions, searched, documents := make([]string, 0, n), make([]string, 0, n), make([]string, 0, n), make([]string, 0, n)
	minPrices, created := make([]int64, 0, n), make([]time.Time, 0, n)
	skus, products, prices := make([]string, 0, n), make([]string, 0, n), make([]int64, 0, n)
	for _, c := range changed {
		id, p := c.Key, c.State
		doc, err := sonic.ConfigStd.Marshal(p)
		if err != nil {
			return fmt.Errorf("catalogue: the document of product %s: %w", id, err)
		}
		var words []string
		lowest := int64(0)
		for i, v := range p.Variants {
			skus, products, prices = append(skus, v.SKU), append(products, id), append(prices, v.Price.Minor)
			words = append(words, v.SKU, v.Title)
			if i == 0 || v.Price.Minor < lowest {
				lowest = v.Price.Minor
			}
		}
		ids, slugs, statuses = append(ids, id), append(slugs, p.Slug), append(statuses, string(p.Status))
		titles, descriptions, searched = append(titles, p.Title), append(descriptions, p.Description), append(searched, strings.Join(words, " "))
		minPrices, created, documents = append(minPrices, lowest), append(created, p.CreatedAt), append(documents, string(doc))
	}
	tx.Queue(`INSERT INTO catalogue.products (id, slug, status, title_key, min_price, created_at, search, document)
		SELECT id, slug, status, lower(title), min_price, created_at,
			setweight(to_tsvector('english', title), 'A') || setweight(to_tsvector('simple', variants), 'B') ||
			setweight(to_tsvector('english', description), 'C'), document::json
		FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::bigint[], $8::timestamptz[], $9::text[])
			AS rows(id, slug, status, title, description, variants, min_price, created_at, document)
		ON CONFLICT (id) DO UPDATE SET slug = excluded.slug, status = excluded.status, title_key = excluded.title_key,
			min_price = excluded.min_price, search = excluded.search, document = excluded.document`,
		ids, slugs, statuses, titles, descriptions, searched, minPrices, created, documents)
	tx.Queue(`INSERT INTO catalogue.variants (sku, product, price) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[])
		ON CONFLICT (sku) DO UPDATE SET price = excluded.price`, skus, products, prices)
	return nil
}
