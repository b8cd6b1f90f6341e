package audittest

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

func foldCatalogue(events []Event) *model {
	products, variants, docs := newTable("id"), newTable("sku"), documents{}
	states(events, "product", evolveProduct, func(e *Event, p object) {
		docs.set(e, object{"product": p})
		row := object{"id": e.id(), "slug": p["slug"], "status": p["status"], "created_at": instantOf(p.text("createdAt")), "document": p}
		for i, v := range p.objects("variants") {
			price := v.object("price").number("minor")
			if i == 0 || price < row.number("min_price") {
				row["min_price"] = price
			}
			variants.set(object{"sku": v["sku"], "product": e.id(), "price": price})
		}
		products.set(row)
	})
	states(events, "slug", func(_ object, e *Event) object {
		if e.Type == "slug.claimed" {
			return object{"slug": e.Fields["product"]}
		}
		return object{}
	}, docs.set)
	return &model{tables: map[string]*table{"products": products, "variants": variants}, documents: docs}
}

func evolveProduct(p object, e *Event) object {
	d, at := e.fields(), e.OccurredAt.UTC().Format(time.RFC3339Nano)
	if e.Type == "product.created" {
		p = d.with("createdAt", at)
	}
	p = p.with("updatedAt", at)
	switch e.Type {
	case "product.described":
		p["title"] = d["title"]
		p.put("description", d.text("description"))
	case "product.slug_changed":
		p["slug"] = d["slug"]
	case "product.published":
		p["status"] = "ACTIVE"
	case "product.unpublished":
		p["status"] = "DRAFT"
	case "product.archived":
		p["status"] = "ARCHIVED"
	case "product.price_changed":
		p["variants"] = change(p.objects("variants"), "sku", d.text("sku"), func(v object) object { return v.with("price", d["price"]) })
	}
	return p
}

// finishSearch asks PostgreSQL for what only it can make of texts: the spelling that titles are sorted by, and the words to search for.
func finishSearch(ctx context.Context, pool *pgxpool.Pool, products *table) error {
	for _, row := range products.rows {
		p := row.object("document")
		var words []string
		for _, v := range p.objects("variants") {
			words = append(words, v.text("sku"), v.text("title"))
		}
		var title, search string
		err := pool.QueryRow(ctx, `SELECT lower($1::text), (setweight(to_tsvector('english', $1::text), 'A') ||
			setweight(to_tsvector('simple', $2::text), 'B') || setweight(to_tsvector('english', $3::text), 'C'))::text`,
			p.text("title"), strings.Join(words, " "), p.text("description")).Scan(&title, &search)
		if err != nil {
			return fmt.Errorf("the words of product %s: %w", row["id"], err)
		}
		row["title_key"], row["search"] = title, search
	}
	return nil
}
