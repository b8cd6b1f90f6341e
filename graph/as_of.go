package graph

import (
	"context"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/graph/model"
	"github.com/millrace/millrace/internal/es"
)

// orderAsOf folds an order from the log as it stood, for staff.
func (r *resolver) orderAsOf(ctx context.Context, id string, asOf time.Time) (*model.Order, error) {
	if err := staffOnly(ctx); err != nil {
		return nil, err
	}
	number, ok := model.IDOf(model.KindOrder, id)
	if !ok {
		return nil, nil
	}
	state, _, err := es.LoadAsOf(ctx, r.Log, commands.Orders.Stream(number), asOf)
	if err != nil {
		return nil, err
	}
	o := callFrom(ctx).loaders.order(&state)
	if o != nil {
		o.AsOf = asOf
	}
	return o, nil
}

// productAsOf folds a product from the log as it stood, for staff. Without an id it is the one that had the slug.
func (r *resolver) productAsOf(ctx context.Context, id *string, slug string, asOf time.Time) (*model.Product, error) {
	if err := staffOnly(ctx); err != nil {
		return nil, err
	}
	own, ok := "", false
	switch {
	case id != nil:
		own, ok = model.IDOf(model.KindProduct, *id)
	case catalog.ValidSlug(slug):
		owner, _, err := es.LoadAsOf(ctx, r.Log, commands.Slugs.Stream(slug), asOf)
		if err != nil {
			return nil, err
		}
		own, ok = owner.Product, owner.Product != ""
	}
	if !ok {
		return nil, nil
	}
	state, _, err := es.LoadAsOf(ctx, r.Log, commands.Products.Stream(own), asOf)
	if err != nil {
		return nil, err
	}
	p := model.NewProduct(&state)
	if p != nil {
		p.AsOf = asOf
	}
	return p, nil
}

// availableAsOf returns how many units could be bought then, nil if nothing was known of the SKU.
func (r *resolver) availableAsOf(ctx context.Context, sku string, asOf time.Time) (*int, error) {
	stock, version, err := es.LoadAsOf(ctx, r.Log, commands.Stocks.Stream(catalog.NormalSKU(sku)), asOf)
	if err != nil || version == 0 {
		return nil, err
	}
	n := stock.Available()
	return &n, nil
}
