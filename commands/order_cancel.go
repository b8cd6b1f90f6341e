package commands

import (
	"context"

	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/internal/es"
)

// OrderCancel calls an order off of which nothing has been sent.
type OrderCancel struct {
	OrderID string
	// Staff says that who asks is staff and needs no token.
	Staff bool
	// AccessToken is what the checkout answered with.
	AccessToken string
	// Reason may be empty.
	Reason string
}

// OrderCancel answers with the order, whose units are free again by the same append. Refusals: rule.NotFound at input,
// orderId for an unknown order or a wrong token alike; rule.NotAllowed there once units were sent; rule.Invalid at input,
// reason.
func (a *App) OrderCancel(ctx context.Context, in OrderCancel) (OrderResult, error) {
	by := order.ByBuyer
	if in.Staff {
		by = order.ByStaff
	}
	if !isOrderID(in.OrderID) || !in.Staff && !a.MayAccess(in.OrderID, in.AccessToken) {
		return OrderResult{}, order.ErrNotFound.At("input")
	}
	stream := Orders.Stream(in.OrderID)
	answer := newShown(Orders)
	position, err := a.execute(ctx, es.Command{
		Name:    "order.cancel",
		Streams: []string{stream.Name()},
		Decide: func(d *es.Decision) error {
			state, err := cancelOrder(d, stream, order.Cancel{Reason: in.Reason, By: by})
			answer.set(stream, state)
			return at(err, "input")
		},
	}, in, answer)
	if err != nil {
		return OrderResult{}, err
	}
	return OrderResult{State: answer.state, Position: position}, nil
}

// cancelOrder cancels the order, if it is not cancelled already, and frees what was reserved for it.
func cancelOrder(d *es.Decision, stream es.Stream[order.State], cancel order.Cancel) (order.State, error) {
	before, err := es.State(d, stream)
	if err != nil {
		return order.State{}, err
	}
	events, err := cancel.Decide(before)
	if err != nil {
		return order.State{}, err
	}
	if len(events) == 0 {
		return before, nil
	}
	if err := moveReserved(d, before, func(s inventory.State, quantity int) ([]inventory.Event, error) {
		return inventory.Release{Order: before.Number, Quantity: quantity}.Decide(s)
	}); err != nil {
		return order.State{}, err
	}
	return es.Append(d, stream, events...), nil
}

// moveReserved does something with all units that are reserved for an order.
func moveReserved(d *es.Decision, o order.State, decide func(inventory.State, int) ([]inventory.Event, error)) error {
	stocks := make([]string, len(o.Lines))
	for i, l := range o.Lines {
		stocks[i] = Stocks.Stream(l.SKU).Name()
	}
	if err := d.Need(stocks...); err != nil {
		return err
	}
	for _, l := range o.Lines {
		left := l.Quantity - l.Fulfilled
		if left == 0 {
			continue
		}
		stock := Stocks.Stream(l.SKU)
		before, err := es.State(d, stock)
		if err != nil {
			return err
		}
		events, err := decide(before, left)
		if err != nil {
			return err
		}
		es.Append(d, stock, events...)
	}
	return nil
}
