package graph

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/rule"
	"github.com/millrace/millrace/graph/model"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/projections/orders"
	"github.com/millrace/millrace/projections/paging"
)

// Order finds an order for staff, or for whoever has its access token.
func (r queryResolver) Order(ctx context.Context, id string, accessToken *string, asOf *time.Time) (*model.Order, error) {
	if asOf != nil {
		return r.orderAsOf(ctx, id, *asOf)
	}
	number, ok := r.accessible(ctx, id, accessToken)
	if !ok {
		return nil, nil // an unknown order and a wrong token look alike
	}
	return r.order(ctx, number)
}

// accessible returns the number in an order's id, and whether who asks may see the order, should there be one.
func (r *resolver) accessible(ctx context.Context, id string, accessToken *string) (number string, ok bool) {
	number, ok = model.IDOf(model.KindOrder, id)
	if !ok {
		return "", false
	}
	if callFrom(ctx).staff {
		return number, true
	}
	return number, accessToken != nil && r.Commands.MayAccess(number, *accessToken)
}

// order returns an order that who asks may see. One that the read model does not have yet is folded from the log, since
// whoever may see an order has heard of it from the shop itself.
func (r *resolver) order(ctx context.Context, number string) (*model.Order, error) {
	l := &callFrom(ctx).loaders
	s, err := l.orders.load(ctx, number)
	if err != nil {
		return nil, err
	}
	if s == nil {
		state, _, err := es.Load(ctx, r.Log, commands.Orders.Stream(number))
		if err != nil {
			return nil, err
		}
		s = &state
		l.orders.prime(number, s)
	}
	return l.order(s), nil
}

// Orders lists orders for staff.
func (r queryResolver) Orders(
	ctx context.Context, first *int, after *string, last *int, before *string, status *order.Status,
) (*model.OrderConnection, error) {
	if err := staffOnly(ctx); err != nil {
		return nil, err
	}
	w, empty, err := window(first, after, last, before, defaultPage)
	if err != nil {
		return nil, err
	}
	q := orders.Query{Status: value(status), Window: w}
	if empty {
		q.First = 1
	}
	page, err := r.Deps.Orders.List(ctx, q)
	if err != nil {
		return nil, err
	}
	if empty {
		page = paging.Page[order.State]{HasNext: len(page.Rows) > 0, HasPrevious: page.HasPrevious}
	}
	list := &model.OrderConnection{
		PageInfo: pageInfo(page),
		Nodes:    make([]*model.Order, len(page.Rows)),
		Cursor:   cursors(page),
		Count:    func(ctx context.Context) (int, error) { return r.Deps.Orders.Count(ctx, q.Status) },
	}
	for i, row := range page.Rows {
		list.Nodes[i] = callFrom(ctx).loaders.order(row.Value)
	}
	return list, nil
}

// Lines returns what was bought.
func (r orderResolver) Lines(ctx context.Context, o *model.Order) ([]*model.OrderLine, error) {
	callFrom(ctx).loaders.order(&o.State) // its order may have come from a loader that has been emptied since
	return o.Parts(), nil
}

// Variant returns the variant of today, nil if who asks can see none.
func (r orderLineResolver) Variant(ctx context.Context, l *model.OrderLine) (*model.Variant, error) {
	p, err := r.product(ctx, l.Product)
	if err != nil || p == nil {
		return nil, err
	}
	return p.Variant(l.SKU), nil
}

// Email returns the buyer's address, nil once the person has been forgotten.
func (r orderResolver) Email(ctx context.Context, o *model.Order) (*string, error) {
	c, err := contact(ctx, o)
	if err != nil || c == nil || c.Email == "" {
		return nil, err
	}
	return &c.Email, nil
}

// ShippingAddress returns where the goods go, nil once the person has been forgotten.
func (r orderResolver) ShippingAddress(ctx context.Context, o *model.Order) (*model.Address, error) {
	c, err := contact(ctx, o)
	if err != nil || c == nil || c.Address == (commands.Address{}) {
		return nil, err
	}
	return &model.Address{Address: c.Address}, nil
}

// contact opens what an order knows of its buyer; nil if nobody knows it, or nobody any more.
func contact(ctx context.Context, o *model.Order) (*commands.Contact, error) {
	if o.Contact.IsZero() {
		return nil, nil // an imported order, for example
	}
	plain, err := callFrom(ctx).loaders.open(ctx, o.Contact)
	if err != nil || plain == nil {
		return nil, err
	}
	var c commands.Contact
	if err := json.Unmarshal(plain, &c); err != nil {
		return nil, fmt.Errorf("graph: reading the contact of order %s: %w", o.Number, err)
	}
	return &c, nil
}

// Checkout makes a cart an order.
func (r mutationResolver) Checkout(ctx context.Context, in model.CheckoutInput) (*model.CheckoutPayload, error) {
	a := in.ShippingAddress
	result, err := r.Commands.CheckOut(ctx, commands.CheckOut{
		CartID: cartID(in.CartID), Email: in.Email, PaymentToken: in.Payment.Token,
		ShippingAddress: commands.Address{
			Name: a.Name, Line1: a.Line1, Line2: value(a.Line2), City: a.City, Postcode: value(a.Postcode), Country: a.Country,
		},
		ExpectedTotal: in.ExpectedTotal,
	})
	o, position, broken, err := changedOrder(ctx, result, err)
	if err != nil {
		return nil, err
	}
	payload := &model.CheckoutPayload{Order: o, UserErrors: broken, Position: position}
	if o != nil {
		payload.AccessToken = &result.AccessToken
	}
	return payload, nil
}

// OrderCancel calls an order off.
func (r mutationResolver) OrderCancel(ctx context.Context, in model.OrderCancelInput) (*model.OrderPayload, error) {
	result, err := r.Commands.OrderCancel(ctx, commands.OrderCancel{
		OrderID: orderID(in.OrderID), Staff: callFrom(ctx).staff, AccessToken: value(in.AccessToken), Reason: value(in.Reason),
	})
	o, position, broken, err := changedOrder(ctx, result, err)
	if err != nil {
		return nil, err
	}
	return &model.OrderPayload{Order: o, UserErrors: broken, Position: position}, nil
}

// OrderFulfill sends an order.
func (r mutationResolver) OrderFulfill(ctx context.Context, in model.OrderFulfillInput) (*model.OrderPayload, error) {
	if err := staffOnly(ctx); err != nil {
		return nil, err
	}
	result, err := r.Commands.OrderFulfill(ctx, commands.OrderFulfill{OrderID: orderID(in.OrderID), Tracking: value(in.Tracking)})
	o, position, broken, err := changedOrder(ctx, result, err)
	if err != nil {
		return nil, err
	}
	return &model.OrderPayload{Order: o, UserErrors: broken, Position: position}, nil
}

// orderID returns the number in a global id, "" for one that no order has: the command will say so.
func orderID(global string) string {
	number, _ := model.IDOf(model.KindOrder, global)
	return number
}

// changedOrder answers from the decided state.
func changedOrder(ctx context.Context, result commands.OrderResult, err error) (*model.Order, *int64, []*rule.Error, error) {
	position, broken, err := ended(ctx, result.Position, err)
	if err != nil || len(broken) > 0 {
		return nil, nil, broken, err
	}
	l := &callFrom(ctx).loaders
	l.orders.prime(result.State.Number, &result.State)
	return l.order(&result.State), position, broken, nil
}
