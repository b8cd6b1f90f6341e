package sales_test

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/projector/projectortest"
	"github.com/millrace/millrace/projections/sales"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

type row = projectortest.Row

var (
	on   = projectortest.On
	noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
)

func gbp(minor int64) money.Money { return money.Money{Minor: minor, Currency: "GBP"} }

// placed is an order of two lamps and a kettle, and another lamp at a lower price.
func placed(number, country string, at time.Time) order.Placed {
	return order.Placed{
		Number: number, PlacedAt: at, Total: gbp(1840), Currency: "GBP", Country: country,
		Lines: []order.PlacedLine{
			{ID: "1", SKU: "LAMP", Product: "p1", Title: "Lamp", Quantity: 2, UnitPrice: gbp(295)},
			{ID: "2", SKU: "KETTLE", Product: "p2", Title: "Kettle", Quantity: 1, UnitPrice: gbp(1000)},
			{ID: "3", SKU: "LAMP", Product: "p1", Title: "Lamp", Quantity: 1, UnitPrice: gbp(250)},
		},
	}
}

func returned(minor int64, lines ...order.LineQuantity) order.Returned {
	return order.Returned{Lines: lines, Amount: gbp(minor)}
}

func units(id string, n int) order.LineQuantity { return order.LineQuantity{ID: id, Quantity: n} }

var sent = order.Fulfilled{Lines: []order.LineQuantity{units("1", 2), units("2", 1), units("3", 1)}}

// report expects the sales of the year 2026, in London, grouped by something.
func report(by string, want ...sales.Row) projectortest.Expectation {
	return projectortest.Answer(func(ctx context.Context, from projectortest.Sources) ([]sales.Row, error) {
		year := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
		return sales.New(from.Models, "Europe/London").Report(ctx, year, year.AddDate(1, 0, 0), by)
	}, want)
}

func sold(key string, orders, units int, minor, returned int64) sales.Row {
	return sales.Row{Key: key, Orders: orders, Units: units, Sold: gbp(minor), Returned: gbp(returned)}
}

const (
	entries = `SELECT number, at, counted, country, currency, units, amount, skus, line_units, line_prices FROM sales.orders ORDER BY number`
	returns = `SELECT number, version, at, country, currency, amount, skus, line_amounts FROM sales.returns ORDER BY number, version`
)

func entry(number string, counted bool) row {
	return row{
		number, noon, counted, "France", "GBP", 4, 1840,
		[]string{"LAMP", "KETTLE", "LAMP"}, []int64{2, 1, 1}, []int64{295, 1000, 250},
	}
}

func TestSales(t *testing.T) {
	t.Parallel()
	kit := projectortest.New(t, sales.Projection(), commands.Codec())
	france := placed("1", "France", noon)

	kit.Case("an order does not count before it is paid").Given(on("order-1", france)).
		Then(projectortest.Rows(entries, entry("1", false)), report("COUNTRY"))
	kit.Case("an order counts at the time when it was placed").
		Given(on("order-1", france), on("order-1", order.Confirmed{}, sent).At(noon.AddDate(0, 1, 0))).
		Then(
			projectortest.Rows(entries, entry("1", true)),
			projectortest.Rows(returns),
			report("COUNTRY", sold("France", 1, 4, 1840, 0)),
			report("MONTH", sold("2026-03", 1, 4, 1840, 0)),
			report("SKU", sold("KETTLE", 1, 1, 1000, 0), sold("LAMP", 1, 3, 840, 0)),
		)
	kit.Case("an order that is cancelled counts no longer").Given(on("order-1", france, order.Confirmed{}, order.Cancelled{})).
		Then(projectortest.Rows(entries, entry("1", false)), report("SKU"))
	kit.Case("an order that is cancelled unpaid").Given(on("order-1", france, order.Cancelled{By: order.BySystem})).
		Then(projectortest.Rows(entries, entry("1", false)))
	may := noon.AddDate(0, 2, 0)
	kit.Case("returns count when they happen, each apart").
		Given(
			on("order-1", france, order.Confirmed{}, sent),
			on("order-1", returned(545, units("1", 1), units("3", 1))).At(may), on("order-1", returned(1000, units("2", 1))).At(may.Add(time.Second)),
		).
		Then(
			projectortest.Rows(entries, entry("1", true)),
			projectortest.Rows(returns,
				row{"1", 4, may, "France", "GBP", 545, []string{"LAMP", "LAMP"}, []int64{295, 250}},
				row{"1", 5, may.Add(time.Second), "France", "GBP", 1000, []string{"KETTLE"}, []int64{1000}}),
			report("MONTH", sold("2026-03", 1, 4, 1840, 0), sold("2026-05", 0, 0, 0, 1545)),
			report("SKU", sold("KETTLE", 1, 1, 1000, 1000), sold("LAMP", 1, 3, 840, 545)),
		)
	kit.Case("orders of several countries, and of none that is known").
		Given(
			on("order-1", france), on("order-2", placed("2", "", noon)), on("order-3", placed("3", "France", noon)),
			on("order-3", order.Confirmed{}), on("order-2", order.Confirmed{}), on("order-1", order.Confirmed{}),
		).
		Then(report("COUNTRY", sold("France", 2, 8, 3680, 0), sold("Unspecified", 1, 4, 1840, 0)))
	kit.Case("a day begins at midnight in the shop").
		Given(
			on("order-1", placed("1", "France", time.Date(2026, 6, 30, 22, 59, 59, 0, time.UTC)), order.Confirmed{}),
			on("order-2", placed("2", "France", time.Date(2026, 6, 30, 23, 0, 0, 0, time.UTC)), order.Confirmed{}),
		).
		Then(report("DAY", sold("2026-06-30", 1, 4, 1840, 0), sold("2026-07-01", 1, 4, 1840, 0)))
	yen := order.Placed{Number: "2", PlacedAt: noon, Total: money.Money{Minor: 1000, Currency: "JPY"}, Currency: "JPY", Country: "France",
		Lines: []order.PlacedLine{{ID: "1", SKU: "LAMP", Quantity: 3, UnitPrice: money.Money{Minor: 333, Currency: "JPY"}}}}
	inYen := sales.Row{
		Key: "France", Orders: 1, Units: 3, Sold: money.Money{Minor: 999, Currency: "JPY"}, Returned: money.Money{Minor: 0, Currency: "JPY"},
	}
	kit.Case("currencies are not added up, and parts of a unit are not made up").
		Given(on("order-1", france, order.Confirmed{}), on("order-2", yen, order.Confirmed{})).
		Then(report("COUNTRY", sold("France", 1, 4, 1840, 0), inYen))
	kit.Case("a line that the order does not have cannot come back").
		Given(on("order-1", france, order.Confirmed{}, returned(1, units("9", 1)))).
		ThenStops("sales: order 1 has no line 9 to return")
	kit.EveryEventIsGiven()
	kit.Histories(10, projectortest.Decided(order.Evolve, command, "order-1", "order-2", "order-3", "order-4"))
}

func command(t *rapid.T, stream string) projectortest.Command[order.State, order.Event] {
	type command = projectortest.Command[order.State, order.Event]
	p := placed(stream[len("order-"):], "France", noon)
	place := order.Place{Number: p.Number, Lines: p.Lines, Currency: p.Currency, Country: p.Country, PlacedAt: p.PlacedAt}
	back := order.Return{Lines: []order.LineQuantity{units(rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "line"), 1)}}
	return rapid.SampledFrom([]command{place, place, order.Confirm{}, order.Confirm{}, order.Fulfill{}, order.Fulfill{}, order.Cancel{}, back, back}).
		Draw(t, "command")
}
