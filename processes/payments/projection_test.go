package payments_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
	"github.com/millrace/millrace/internal/projector/projectortest"
	"github.com/millrace/millrace/processes/payments"
)

func TestToDoLists(t *testing.T) {
	t.Parallel()
	type row = projectortest.Row
	var (
		on     = projectortest.On
		kit    = projectortest.New(t, payments.Projection(), commands.Codec())
		noon   = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		due    = noon.Add(time.Minute)
		late   = noon.Add(time.Hour)
		pounds = money.Money{Minor: 295, Currency: "GBP"}
		never  *time.Time
		placed = order.Placed{
			Number: "1", PlacedAt: noon, PaymentDue: due, Total: pounds, Currency: "GBP",
			Lines: []order.PlacedLine{{ID: "1", SKU: "A", Quantity: 2, UnitPrice: pounds}},
		}
		everything = []order.LineQuantity{{ID: "1", Quantity: 2}}
	)
	orders := func(want ...row) projectortest.Expectation {
		return projectortest.Rows(`SELECT order_id, status, placed_at, payment_due, returned, abandoned_at FROM payments.orders`, want...)
	}
	paid := func(want ...row) projectortest.Expectation {
		return projectortest.Rows(`SELECT order_id, status, refunded FROM payments.payments`, want...)
	}

	kit.Case("an order waits for its payment").Given(on("order-1", placed)).
		Then(orders(row{"1", order.StatusPending, noon, &due, 0, never}), paid())
	unhurried := placed
	unhurried.PaymentDue = time.Time{}
	kit.Case("an order that nobody is in a hurry for").Given(on("order-1", unhurried)).
		Then(orders(row{"1", order.StatusPending, noon, never, 0, never}))
	authorised := payment.Authorised{Order: "1", Amount: pounds, Reference: "ref"}
	kit.Case("a payment is authorised, captured when the order is sent, and refunded when things come back").
		Given(
			on("order-1", placed), on("payment-1", authorised), on("order-1", order.Confirmed{}, order.Fulfilled{Lines: everything}),
			on("payment-1", payment.Captured{Amount: pounds}), on("order-1", order.Returned{Lines: everything, Amount: pounds}),
			on("payment-1", payment.Refunded{Amount: money.Money{Minor: 200, Currency: "GBP"}}, payment.Refunded{Amount: money.Money{Minor: 95, Currency: "GBP"}}),
		).
		Then(orders(row{"1", order.StatusFulfilled, noon, &due, 295, never}), paid(row{"1", payment.StatusCaptured, 295}))
	kit.Case("the provider declines").
		Given(
			on("order-1", placed), on("payment-1", payment.Declined{Order: "1"}),
			on("order-1", order.Cancelled{By: order.BySystem, Reason: commands.ReasonDeclined}).At(late),
		).
		Then(orders(row{"1", order.StatusCancelled, noon, &due, 0, never}), paid(row{"1", payment.StatusDeclined, 0}))
	kit.Case("a buyer cancels before anything is heard of the payment, which is voided").
		Given(
			on("order-1", placed), on("order-1", order.Cancelled{By: order.ByBuyer, Reason: commands.ReasonDeclined}).At(late),
			on("payment-1", authorised, payment.Voided{}),
		).
		Then(orders(row{"1", order.StatusCancelled, noon, &due, 0, &late}), paid(row{"1", payment.StatusVoided, 0}))
	kit.Case("an order that is cancelled later was not abandoned").
		Given(on("order-1", placed, order.Confirmed{}), on("order-1", order.Cancelled{By: order.ByStaff}).At(late)).
		Then(orders(row{"1", order.StatusCancelled, noon, &due, 0, never}))
	imported := placed
	imported.Imported = true
	kit.Case("what is imported is nobody's work").
		Given(
			on("order-1", imported, order.Confirmed{}, order.Fulfilled{Lines: everything}, order.Returned{Lines: everything, Amount: pounds}),
			on("payment-1", payment.Authorised{Order: "1", Amount: pounds, Reference: commands.ImportReference},
				payment.Captured{Amount: pounds}, payment.Refunded{Amount: pounds}),
		).
		Then(orders(), paid())
	kit.EveryEventIsGiven()
	place := order.Place{Number: "1", Lines: placed.Lines, Currency: "GBP", PlacedAt: noon, PaymentDue: due}
	kit.Histories(10, projectortest.Decided(order.Evolve, func(t *rapid.T, _ string) projectortest.Command[order.State, order.Event] {
		place.Imported = rapid.Bool().Draw(t, "imported")
		return rapid.SampledFrom([]projectortest.Command[order.State, order.Event]{
			place, place, order.Confirm{}, order.Fulfill{}, order.Cancel{}, order.Return{Lines: everything},
		}).Draw(t, "command")
	}, "order-1", "order-2", "order-3"))
}
