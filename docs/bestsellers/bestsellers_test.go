package bestsellers_test

import (
	"context"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/docs/bestsellers"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/projector/projectortest"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

func placed(sku string, units int) order.Placed {
	return order.Placed{Currency: "GBP", Lines: []order.PlacedLine{{ID: "1", SKU: sku, Quantity: units}}}
}

func TestBestsellers(t *testing.T) {
	t.Parallel()
	on := projectortest.On
	kit := projectortest.New(t, bestsellers.Projection(), commands.Codec())

	top := func(ctx context.Context, from projectortest.Sources) ([]bestsellers.Seller, error) {
		return bestsellers.New(from.Models).Top(ctx, 2)
	}
	kit.Case("nothing was ordered").
		Then(projectortest.Answer(top, nil))
	kit.Case("orders of one partition share a row, others do not").
		Given(
			on("order-1", placed("LAMP", 1)), on("order-2", placed("LAMP", 4)), on("order-12", placed("LAMP", 2)),
			on("order-3", placed("KETTLE", 6), order.Cancelled{}), on("order-4", placed("CUP", 1)),
		).
		Then(
			projectortest.Rows(`SELECT units FROM bestsellers.ordered WHERE sku = 'LAMP' ORDER BY units`,
				projectortest.Row{3}, projectortest.Row{4}),
			projectortest.Answer(top, []bestsellers.Seller{{"LAMP", 7}, {"KETTLE", 6}}),
		)
	kit.EveryEventIsGiven()
	kit.Histories(10, rapid.SliceOfN(rapid.Custom(func(t *rapid.T) projectortest.Facts {
		sku := rapid.SampledFrom([]string{"LAMP", "KETTLE", "CUP"}).Draw(t, "SKU")
		return on("order-"+rapid.StringMatching(`[1-9]{2}`).Draw(t, "number"), placed(sku, 1))
	}), 1, 20))
}
