package orders_test

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/commands/commandtest"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/personal"
	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector/projectortest"
	"github.com/millrace/millrace/projections/orders"
	"github.com/millrace/millrace/projections/paging"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

type row = projectortest.Row

var on = projectortest.On

func gbp(minor int64) money.Money { return money.Money{Minor: minor, Currency: "GBP"} }

// noon has parts of a second that PostgreSQL keeps, and others that it does not; a document keeps both.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)

// placed is an order of two lamps and a kettle.
func placed(number string, at time.Time) order.Placed {
	return order.Placed{
		Number: number, PlacedAt: at, Total: gbp(1590), Currency: "GBP", Cart: "ref", Subject: "hash",
		Lines: []order.PlacedLine{
			{ID: "1", SKU: "LAMP", Product: "p1", Title: "Lamp", Quantity: 2, UnitPrice: gbp(295)},
			{ID: "2", SKU: "KETTLE", Product: "p2", Title: "Kettle", Quantity: 1, UnitPrice: gbp(1000)},
		},
		Contact: personal.Sealed{Key: "hash", Box: []byte{1}}, Country: "France", PaymentDue: at.Add(time.Minute),
	}
}

// is returns the order of placed after these events.
func is(number string, events ...order.Event) *order.State {
	s := order.Evolve(order.State{}, placed(number, noon))
	for _, e := range events {
		s = order.Evolve(s, e)
	}
	return &s
}

func units(id string, n int) order.LineQuantity { return order.LineQuantity{ID: id, Quantity: n} }

const list = `SELECT number, status, subject, placed_at FROM orders.orders ORDER BY number`

// found expects what queries answer about orders, by number.
func found(want map[string]*order.State) projectortest.Expectation {
	return projectortest.Answer(func(ctx context.Context, from projectortest.Sources) (map[string]*order.State, error) {
		var numbers []string
		for number := range want {
			numbers = append(numbers, number)
		}
		all, err := orders.New(from.Models).Orders(ctx, numbers)
		got := make(map[string]*order.State)
		for i, number := range numbers {
			if err == nil {
				got[number] = all[i]
			}
		}
		return got, err
	}, want)
}

// listed expects the numbers of the orders with a status, in the order of the shop's list.
func listed(status order.Status, want ...string) projectortest.Expectation {
	return projectortest.Answer(func(ctx context.Context, from projectortest.Sources) ([]string, error) {
		m := orders.New(from.Models)
		page, err := m.List(ctx, orders.Query{Status: status, Window: paging.Window{First: 10}})
		var numbers []string
		for _, r := range page.Rows {
			numbers = append(numbers, r.Value.Number)
		}
		return numbers, err
	}, want)
}

