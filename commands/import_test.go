package commands_test

import (
	"testing"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/commands/commandtest"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/invoice"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
	"github.com/millrace/millrace/internal/es"
)

var longAgo = time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)

// importing executes a command twice; the second time it must have nothing to do.
func importing(t *testing.T, k *commandtest.Kit, c es.Command) {
	t.Helper()
	for range 2 {
		if _, err := k.Execute(ctx, c); err != nil {
			t.Fatal(err)
		}
	}
}

func invoice536365() commands.ImportOrder {
	return commands.ImportOrder{
		Number: "536365", PlacedAt: longAgo, Customer: "17850", Country: "United Kingdom",
		Lines: []commands.ImportOrderLine{
			{Place: 1, SKU: "MUG-S", Title: "MUG SMALL", Quantity: 4, UnitPrice: pounds(255)},
			{Place: 2, SKU: "MUG-L", Title: "MUG LARGE", Quantity: 1, UnitPrice: pounds(339)},
			{Place: 4, SKU: "MUG-S", Title: "MUG SMALL", Quantity: 2, UnitPrice: pounds(250)},
		},
	}
}

func TestImportOrder(t *testing.T) {
	k := shop(t)
	importing(t, k, k.App.ImportOrder(invoice536365()))
	const stream, total = "order-536365", 4*255 + 339 + 2*250
	k.Then(
		entry("stock-MUG-S", inventory.Sold{Order: "536365", Quantity: 6}),
		entry("stock-MUG-L", inventory.Sold{Order: "536365", Quantity: 1}),
		entry(stream, order.Placed{
			Number: "536365", Total: pounds(total), Currency: "GBP", Customer: "17850", Country: "United Kingdom", Imported: true, PlacedAt: longAgo,
			Lines: []order.PlacedLine{
				{ID: "1", SKU: "MUG-S", Product: mug, Title: "MUG SMALL", Quantity: 4, UnitPrice: pounds(255)},
				{ID: "2", SKU: "MUG-L", Product: mug, Title: "MUG LARGE", Quantity: 1, UnitPrice: pounds(339)},
				{ID: "4", SKU: "MUG-S", Product: mug, Title: "MUG SMALL", Quantity: 2, UnitPrice: pounds(250)},
			},
		}),
		entry("payment-536365", payment.Authorised{Order: "536365", Amount: pounds(total), Reference: "imported"}),
		entry("payment-536365", payment.Captured{Amount: pounds(total)}),
		entry(stream, order.Confirmed{}),
		entry(stream, order.Fulfilled{Lines: []order.LineQuantity{{ID: "1", Quantity: 4}, {ID: "2", Quantity: 1}, {ID: "4", Quantity: 2}}}),
	)
	for _, e := range k.Log()[len(k.Log())-7:] {
		if !e.OccurredAt.Equal(longAgo) {
			t.Errorf("%s occurred at %v, want %v", e.Type, e.OccurredAt, longAgo)
		}
	}
}

func TestImportReturn(t *testing.T) {
	k := shop(t)
	importing(t, k, k.App.ImportOrder(invoice536365()))
	second := invoice536365()
	second.Number, second.Lines = "536366", second.Lines[:1]
	importing(t, k, k.App.ImportOrder(second))
	k.Fresh()

	back := commands.ImportReturn{Invoice: "C536379", ReturnedAt: longAgo.Add(time.Hour), Lines: []commands.ImportReturnLine{
		{Place: 2, From: []commands.ReturnedUnits{{Order: "536366", Line: "1", Quantity: 4}, {Order: "536365", Line: "1", Quantity: 1}}},
		{Place: 3, From: []commands.ReturnedUnits{{Order: "536365", Line: "2", Quantity: 1}}},
	}}
	importing(t, k, k.App.ImportReturn(back))
	k.Then(
		entry("stock-MUG-L", inventory.Returned{Order: "536365", Quantity: 1}),
		entry("stock-MUG-S", inventory.Returned{Order: "536365", Quantity: 1}),
		entry("order-536365", order.Returned{Lines: []order.LineQuantity{{ID: "1", Quantity: 1}, {ID: "2", Quantity: 1}}, Amount: pounds(255 + 339)}),
		entry("payment-536365", payment.Refunded{Amount: pounds(255 + 339)}),
		entry("stock-MUG-S", inventory.Returned{Order: "536366", Quantity: 4}),
		entry("order-536366", order.Returned{Lines: []order.LineQuantity{{ID: "1", Quantity: 4}}, Amount: pounds(4 * 255)}),
		entry("payment-536366", payment.Refunded{Amount: pounds(4 * 255)}),
		entry("invoice-C536379", invoice.LinesImported{Lines: []int{2, 3}}),
	)
	if s := commandtest.State(k, commands.Orders.Stream("536366")); s.Status != order.StatusReturned {
		t.Fatalf("got %s", s.Status)
	}

	// Lines that are new are done, those that are not are left alone.
	back.Lines = append(back.Lines, commands.ImportReturnLine{Place: 5, From: []commands.ReturnedUnits{{Order: "536365", Line: "4", Quantity: 2}}})
	importing(t, k, k.App.ImportReturn(back))
	k.Then(
		entry("stock-MUG-S", inventory.Returned{Order: "536365", Quantity: 2}),
		entry("order-536365", order.Returned{Lines: []order.LineQuantity{{ID: "4", Quantity: 2}}, Amount: pounds(500)}),
		entry("payment-536365", payment.Refunded{Amount: pounds(500)}),
		entry("invoice-C536379", invoice.LinesImported{Lines: []int{5}}),
	)
}

