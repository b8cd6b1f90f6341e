package stock_test

import (
	"context"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/projector/projectortest"
	"github.com/millrace/millrace/projections/stock"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

type row = projectortest.Row

var on = projectortest.On

const levels = `SELECT sku, product, on_hand, reserved FROM stock.levels ORDER BY sku`

// level expects a SKU's level in both stores, and as the answer to a query.
func level(sku string, want inventory.State) []projectortest.Expectation {
	return []projectortest.Expectation{
		projectortest.Rows(`SELECT sku, product, on_hand, reserved FROM stock.levels WHERE sku = '`+sku+`'`,
			row{want.SKU, want.Product, want.OnHand, want.Reserved}),
		projectortest.Document("stock-"+sku, "stock-"+sku, want),
		projectortest.Answer(func(ctx context.Context, from projectortest.Sources) ([]*inventory.State, error) {
			return stock.New(from.Models).Levels(ctx, []string{"NONE", sku})
		}, []*inventory.State{nil, &want}),
	}
}

func TestLevels(t *testing.T) {
	t.Parallel()
	kit := projectortest.New(t, stock.Projection(), commands.Codec())
	lantern := on("stock-LANTERN", inventory.Opened{SKU: "LANTERN", Product: "p1"}, inventory.Received{Quantity: 10})

	kit.Case("a SKU without units").
		Given(on("stock-LANTERN", inventory.Opened{SKU: "LANTERN", Product: "p1"})).
		Then(level("LANTERN", inventory.State{SKU: "LANTERN", Product: "p1"})...)
	kit.Case("units arrive").Given(lantern).
		Then(level("LANTERN", inventory.State{SKU: "LANTERN", Product: "p1", OnHand: 10})...)
	kit.Case("a count finds fewer units, another one more").
		Given(lantern, on("stock-LANTERN", inventory.Adjusted{Delta: -4, Reason: "broken"}, inventory.Adjusted{Delta: 1})).
		Then(level("LANTERN", inventory.State{SKU: "LANTERN", Product: "p1", OnHand: 7})...)
	kit.Case("an order reserves and another is cancelled").
		Given(lantern, on("stock-LANTERN", inventory.Reserved{Order: "1", Quantity: 3}, inventory.Reserved{Order: "2", Quantity: 2},
			inventory.Released{Order: "1", Quantity: 3})).
		Then(level("LANTERN", inventory.State{SKU: "LANTERN", Product: "p1", OnHand: 10, Reserved: 2})...)
	kit.Case("what is reserved is sent and comes back in part").
		Given(lantern, on("stock-LANTERN", inventory.Reserved{Order: "1", Quantity: 3}, inventory.Shipped{Order: "1", Quantity: 3},
			inventory.Returned{Order: "1", Quantity: 2})).
		Then(level("LANTERN", inventory.State{SKU: "LANTERN", Product: "p1", OnHand: 9})...)
	kit.Case("the last units are sold without having been reserved").
		Given(lantern, on("stock-LANTERN", inventory.Sold{Order: "1", Quantity: 10})).
		Then(level("LANTERN", inventory.State{SKU: "LANTERN", Product: "p1"})...)
	kit.Case("SKUs do not touch each other").
		Given(
			lantern,
			on("stock-KETTLE", inventory.Opened{SKU: "KETTLE", Product: "p2"}, inventory.Received{Quantity: 5}),
			on("stock-LANTERN", inventory.Reserved{Order: "1", Quantity: 1}),
			on("stock-KETTLE", inventory.Reserved{Order: "1", Quantity: 5}),
		).
		Then(projectortest.Rows(levels, row{"KETTLE", "p2", 5, 5}, row{"LANTERN", "p1", 10, 1}))
	kit.EveryEventIsGiven()
	kit.Histories(10, projectortest.Decided(inventory.Evolve, command, "stock-A", "stock-B", "stock-C", "stock-D", "stock-E"))
}

func command(t *rapid.T, stream string) projectortest.Command[inventory.State, inventory.Event] {
	n := rapid.IntRange(1, 5).Draw(t, "units")
	return rapid.SampledFrom([]projectortest.Command[inventory.State, inventory.Event]{
		inventory.Open{SKU: stream[len("stock-"):], Product: "p1"}, inventory.Receive{Quantity: n}, inventory.Adjust{Delta: -n},
		inventory.Reserve{Order: "1", Quantity: n}, inventory.Release{Order: "1", Quantity: n}, inventory.Ship{Order: "1", Quantity: n},
		inventory.Sell{Order: "2", Quantity: n}, inventory.Return{Order: "2", Quantity: n},
	}).Draw(t, "command")
}
