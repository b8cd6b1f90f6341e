package graph

import (
	"cmp"
	"context"
	"errors"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/rule"
	"github.com/millrace/millrace/graph/model"
	"github.com/millrace/millrace/projections/catalogue"
	"github.com/millrace/millrace/projections/paging"
)

// Product finds one product by its id or its slug.
func (r queryResolver) Product(ctx context.Context, id, slug *string, asOf *time.Time) (*model.Product, error) {
	switch {
	case (id == nil) == (slug == nil):
		return nil, problem(BadUserInput, "give id or slug, one of them")
	case asOf != nil:
		return r.productAsOf(ctx, id, value(slug), *asOf)
	case id != nil:
		own, ok := model.IDOf(model.KindProduct, *id)
		if !ok {
			return nil, nil // no product has it
		}
		return r.product(ctx, own)
	}
	if !catalog.ValidSlug(*slug) {
		return nil, nil // no product has it
	}
	found, err := r.Catalogue.ProductsBySlug(ctx, []string{*slug})
	if err != nil {
		return nil, err
	}
	return visible(ctx, found[0]), nil
}

// product returns the product if who asks may see it, else nil.
func (r *resolver) product(ctx context.Context, id string) (*model.Product, error) {
	s, err := callFrom(ctx).loaders.products.load(ctx, id)
	if err != nil {
		return nil, err
	}
	return visible(ctx, s), nil
}

// visible returns the product if who asks may see it: to shoppers only ACTIVE ones exist.
func visible(ctx context.Context, s *catalog.State) *model.Product {
	c := callFrom(ctx)
	if s == nil || s.Status != catalog.StatusActive && !c.staff {
		return nil
	}
	return c.loaders.product(s)
}

// variant returns a variant by its SKU if who asks may see its product, else nil.
func (r *resolver) variant(ctx context.Context, sku string) (*model.Variant, error) {
	stock, err := callFrom(ctx).loaders.stock.load(ctx, catalog.NormalSKU(sku))
	if err != nil || stock == nil {
		return nil, err
	}
	p, err := r.product(ctx, stock.Product)
	if err != nil || p == nil {
		return nil, err
	}
	return p.Variant(stock.SKU), nil
}

// Products lists products.
func (r queryResolver) Products(
	ctx context.Context, first *int, after *string, last *int, before *string,
	query *string, filter *model.ProductFilter, sortKey *model.ProductSortKey, reverse *bool,
) (*model.ProductConnection, error) {
	c := callFrom(ctx)
	w, empty, err := window(first, after, last, before, defaultPage)
	if err != nil {
		return nil, err
	}
	f, nothing, err := r.productFilter(c.staff, value(query), filter)
	if err != nil {
		return nil, err
	}
	q := catalogue.Query{Filter: f, Window: w, Reverse: value(reverse), Sort: string(sortOf(f.Text, sortKey))}
	var page paging.Page[catalog.State]
	switch {
	case nothing:
	case empty:
		if page, err = r.anyProducts(ctx, q); err != nil {
			return nil, err
		}
	default:
		if page, err = r.Catalogue.List(ctx, q); err != nil {
			return nil, err
		}
	}
	list := &model.ProductConnection{
		PageInfo: pageInfo(page),
		Nodes:    make([]*model.Product, len(page.Rows)),
		Cursor:   cursors(page),
		Count: func(ctx context.Context) (int, error) {
			if nothing {
				return 0, nil
			}
			return r.Catalogue.Count(ctx, f)
		},
	}
	for i, row := range page.Rows {
		list.Nodes[i] = c.loaders.product(row.Value)
	}
	return list, nil
}

// anyProducts returns the page without elements that only says whether there would be any.
func (r *resolver) anyProducts(ctx context.Context, q catalogue.Query) (paging.Page[catalog.State], error) {
	q.First = 1
	page, err := r.Catalogue.List(ctx, q)
	page.HasNext, page.Rows = len(page.Rows) > 0, nil
	return page, err
}

func sortOf(text string, key *model.ProductSortKey) model.ProductSortKey {
	switch {
	case text == "" && (key == nil || *key == model.SortRelevance): // nothing to be relevant to
		return model.SortTitle
	case key == nil:
		return model.SortRelevance
	default:
		return *key
	}
}

// productFilter reads a filter; nothing says that who asks may see nothing that it lets through.
func (r *resolver) productFilter(staff bool, text string, in *model.ProductFilter) (f catalogue.Filter, nothing bool, err error) {
	if f.Text = text; !model.Plain(text) {
		return f, false, problem(BadUserInput, "query holds a control character")
	}
	if !staff {
		f.Statuses = []catalog.Status{catalog.StatusActive}
	}
	if in == nil {
		return f, false, nil
	}
	f.InStock = in.InStock
	if in.Status != nil {
		f.Statuses = []catalog.Status{*in.Status}
		nothing = !staff && *in.Status != catalog.StatusActive
	}
	var errs []error
	bound := func(field string, text *string) *int64 {
		if text == nil {
			return nil
		}
		m, err := money.Parse(*text, r.Commands.Currency())
		for _, broken := range rule.All(err) {
			errs = append(errs, broken.At("filter", field))
		}
		return &m.Minor
	}
	f.MinPrice, f.MaxPrice = bound("minPrice", in.MinPrice), bound("maxPrice", in.MaxPrice)
	return f, nothing, errors.Join(errs...)
}

