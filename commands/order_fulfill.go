package commands

import (
	"context"

	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/internal/es"
)

// OrderFulfill sends all units of an order.
type OrderFulfill struct {
	OrderID string
	// Tracking is the carrier's name for the parcel; may be empty.
	Tracking string
}

// OrderFulfill answers with the order, whose units leave the stock by the same append. Refusals: rule.NotFound or
// rule.NotAllowed at input, orderId; rule.Invalid at input, tracking.
func (a *App) OrderFulfill(ctx context.Context, in OrderFulfill) (OrderResult, error) {
	if !isOrderID(in.OrderID) {
		return OrderResult{}, order.ErrNotFound.At("input")
	}
	stream := Orders.Stream(in.OrderID)
	answer := newShown(Orders)
	position, err := a.execute(ctx, es.Command{
		Name:    "order.fulfill",
		Streams: []string{stream.Name()},
		Decide: func(d *es.Decision) error {
			before, err := es.State(d, stream)
			if err != nil {
				return err
			}
			events, err := order.Fulfill{Tracking: in.Tracking}.Decide(before)
			if err != nil {
				return at(err, "input")
			}
			answer.set(stream, before)
			if len(events) == 0 {
				return nil
			}
			if err := moveReserved(d, before, func(s inventory.State, quantity int) ([]inventory.Event, error) {
				return inventory.Ship{Order: before.Number, Quantity: quantity}.Decide(s)
			}); err != nil {
				return err
			}
			answer.set(stream, es.Append(d, stream, events...))
			return nil
		},
	}, in, answer)
	if err != nil {
		return OrderResult{}, err
	}
	return OrderResult{State: answer.state, Position: position}, nil
}
