package catalogue

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/bytedance/sonic"
	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/internal/projector"
	"github.com/millrace/millrace/projections/paging"
)

// Filter says which products a list holds. Zero fields ask for nothing.
type Filter struct {
	// Text is words that title, description or a SKU have.
	Text string
	// Statuses are those that the caller may see and asked for; none means all.
	Statuses []catalog.Status
	// InStock: true asks for products of which any variant is available, false for the others.
	InStock *bool
	// MinPrice and MaxPrice are inclusive and in minor units of the shop's currency; a product is in the list if the
	// price of any of its variants is between them.
	MinPrice, MaxPrice *int64
}

// Query asks for a page of products.
type Query struct {
	Filter
	// Sort is TITLE, CREATED_AT, PRICE (of the cheapest variant) or RELEVANCE (how well Text fits, best first);
	// ties go by id.
	Sort    string
	Reverse bool
	paging.Window
}

// textQuery is the search that $1 asks for: all words, as titles and descriptions or as SKUs have them. With a word to be
// left out it is as titles and descriptions have them only: that the word is not there unstemmed says nothing.
const textQuery = `CASE WHEN websearch_to_tsquery('english', $1)::text LIKE '%!%' THEN websearch_to_tsquery('english', $1)
	ELSE websearch_to_tsquery('english', $1) || websearch_to_tsquery('simple', $1) END`

// where returns the condition of a filter and its arguments; $1 is always the text.
func (f Filter) where() (condition string, args []any) {
	args = []any{f.Text}
	conditions := []string{`true`}
	add := func(format string, values ...any) {
		numbers := make([]any, len(values))
		for i, v := range values {
			args = append(args, v)
			numbers[i] = len(args)
		}
		conditions = append(conditions, fmt.Sprintf(format, numbers...))
	}
	if strings.TrimSpace(f.Text) != "" {
		conditions = append(conditions, `search @@ (`+textQuery+`)`)
	} else {
		conditions = append(conditions, `$1::text IS NOT NULL`)
	}
	if len(f.Statuses) > 0 {
		statuses := make([]string, len(f.Statuses))
		for i, s := range f.Statuses {
			statuses[i] = string(s)
		}
		add(`status = ANY ($%d)`, statuses)
	}
	if f.InStock != nil {
		not := ""
		if !*f.InStock {
			not = "NOT "
		}
		conditions = append(conditions, not+`EXISTS (SELECT FROM stock.levels l WHERE l.product = p.id AND l.on_hand > l.reserved)`)
	}
	if f.MinPrice != nil || f.MaxPrice != nil {
		add(`EXISTS (SELECT FROM catalogue.variants v WHERE v.product = p.id
			AND v.price >= coalesce($%d::bigint, v.price) AND v.price <= coalesce($%d::bigint, v.price))`, f.MinPrice, f.MaxPrice)
	}
	return strings.Join(conditions, " AND "), args
}

// needs names the projections that the filter's condition reads.
func (f Filter) needs() projector.Need {
	if f.InStock != nil {
		return projector.Need{Projections: []string{Name, "stock"}}
	}
	return projector.Need{Projections: []string{Name}}
}

// order returns the order that a query asks for.
func (q Query) order() paging.Order {
	o := paging.Order{Name: "title", Key: "title_key", Type: "text", Valid: paging.IsText}
	switch q.Sort {
	case "CREATED_AT":
		o = paging.Order{Name: "created", Key: "created_at", Type: "timestamptz", Valid: paging.IsTime}
	case "PRICE":
		o = paging.Order{Name: "price", Key: "min_price", Type: "bigint", Valid: paging.IsInteger}
	case "RELEVANCE":
		if strings.TrimSpace(q.Text) != "" {
			o = paging.Order{Name: "relevance", Key: `ts_rank(search, ` + textQuery + `)::float8`, Type: "float8", Descending: true, Valid: paging.IsNumber}
		}
	}
	o.ID = "id"
	o.Descending = o.Descending != q.Reverse
	return o
}

// List returns a page of products.
func (m *Model) List(ctx context.Context, q Query) (paging.Page[catalog.State], error) {
	where, args := q.where()
	order := q.order()
	clauses, err := order.Clauses(q.Window, args)
	if err != nil {
		return paging.Page[catalog.State]{}, err
	}
	key := order.Key + `::text`
	if order.Type == "timestamptz" {
		key = `to_char(` + order.Key + ` AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`
	}
	// The key has a name of its own: ORDER BY would take an output column's name before a column's.
	sql := `SELECT ` + key + ` AS cursor_key, id, document FROM catalogue.products p WHERE ` + where + ` AND ` + clauses.Where +
		` ORDER BY ` + clauses.OrderBy + fmt.Sprintf(` LIMIT %d`, clauses.Limit)
	list, err := projector.List(ctx, m.models, q.needs(), sql, clauses.Args, func(rows pgx.Rows) ([]paging.Row[catalog.State], error) {
		return pgx.CollectRows(rows, func(row pgx.CollectableRow) (r paging.Row[catalog.State], err error) {
			var key, id string
			var doc []byte
			if err := row.Scan(&key, &id, &doc); err != nil {
				return r, err
			}
			r.Cursor = func() string { return order.Cursor(key, id) }
			r.Value = &catalog.State{}
			return r, sonic.ConfigStd.Unmarshal(doc, r.Value)
		})
	})
	if err != nil {
		return paging.Page[catalog.State]{}, fmt.Errorf("catalogue: listing: %w", err)
	}
	return paging.Cut(clauses, slices.Clone(list)), nil // the rows are others' too, who may see another page in them
}

// Count returns how many products List would find on all its pages.
func (m *Model) Count(ctx context.Context, f Filter) (n int, err error) {
	where, args := f.where()
	n, err = projector.List(ctx, m.models, f.needs(), `SELECT count(*) FROM catalogue.products p WHERE `+where, args, func(rows pgx.Rows) (int, error) {
		return pgx.CollectExactlyOneRow(rows, pgx.RowTo[int])
	})
	if err != nil {
		return 0, fmt.Errorf("catalogue: counting: %w", err)
	}
	return n, nil
}
