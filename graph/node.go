package graph

import (
	"context"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/graph/model"
)

// Node finds anything by its id; nil where there is nothing that who asks may see.
func (r queryResolver) Node(ctx context.Context, id string) (model.Node, error) {
	kind, own, ok := model.ParseID(id)
	if !ok {
		return nil, nil // nothing has it
	}
	switch kind {
	case model.KindProduct:
		return node(r.product(ctx, own))
	case model.KindVariant:
		return node(r.variant(ctx, own))
	case model.KindCart:
		return node(r.cart(ctx, own))
	case model.KindOrder:
		if callFrom(ctx).staff {
			return node(r.order(ctx, own))
		}
	}
	return nil, nil // nothing of that kind, or nothing for guests
}

// node keeps a nil pointer from becoming an interface that is not nil.
func node[T any, P interface {
	*T
	model.Node
}](n P, err error) (model.Node, error) {
	if n == nil {
		return nil, err
	}
	return n, err
}

// Nodes finds several things, and reads those of a kind together.
func (r queryResolver) Nodes(ctx context.Context, ids []string) ([]model.Node, error) {
	c := callFrom(ctx)
	for _, id := range ids {
		switch kind, own, _ := model.ParseID(id); kind {
		case model.KindProduct:
			c.loaders.products.announce(own)
		case model.KindVariant:
			c.loaders.stock.announce(own)
		case model.KindCart:
			c.loaders.carts.announce(commands.CartRef(own))
		case model.KindOrder:
			if c.staff {
				c.loaders.orders.announce(own)
			}
		}
	}
	if err := r.announceOwners(ctx, ids); err != nil {
		return nil, err
	}
	nodes := make([]model.Node, len(ids))
	for i, id := range ids {
		var err error
		if nodes[i], err = r.Node(ctx, id); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

// announceOwners says that the products of the variants among the ids will be needed.
func (r *resolver) announceOwners(ctx context.Context, ids []string) error {
	l := &callFrom(ctx).loaders
	for _, id := range ids {
		kind, sku, ok := model.ParseID(id)
		if !ok || kind != model.KindVariant {
			continue
		}
		stock, err := l.stock.load(ctx, sku)
		if err != nil {
			return err
		}
		if stock != nil {
			l.products.announce(stock.Product)
		}
	}
	return nil
}