// Available returns how many units can be bought now.
func (r variantResolver) Available(ctx context.Context, v *model.Variant) (*int, error) {
	if v.Available != nil {
		return v.Available, nil
	}
	if asOf := v.Product.AsOf; !asOf.IsZero() {
		return r.availableAsOf(ctx, v.SKU, asOf)
	}
	stock, err := callFrom(ctx).loaders.stock.load(ctx, v.SKU)
	if err != nil || stock == nil {
		return nil, err
	}
	n := stock.Available()
	return &n, nil
}

// ProductCreate creates a product.
func (r mutationResolver) ProductCreate(ctx context.Context, in model.ProductCreateInput) (*model.ProductPayload, error) {
	command := commands.ProductCreate{
		Slug: in.Slug, Title: in.Title, Description: value(in.Description), Status: value(in.Status),
		Variants: make([]commands.VariantInput, len(in.Variants)),
	}
	for i, v := range in.Variants {
		command.Variants[i] = commands.VariantInput{SKU: v.Sku, Title: value(v.Title), Price: v.Price}
	}
	payload, err := changedProduct(ctx, func() (commands.ProductResult, error) { return r.Commands.ProductCreate(ctx, command) })
	if payload != nil && payload.Product != nil {
		for _, v := range payload.Product.State.Variants { // the stocks were opened just now
			callFrom(ctx).loaders.stock.prime(v.SKU, &inventory.State{SKU: v.SKU, Product: payload.Product.State.ID})
		}
	}
	return payload, err
}

// ProductUpdate changes a product.
func (r mutationResolver) ProductUpdate(ctx context.Context, in model.ProductUpdateInput) (*model.ProductPayload, error) {
	id, _ := model.IDOf(model.KindProduct, in.ID) // "" for one that no product has: the command will say so
	return changedProduct(ctx, func() (commands.ProductResult, error) {
		return r.Commands.ProductUpdate(ctx, commands.ProductUpdate{
			ID: id, Slug: in.Slug, Title: in.Title, Description: in.Description, Status: in.Status,
		})
	})
}

// VariantPriceChange changes a price.
func (r mutationResolver) VariantPriceChange(ctx context.Context, in model.VariantPriceChangeInput) (*model.ProductPayload, error) {
	return changedProduct(ctx, func() (commands.ProductResult, error) {
		return r.Commands.VariantPriceChange(ctx, commands.VariantPriceChange{SKU: in.Sku, Price: in.Price})
	})
}

// changedProduct lets staff do something to a product and answers from the decided state.
func changedProduct(ctx context.Context, do func() (commands.ProductResult, error)) (*model.ProductPayload, error) {
	if err := staffOnly(ctx); err != nil {
		return nil, err
	}
	result, err := do()
	position, broken, err := ended(ctx, result.Position, err)
	if err != nil {
		return nil, err
	}
	payload := &model.ProductPayload{UserErrors: broken, Position: position}
	if len(broken) == 0 {
		callFrom(ctx).loaders.products.prime(result.State.ID, &result.State)
		payload.Product = callFrom(ctx).loaders.product(&result.State)
	}
	return payload, nil
}

// StockReceive takes in units.
func (r mutationResolver) StockReceive(ctx context.Context, in model.StockReceiveInput) (*model.StockPayload, error) {
	return changedStock(ctx, func() (commands.StockResult, error) {
		return r.Commands.StockReceive(ctx, commands.StockReceive{SKU: in.Sku, Quantity: in.Quantity, Reference: value(in.Reference)})
	})
}

// StockAdjust corrects a stock.
func (r mutationResolver) StockAdjust(ctx context.Context, in model.StockAdjustInput) (*model.StockPayload, error) {
	return changedStock(ctx, func() (commands.StockResult, error) {
		return r.Commands.StockAdjust(ctx, commands.StockAdjust{SKU: in.Sku, Delta: in.Delta, Reason: in.Reason})
	})
}

// changedStock lets staff do something to a stock and answers from the decided state.
func changedStock(ctx context.Context, do func() (commands.StockResult, error)) (*model.StockPayload, error) {
	if err := staffOnly(ctx); err != nil {
		return nil, err
	}
	result, err := do()
	position, broken, err := ended(ctx, result.Position, err)
	if err != nil {
		return nil, err
	}
	payload := &model.StockPayload{UserErrors: broken, Position: position}
	if len(broken) == 0 {
		l := &callFrom(ctx).loaders
		l.products.prime(result.Product.ID, &result.Product)
		l.stock.prime(result.State.SKU, &result.State)
		if p := l.product(&result.Product); p != nil {
			payload.Variant = p.Variant(cmp.Or(result.Variant.SKU, result.State.SKU))
		}
	}
	return payload, nil
}
