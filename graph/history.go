package graph

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
	"github.com/millrace/millrace/graph/model"
	"github.com/millrace/millrace/internal/es"
)

// historyPage bounds what is told of one stream; an order or a payment with more events than that does not exist.
const historyPage = 500

// History returns what happened to the order and to its payment, straight from the log.
func (r orderResolver) History(ctx context.Context, o *model.Order) ([]*model.OrderHistoryEntry, error) {
	var all []es.Event
	for _, stream := range []string{commands.Orders.Stream(o.Number).Name(), commands.Payments.Stream(o.Number).Name()} {
		events, err := r.Log.ReadStream(ctx, stream, 0, historyPage)
		if err != nil {
			return nil, err
		}
		all = append(all, events...)
	}
	if !o.AsOf.IsZero() {
		all = slices.DeleteFunc(all, func(e es.Event) bool { return e.RecordedAt.After(o.AsOf) })
	}
	if asOf := callFrom(ctx).asOf; asOf > 0 {
		all = slices.DeleteFunc(all, func(e es.Event) bool { return e.Position > asOf })
	}
	slices.SortFunc(all, func(a, b es.Event) int { return int(a.Position - b.Position) })
	entries := make([]*model.OrderHistoryEntry, len(all))
	for i, e := range all {
		entries[i] = &model.OrderHistoryEntry{Position: e.Position, At: e.OccurredAt, Type: e.Type, Summary: summary(&e)}
	}
	return entries, nil
}

// summary tells a person what happened, without anything personal: what buyers wrote themselves is left out.
func summary(e *es.Event) string {
	switch f := e.Fact.(type) {
	case order.Placed:
		return summaryOfPlaced(f)
	case order.Confirmed:
		return "Confirmed: the goods can be sent."
	case order.Fulfilled:
		if f.Tracking != "" {
			return "Sent: " + count(unitsOf(f.Lines), "unit") + ", tracking " + f.Tracking + "."
		}
		return "Sent: " + count(unitsOf(f.Lines), "unit") + "."
	case order.Cancelled:
		return summaryOfCancelled(f)
	case order.Returned:
		return fmt.Sprintf("Returned: %s, worth %s.", count(unitsOf(f.Lines), "unit"), f.Amount)
	case payment.Authorised:
		return fmt.Sprintf("Payment of %s authorised.", f.Amount)
	case payment.Declined:
		return "Payment declined."
	case payment.Captured:
		return fmt.Sprintf("Payment of %s captured.", f.Amount)
	case payment.Voided:
		return "Payment let go."
	case payment.Refunded:
		return fmt.Sprintf("%s refunded.", f.Amount)
	default:
		return "Something that this version does not know: " + e.Type + "."
	}
}

func summaryOfPlaced(f order.Placed) string {
	var units int
	for _, l := range f.Lines {
		units += l.Quantity
	}
	text := fmt.Sprintf("Placed: %s in %s, %s in all", count(units, "unit"), count(len(f.Lines), "line"), f.Total)
	if f.Imported {
		text += ", imported"
	}
	return text + "."
}

func summaryOfCancelled(f order.Cancelled) string {
	switch f.By {
	case order.ByBuyer:
		return "Cancelled by the buyer."
	case order.ByStaff:
		return "Cancelled by the shop."
	}
	if f.Reason == "" {
		return "Cancelled."
	}
	return "Cancelled: " + f.Reason + "."
}

func unitsOf(lines []order.LineQuantity) (units int) {
	for _, l := range lines {
		units += l.Quantity
	}
	return units
}

// count writes a number with its noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}