func TestOrders(t *testing.T) {
	t.Parallel()
	kit := projectortest.New(t, orders.Projection(), commands.Codec())
	sent := order.Fulfilled{Lines: []order.LineQuantity{units("1", 2), units("2", 1)}, Tracking: "JD1"}
	micros := noon.Truncate(time.Microsecond)

	kit.Case("an order waits for its payment").Given(on("order-1", placed("1", noon))).
		Then(
			projectortest.Rows(list, row{"1", order.StatusPending, "hash", micros}),
			projectortest.Rows(`SELECT document FROM orders.orders`, row{*is("1")}),
			found(map[string]*order.State{"1": is("1"), "none": nil}),
		)
	kit.Case("an order is paid and sent").Given(on("order-1", placed("1", noon), order.Confirmed{}, sent)).
		Then(
			projectortest.Rows(list, row{"1", order.StatusFulfilled, "hash", micros}),
			found(map[string]*order.State{"1": is("1", order.Confirmed{}, sent)}),
		)
	part := order.Fulfilled{Lines: []order.LineQuantity{units("1", 1)}}
	kit.Case("an order that is sent in part stays confirmed").Given(on("order-1", placed("1", noon), order.Confirmed{}, part)).
		Then(
			projectortest.Rows(list, row{"1", order.StatusConfirmed, "hash", micros}),
			found(map[string]*order.State{"1": is("1", order.Confirmed{}, part)}),
		)
	cancelled := order.Cancelled{Reason: "declined", By: order.BySystem}
	kit.Case("an order is cancelled, another is not").
		Given(on("order-1", placed("1", noon)), on("order-2", placed("2", noon)), on("order-1", cancelled), on("order-2", order.Confirmed{})).
		Then(
			projectortest.Rows(list, row{"1", order.StatusCancelled, "hash", micros}, row{"2", order.StatusConfirmed, "hash", micros}),
			found(map[string]*order.State{"1": is("1", cancelled), "2": is("2", order.Confirmed{})}),
		)
	lamp := order.Returned{Lines: []order.LineQuantity{units("1", 1)}, Amount: gbp(295)}
	rest := order.Returned{Lines: []order.LineQuantity{units("1", 1), units("2", 1)}, Amount: gbp(1295)}
	kit.Case("one lamp comes back").Given(on("order-1", placed("1", noon), order.Confirmed{}, sent, lamp)).
		Then(
			projectortest.Rows(list, row{"1", order.StatusFulfilled, "hash", micros}),
			found(map[string]*order.State{"1": is("1", order.Confirmed{}, sent, lamp)}),
		)
	kit.Case("everything comes back").Given(on("order-1", placed("1", noon), order.Confirmed{}, sent, lamp, rest)).
		Then(
			projectortest.Rows(list, row{"1", order.StatusReturned, "hash", micros}),
			found(map[string]*order.State{"1": is("1", order.Confirmed{}, sent, lamp, rest)}),
		)
	kit.Case("an order without a buyer who is known").
		Given(on("order-1", order.Placed{Number: "1", PlacedAt: noon, Total: gbp(0), Currency: "GBP", Imported: true})).
		Then(projectortest.Rows(list, row{"1", order.StatusPending, "", micros}))
	kit.Case("the newest orders come first, whenever they were recorded").
		Given(
			on("order-2", placed("2", noon.Add(time.Hour))), on("order-1", placed("1", noon)), on("order-3", placed("3", noon.AddDate(-10, 0, 0))),
			on("order-1", order.Confirmed{}), on("order-3", order.Confirmed{}),
		).
		Then(listed("", "2", "1", "3"), listed(order.StatusConfirmed, "1", "3"), listed(order.StatusReturned))
	log, bought := purchase(t)
	kit.Case("what commands have appended").Given(projectortest.Logged(log)...).
		Then(projectortest.Rows(`SELECT document FROM orders.orders`, row{bought}), found(map[string]*order.State{bought.Number: &bought}))
	kit.EveryEventIsGiven()
	kit.Histories(10, projectortest.Decided(order.Evolve, command, "order-1", "order-2", "order-3", "order-4"))
}

// purchase returns the log of a shop in which somebody has bought two lamps and cancelled, and the order as commands see it.
func purchase(t *testing.T) ([]es.Event, order.State) {
	t.Helper()
	k, ctx := commandtest.New(t), t.Context()
	_, err := k.App.ProductCreate(ctx, commands.ProductCreate{
		Title: "Lamp", Status: catalog.StatusActive, Variants: []commands.VariantInput{{SKU: "LAMP", Price: "2.95"}},
	})
	if err == nil {
		_, err = k.App.StockReceive(ctx, commands.StockReceive{SKU: "LAMP", Quantity: 5})
	}
	var basket commands.CartResult
	if err == nil {
		basket, err = k.App.CartCreate(ctx, commands.CartCreate{Lines: []commands.LineInput{{SKU: "LAMP", Quantity: 2}}})
	}
	var bought commands.OrderResult
	if err == nil {
		bought, err = k.App.CheckOut(ctx, commands.CheckOut{
			CartID: basket.ID, Email: "ada@example.org", PaymentToken: "ok",
			ShippingAddress: commands.Address{Name: "Ada", Line1: "1 Mill Lane", City: "Leeds", Country: "GB"},
		})
	}
	if err == nil {
		_, err = k.App.OrderCancel(ctx, commands.OrderCancel{OrderID: bought.State.Number, Staff: true, Reason: "too dear"})
	}
	if err != nil {
		t.Fatal(err)
	}
	return k.Log(), commandtest.State(k, commands.Orders.Stream(bought.State.Number))
}

func command(t *rapid.T, stream string) projectortest.Command[order.State, order.Event] {
	type command = projectortest.Command[order.State, order.Event]
	p := placed(stream[len("order-"):], noon)
	place := order.Place{Number: p.Number, Lines: p.Lines, Currency: p.Currency, Subject: p.Subject, Country: p.Country, PlacedAt: p.PlacedAt}
	back := order.Return{Lines: []order.LineQuantity{units(rapid.SampledFrom([]string{"1", "2"}).Draw(t, "line"), 1)}}
	return rapid.SampledFrom([]command{place, place, order.Confirm{}, order.Confirm{}, order.Fulfill{}, order.Fulfill{}, order.Cancel{}, back, back}).
		Draw(t, "command")
}
