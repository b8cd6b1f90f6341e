package catalogue

import (
	"context"
	"fmt"

	"github.com/bytedance/sonic"
	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/internal/projector"
)

// Model answers queries about products.
type Model struct{ models *projector.Models }

// New returns the model read through models.
func New(models *projector.Models) *Model { return &Model{models: models} }

// Products returns the products with the ids in their order, whatever their status, nil where there is none.
func (m *Model) Products(ctx context.Context, ids []string) ([]*catalog.State, error) {
	streams := make([]string, len(ids))
	for i, id := range ids {
		streams[i] = "product-" + id
	}
	documents, err := m.documents(ctx, streams)
	if err != nil {
		return nil, err
	}
	products := make([]*catalog.State, len(ids))
	var asked, askedStreams []string
	for i, d := range documents {
		if d == nil || d.Product == nil {
			asked, askedStreams = append(asked, ids[i]), append(askedStreams, streams[i])
			continue
		}
		products[i] = d.Product
	}
	if len(asked) == 0 {
		return products, nil
	}
	var found map[string]catalog.State
	err = m.models.Query(ctx, projector.Need{Projections: []string{Name}, Streams: askedStreams}, byID, []any{asked}, func(rows pgx.Rows) (err error) {
		found, err = collect(rows)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("catalogue: reading %d products: %w", len(asked), err)
	}
	for i, id := range ids {
		if p, ok := found[id]; ok && products[i] == nil {
			products[i] = &p
		}
	}
	return products, nil
}

// ProductsBySlug returns the products that have the slugs now, in their order, nil where there is none.
func (m *Model) ProductsBySlug(ctx context.Context, slugs []string) ([]*catalog.State, error) {
	streams := make([]string, len(slugs))
	for i, slug := range slugs {
		streams[i] = "slug-" + slug
	}
	documents, err := m.documents(ctx, streams)
	if err != nil {
		return nil, err
	}
	var ids, asked []string
	idOf := map[string]int{}
	for i, d := range documents {
		if d == nil || d.Slug == "" {
			asked = append(asked, slugs[i])
			continue
		}
		if _, seen := idOf[d.Slug]; !seen {
			idOf[d.Slug] = len(ids)
			ids = append(ids, d.Slug)
		}
	}
	byDocument, err := m.Products(ctx, ids)
	if err != nil {
		return nil, err
	}
	bySlug, err := m.productsBySlugRows(ctx, asked)
	if err != nil {
		return nil, err
	}
	products := make([]*catalog.State, len(slugs))
	for i, d := range documents {
		if d != nil && d.Slug != "" {
			products[i] = byDocument[idOf[d.Slug]]
		} else if p, ok := bySlug[slugs[i]]; ok {
			products[i] = &p
		}
	}
	return products, nil
}

func (m *Model) productsBySlugRows(ctx context.Context, slugs []string) (found map[string]catalog.State, err error) {
	if len(slugs) == 0 {
		return nil, nil
	}
	sql := `SELECT slug, document FROM catalogue.products WHERE slug = ANY ($1)`
	err = m.models.Query(ctx, projector.Need{Projections: []string{Name}}, sql, []any{slugs}, func(rows pgx.Rows) (err error) {
		found, err = collect(rows)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("catalogue: reading %d products by slug: %w", len(slugs), err)
	}
	return found, nil
}

// documents returns what Redis has for the streams, nil where PostgreSQL has to be asked.
func (m *Model) documents(ctx context.Context, streams []string) ([]*document, error) {
	keys := make([]projector.DocKey, len(streams))
	for i, s := range streams {
		keys[i] = projector.DocKey{Stream: s, Key: s}
	}
	raw, err := m.models.Documents(ctx, Name, keys)
	if err != nil {
		return nil, err
	}
	documents := make([]*document, len(raw))
	for i, r := range raw {
		if r == nil {
			continue
		}
		documents[i] = &document{}
		if err := sonic.ConfigStd.Unmarshal(r, documents[i]); err != nil {
			return nil, fmt.Errorf("catalogue: the document of %s: %w", streams[i], err)
		}
	}
	return documents, nil
}
