package graph

import (
	"context"
	"errors"

	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/personal"
	"github.com/millrace/millrace/graph/model"
)

// loaders are those of one operation.
type loaders struct {
	products loader[string, *catalog.State]
	stock    loader[string, *inventory.State]
	carts    loader[string, *cart.State]
	orders   loader[string, *order.State]
	sealed   loader[seal, opened]
}

// seal is sealed personal data as a key of a map.
type seal struct{ key, box string }

type opened struct {
	plain []byte
	err   error
}

func sealOf(s personal.Sealed) seal { return seal{s.Key, string(s.Box)} }

func (l *loaders) init(d Deps) {
	l.products.fetch = func(ctx context.Context, ids []string) ([]*catalog.State, error) {
		if asOf := callFrom(ctx).asOf; asOf > 0 {
			return productsAt(ctx, d.Log, ids, asOf)
		}
		return d.Catalogue.Products(ctx, ids)
	}
	l.stock.fetch = d.Stock.Levels
	l.carts.fetch = d.Carts.Carts
	l.orders.fetch = d.Orders.Orders
	l.sealed.fetch = func(ctx context.Context, keys []seal) ([]opened, error) {
		ids, boxes := make([]string, len(keys)), make([][]byte, len(keys))
		for i, k := range keys {
			ids[i], boxes[i] = k.key, []byte(k.box)
		}
		plain, errs := d.Vault.OpenAll(ctx, ids, boxes)
		all := make([]opened, len(keys))
		for i := range keys {
			all[i] = opened{plain[i], errs[i]}
		}
		return all, nil
	}
}

// open returns what was sealed, nil if the person has been forgotten.
func (l *loaders) open(ctx context.Context, s personal.Sealed) ([]byte, error) {
	o, err := l.sealed.load(ctx, sealOf(s))
	if err == nil {
		err = o.err
	}
	var gone interface{ Forgotten() bool }
	if errors.As(err, &gone) && gone.Forgotten() {
		return nil, nil
	}
	return o.plain, err
}

// forget makes the next read a fresh one: after a mutation, and for each event of a subscription.
func (l *loaders) forget() {
	l.products.forget()
	l.stock.forget()
	l.carts.forget()
	l.orders.forget()
	l.sealed.forget()
}

// product returns a product as the state has it, and announces what its fields may need.
func (l *loaders) product(s *catalog.State) *model.Product {
	p := model.NewProduct(s)
	if p == nil {
		return nil
	}
	for _, v := range s.Variants {
		l.stock.announce(v.SKU)
	}
	return p
}

// order returns an order as the state has it, and announces what its fields may need.
func (l *loaders) order(s *order.State) *model.Order {
	o := model.NewOrder(s)
	if o == nil {
		return nil
	}
	for _, line := range s.Lines {
		l.products.announce(line.Product)
		l.stock.announce(line.SKU)
	}
	if !s.Contact.IsZero() {
		l.sealed.announce(sealOf(s.Contact))
	}
	return o
}