func TestImportCorrection(t *testing.T) {
	k := shop(t)
	importing(t, k, k.App.ImportCorrection(commands.ImportCorrection{Invoice: "536589", Place: 1, At: longAgo, SKU: "MUG-S", Delta: -10, Reason: "damages"}))
	k.Then(
		entry("stock-MUG-S", inventory.Adjusted{Delta: -10, Reason: "damages"}),
		entry("invoice-536589", invoice.LinesImported{Lines: []int{1}}),
	)
}

func TestImportProduct(t *testing.T) {
	k := shop(t)
	in := commands.ImportProduct{SKU: "85123A", Slug: "mug", Title: "T-LIGHT HOLDER", Price: pounds(255), Available: 7, At: longAgo}
	importing(t, k, k.App.ImportProduct(in))
	id := commandtest.State(k, commands.Stocks.Stream("85123A")).Product
	k.Then(
		entry("slug-mug-2", catalog.SlugClaimed{Product: id}),
		entry("stock-85123A", inventory.Opened{SKU: "85123A", Product: id}),
		entry("product-"+id, catalog.Created{
			ID: id, Slug: "mug-2", Title: "T-LIGHT HOLDER", Status: catalog.StatusActive,
			Variants: []catalog.Variant{{SKU: "85123A", Price: pounds(255)}},
		}),
		entry("stock-85123A", inventory.Received{Quantity: 7, Reference: "imported"}),
	)
	in.Available = 9 // another file needs more
	importing(t, k, k.App.ImportProduct(in))
	k.Then(entry("stock-85123A", inventory.Received{Quantity: 2, Reference: "imported"}))
}

func TestImportRefusals(t *testing.T) {
	k := shop(t)
	importing(t, k, k.App.ImportOrder(invoice536365()))
	k.Given("stock-MUG-S", inventory.Received{Quantity: 6})
	changed := func(change func(*commands.ImportOrder)) es.Command {
		in := invoice536365()
		in.Number = "536367"
		change(&in)
		return k.App.ImportOrder(in)
	}
	returning := func(u ...commands.ReturnedUnits) es.Command {
		return k.App.ImportReturn(commands.ImportReturn{Invoice: "C1", ReturnedAt: longAgo, Lines: []commands.ImportReturnLine{{Place: 1, From: u}}})
	}
	for _, test := range []struct {
		name string
		when es.Command
		want string
	}{
		{"an unknown SKU", changed(func(in *commands.ImportOrder) { in.Lines[1].SKU = "PLATE" }), "NOT_FOUND lines.1"},
		{"no SKU", changed(func(in *commands.ImportOrder) { in.Lines[1].SKU = "mug-s" }), "INVALID lines.1.sku"},
		{"too little stock", changed(func(in *commands.ImportOrder) { in.Lines[0].Quantity = 1000 }), "OUT_OF_STOCK lines.0"},
		{"no number", changed(func(in *commands.ImportOrder) { in.Number = "" }), "INVALID number"},
		{"another currency", changed(func(in *commands.ImportOrder) { in.Lines[1].UnitPrice.Currency = "EUR" }), "INVALID lines.1"},
		{"a return of what was never bought", returning(commands.ReturnedUnits{Order: "999", Line: "1", Quantity: 1}), "NOT_FOUND 999.orderId"},
		{"a return of too much", returning(commands.ReturnedUnits{Order: "536365", Line: "1", Quantity: 5}), "NOT_ALLOWED 536365.lines.0.quantity"},
		{"a return of a line twice", returning(commands.ReturnedUnits{Order: "536365", Line: "1", Quantity: 4}, commands.ReturnedUnits{Order: "536365", Line: "1", Quantity: 1}), "NOT_ALLOWED 536365.lines.1.quantity"},
		{"a correction of an unknown SKU", k.App.ImportCorrection(commands.ImportCorrection{Invoice: "1", Place: 1, SKU: "PLATE", Delta: 1}), "NOT_FOUND sku"},
		{"a correction below zero", k.App.ImportCorrection(commands.ImportCorrection{Invoice: "1", Place: 1, SKU: "MUG-S", Delta: -11}), "OUT_OF_STOCK delta"},
		{"a correction of no line", k.App.ImportCorrection(commands.ImportCorrection{Invoice: "1", SKU: "MUG-S", Delta: 1}), "INVALID lines"},
		{"a product without a title", k.App.ImportProduct(commands.ImportProduct{SKU: "PLATE", Price: pounds(1)}), "INVALID title"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := k.Execute(ctx, test.when)
			wantRefusals(t, k, err, test.want)
		})
	}
}
