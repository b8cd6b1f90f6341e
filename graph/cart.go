package graph

import (
	"context"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/graph/model"
)

// Cart finds a cart for whoever knows its id.
func (r queryResolver) Cart(ctx context.Context, id string) (*model.Cart, error) {
	secret, ok := model.IDOf(model.KindCart, id)
	if !ok {
		return nil, nil // no cart has it
	}
	return r.cart(ctx, secret)
}

func (r *resolver) cart(ctx context.Context, secret string) (*model.Cart, error) {
	found, err := callFrom(ctx).loaders.carts.load(ctx, commands.CartRef(secret))
	if err != nil || found == nil || !found.Exists() {
		return nil, err
	}
	return newCart(ctx, secret, *found), nil
}

// newCart returns a cart and announces what its fields may need.
func newCart(ctx context.Context, secret string, s cart.State) *model.Cart {
	l := &callFrom(ctx).loaders
	for _, line := range s.Lines {
		l.products.announce(line.Product)
		l.stock.announce(line.SKU)
	}
	if s.Order != "" {
		l.orders.announce(s.Order)
	}
	return &model.Cart{State: s, Secret: secret, Ref: commands.CartRef(secret)}
}

// Lines returns the lines at the prices that a checkout would take now, or has taken.
func (r cartResolver) Lines(ctx context.Context, c *model.Cart) ([]*model.CartLine, error) {
	lines := make([]*model.CartLine, len(c.State.Lines))
	paid, err := r.paid(ctx, c)
	if err != nil {
		return nil, err
	}
	for i, l := range c.State.Lines {
		v, err := r.cartVariant(ctx, l)
		if err != nil {
			return nil, err
		}
		line := &model.CartLine{Ref: c.Ref, Variant: v, Quantity: l.Quantity, UnitPrice: v.Price}
		if price, ok := paid[l.SKU]; ok {
			line.UnitPrice = price
		} else if c.Fresh[l.SKU] {
			line.UnitPrice = l.UnitPrice
		}
		if line.Total, err = line.UnitPrice.Times(l.Quantity); err != nil {
			return nil, err
		}
		lines[i] = line
	}
	return lines, nil
}

// paid returns what the units of a cart that became an order cost then; nil while the cart is open.
func (r *resolver) paid(ctx context.Context, c *model.Cart) (map[string]money.Money, error) {
	if c.State.Order == "" {
		return nil, nil
	}
	o, err := r.order(ctx, c.State.Order)
	if err != nil || o == nil {
		return nil, err
	}
	prices := make(map[string]money.Money, len(o.State.Lines))
	for _, l := range o.State.Lines {
		prices[l.SKU] = l.UnitPrice
	}
	return prices, nil
}

// cartVariant returns what a line is about. A product that shoppers no longer see is shown as the cart remembers it: the
// line is still there, until the buyer takes it out.
func (r *resolver) cartVariant(ctx context.Context, l cart.Line) (*model.Variant, error) {
	p, err := r.product(ctx, l.Product)
	if err != nil {
		return nil, err
	}
	if p != nil {
		if v := p.Variant(l.SKU); v != nil {
			return v, nil
		}
	}
	gone := 0
	remembered := &catalog.State{
		ID: l.Product, Slug: catalog.Slugify(l.Title), Title: l.Title, Status: catalog.StatusArchived,
		Variants: []catalog.Variant{{SKU: l.SKU, Price: l.UnitPrice}},
	}
	v := model.NewProduct(remembered).Variant(l.SKU)
	v.Available = &gone
	return v, nil
}

// Subtotal returns the price of all lines.
func (r cartResolver) Subtotal(ctx context.Context, c *model.Cart) (*money.Money, error) {
	lines, err := r.Lines(ctx, c)
	if err != nil {
		return nil, err
	}
	sum := money.Zero(c.Currency)
	for _, l := range lines {
		if sum, err = sum.Add(l.Total); err != nil {
			return nil, err
		}
	}
	return &sum, nil
}

// Total returns all that the buyer pays: nothing is added to the lines or taken off so far.
func (r cartResolver) Total(ctx context.Context, c *model.Cart) (*money.Money, error) {
	return r.Subtotal(ctx, c)
}

// Order returns the order that the cart became.
func (r cartResolver) Order(ctx context.Context, c *model.Cart) (*model.Order, error) {
	if c.State.Order == "" {
		return nil, nil // it is still a cart
	}
	return r.order(ctx, c.State.Order)
}

// CartCreate creates a cart.
func (r mutationResolver) CartCreate(ctx context.Context, in *model.CartCreateInput) (*model.CartPayload, error) {
	var lines []commands.LineInput
	if in != nil {
		lines = lineInputs(in.Lines)
	}
	result, err := r.Commands.CartCreate(ctx, commands.CartCreate{Lines: lines})
	return changedCart(ctx, result, lines, err)
}

// CartLinesAdd puts units into a cart.
func (r mutationResolver) CartLinesAdd(ctx context.Context, in model.CartLinesAddInput) (*model.CartPayload, error) {
	lines := lineInputs(in.Lines)
	result, err := r.Commands.CartLinesAdd(ctx, commands.CartLinesAdd{CartID: cartID(in.CartID), Lines: lines})
	return changedCart(ctx, result, lines, err)
}

// CartLinesUpdate sets quantities.
func (r mutationResolver) CartLinesUpdate(ctx context.Context, in model.CartLinesUpdateInput) (*model.CartPayload, error) {
	result, err := r.Commands.CartLinesUpdate(ctx, commands.CartLinesUpdate{CartID: cartID(in.CartID), Lines: lineInputs(in.Lines)})
	return changedCart(ctx, result, nil, err)
}

// cartID returns the secret in a global id, "" for one that no cart has: the command will say so.
func cartID(global string) string {
	secret, _ := model.IDOf(model.KindCart, global)
	return secret
}

func lineInputs(in []*model.CartLineInput) []commands.LineInput {
	lines := make([]commands.LineInput, len(in))
	for i, l := range in {
		lines[i] = commands.LineInput{SKU: l.Sku, Quantity: l.Quantity}
	}
	return lines
}

// changedCart answers from the decided state. Products and prices of lines that were just added are those of the decision, which a
// read model may not have yet.
func changedCart(ctx context.Context, result commands.CartResult, added []commands.LineInput, err error) (*model.CartPayload, error) {
	position, broken, err := ended(ctx, result.Position, err)
	if err != nil {
		return nil, err
	}
	payload := &model.CartPayload{UserErrors: broken, Position: position}
	if len(broken) == 0 {
		products := &callFrom(ctx).loaders.products
		for i := range result.Products {
			products.prime(result.Products[i].ID, &result.Products[i])
		}
		payload.Cart = newCart(ctx, result.ID, result.State)
		payload.Cart.Fresh = make(map[string]bool, len(added))
		for _, l := range added {
			payload.Cart.Fresh[catalog.NormalSKU(l.SKU)] = true
		}
	}
	return payload, nil
}
