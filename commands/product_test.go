package commands_test

import (
	"strings"
	"testing"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/commands/commandtest"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
)

func plate() commands.ProductCreate {
	return commands.ProductCreate{Title: "Plate", Variants: []commands.VariantInput{{SKU: "plate", Price: "3.50"}}}
}

func TestProductCreate(t *testing.T) {
	k := shop(t)
	r := must[commands.ProductResult](t)(k.App.ProductCreate(ctx, plate()))
	k.Then(
		entry("slug-plate", catalog.SlugClaimed{Product: r.State.ID}),
		entry("stock-PLATE", inventory.Opened{SKU: "PLATE", Product: r.State.ID}),
		entry("product-"+r.State.ID, catalog.Created{
			ID: r.State.ID, Slug: "plate", Title: "Plate", Status: catalog.StatusDraft,
			Variants: []catalog.Variant{{SKU: "PLATE", Price: pounds(350)}},
		}),
	)
	if r.State.CreatedAt != k.Now || r.State.UpdatedAt != k.Now {
		t.Fatalf("got %v and %v, want %v", r.State.CreatedAt, r.State.UpdatedAt, k.Now)
	}
}

func TestProductCreateMakesSlugsUnique(t *testing.T) {
	k := shop(t)
	seen := map[string]bool{}
	for i := range 40 {
		in := plate()
		in.Title, in.Variants[0].SKU = "Mug", "NEW-"+strings.Repeat("I", i+1)
		r := must[commands.ProductResult](t)(k.App.ProductCreate(ctx, in))
		if i == 0 && r.State.Slug != "mug-2" || i == 9 && r.State.Slug != "mug-11" {
			t.Errorf("mug %d has the slug %s", i, r.State.Slug)
		}
		if seen[r.State.Slug] || !catalog.ValidSlug(r.State.Slug) {
			t.Fatalf("the slug %s is not valid or not unique", r.State.Slug)
		}
		seen[r.State.Slug] = true
	}
	for i := range 3 { // as long as a slug may be
		in := plate()
		in.Title, in.Variants[0].SKU = strings.Repeat("abcd ", 40), "LONG-"+strings.Repeat("I", i+1)
		r := must[commands.ProductResult](t)(k.App.ProductCreate(ctx, in))
		if seen[r.State.Slug] || !catalog.ValidSlug(r.State.Slug) {
			t.Fatalf("the slug %s is not valid or not unique", r.State.Slug)
		}
		seen[r.State.Slug] = true
	}
}

func TestProductRefusals(t *testing.T) {
	type in = commands.ProductCreate
	create := func(change func(*in)) func(*commandtest.Kit) error {
		return func(k *commandtest.Kit) error {
			p := plate()
			change(&p)
			_, err := k.App.ProductCreate(ctx, p)
			return err
		}
	}
	update := func(u commands.ProductUpdate) func(*commandtest.Kit) error {
		return func(k *commandtest.Kit) error {
			_, err := k.App.ProductUpdate(ctx, u)
			return err
		}
	}
	price := func(sku, price string) func(*commandtest.Kit) error {
		return func(k *commandtest.Kit) error {
			_, err := k.App.VariantPriceChange(ctx, commands.VariantPriceChange{SKU: sku, Price: price})
			return err
		}
	}
	for _, test := range []struct {
		name string
		when func(*commandtest.Kit) error
		want []string
	}{
		{"create under a taken slug", create(func(p *in) { p.Slug = ptr("mug") }), []string{"CONFLICT input.slug"}},
		{"create under an empty slug", create(func(p *in) { p.Slug = ptr("") }), []string{"INVALID input.slug"}},
		{"create under a bad slug", create(func(p *in) { p.Slug = ptr("No Slug") }), []string{"INVALID input.slug"}},
		{"create with a taken SKU", create(func(p *in) { p.Variants[0].SKU = "mug-s" }), []string{"CONFLICT input.variants.0.sku"}},
		{"create with taken slug and SKU", create(func(p *in) { p.Slug = ptr("mug"); p.Variants[0].SKU = "mug-s" }),
			[]string{"CONFLICT input.slug", "CONFLICT input.variants.0.sku"}},
		{"create with one SKU twice", create(func(p *in) { p.Variants = append(p.Variants, p.Variants[0]) }), []string{"INVALID input.variants.1.sku"}},
		{"create with everything wrong", create(func(p *in) { p.Title = " "; p.Variants[0] = commands.VariantInput{SKU: "", Price: "1.234"} }),
			[]string{"INVALID input.variants.0.price", "INVALID input.title", "INVALID input.variants.0.sku"}},
		{"create with a negative price", create(func(p *in) { p.Variants[0].Price = "-1" }), []string{"INVALID input.variants.0.price"}},
		{"create without variants", create(func(p *in) { p.Variants = nil }), []string{"INVALID input.variants"}},
		{"create with a bad status", create(func(p *in) { p.Status = "GONE" }), []string{"INVALID input.status"}},
		{"update what does not exist", update(commands.ProductUpdate{ID: cartID}), []string{"NOT_FOUND input.id"}},
		{"update what is no id", update(commands.ProductUpdate{ID: "?"}), []string{"NOT_FOUND input.id"}},
		{"update to a taken slug", update(commands.ProductUpdate{ID: mug, Slug: ptr("teapot")}), []string{"CONFLICT input.slug"}},
		{"update with everything wrong", update(commands.ProductUpdate{ID: mug, Slug: ptr("-"), Title: ptr(""), Status: ptr(catalog.Status("x"))}),
			[]string{"INVALID input.slug", "INVALID input.title", "INVALID input.status"}},
		{"price of an unknown SKU", price("PLATE", "1.00"), []string{"NOT_FOUND input.sku"}},
		{"price of what is no SKU", price("", "1.00"), []string{"NOT_FOUND input.sku"}},
		{"price with too many decimals", price("MUG-S", "1.001"), []string{"INVALID input.price"}},
		{"price below zero", price("MUG-S", "-0.01"), []string{"INVALID input.price"}},
		{"no price", price("MUG-S", "cheap"), []string{"INVALID input.price"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := shop(t)
			wantRefusals(t, k, test.when(k), test.want...)
		})
	}
}

func TestProductUpdateMovesTheSlug(t *testing.T) {
	k := shop(t)
	in := commands.ProductUpdate{ID: mug, Slug: ptr("cup"), Title: ptr("Cup"), Status: ptr(catalog.StatusArchived)}
	r := must[commands.ProductResult](t)(k.App.ProductUpdate(ctx, in))
	k.Then(
		entry("slug-cup", catalog.SlugClaimed{Product: mug}),
		entry("slug-mug", catalog.SlugReleased{Product: mug}),
		entry("product-"+mug, catalog.SlugChanged{Slug: "cup", From: "mug"}),
		entry("product-"+mug, catalog.Described{Title: "Cup"}),
		entry("product-"+mug, catalog.Archived{}),
	)
	if r.State.Slug != "cup" {
		t.Fatalf("got slug %s", r.State.Slug)
	}
	must[commands.ProductResult](t)(k.App.ProductUpdate(ctx, in))
	k.Then() // a repeated command yields no events
	must[commands.ProductResult](t)(k.App.ProductUpdate(ctx, commands.ProductUpdate{ID: teapot, Slug: ptr("mug")}))
}

func TestVariantPriceChange(t *testing.T) {
	k := shop(t)
	for range 2 {
		r := must[commands.ProductResult](t)(k.App.VariantPriceChange(ctx, commands.VariantPriceChange{SKU: "mug-l", Price: "8"}))
		if v, _ := r.State.Variant("MUG-L"); v.Price != pounds(800) {
			t.Fatalf("got %v", v.Price)
		}
	}
	k.Then(entry("product-"+mug, catalog.PriceChanged{SKU: "MUG-L", Price: pounds(800), Was: pounds(750)}))
}

func TestStock(t *testing.T) {
	k := shop(t)
	r := must[commands.StockResult](t)(k.App.StockReceive(ctx, commands.StockReceive{SKU: "mug-s", Quantity: 5, Reference: "PO 7"}))
	k.Then(entry("stock-MUG-S", inventory.Received{Quantity: 5, Reference: "PO 7"}))
	if r.State.Available() != 15 || r.Product.ID != mug || r.Variant.SKU != "MUG-S" {
		t.Fatalf("got %+v", r)
	}
	r = must[commands.StockResult](t)(k.App.StockAdjust(ctx, commands.StockAdjust{SKU: "mug-s", Delta: -15, Reason: "broken"}))
	k.Then(entry("stock-MUG-S", inventory.Adjusted{Delta: -15, Reason: "broken"}))
	if r.State.Available() != 0 {
		t.Fatalf("got %+v", r)
	}
	for _, test := range []struct {
		err  func() (commands.StockResult, error)
		want string
	}{
		{func() (commands.StockResult, error) {
			return k.App.StockAdjust(ctx, commands.StockAdjust{SKU: "mug-s", Delta: -1})
		}, "OUT_OF_STOCK input.delta"},
		{func() (commands.StockResult, error) {
			return k.App.StockAdjust(ctx, commands.StockAdjust{SKU: "mug-s"})
		}, "INVALID input.delta"},
		{func() (commands.StockResult, error) {
			return k.App.StockAdjust(ctx, commands.StockAdjust{SKU: "plate", Delta: 1})
		}, "NOT_FOUND input.sku"},
		{func() (commands.StockResult, error) {
			return k.App.StockReceive(ctx, commands.StockReceive{SKU: "mug-s"})
		}, "INVALID input.quantity"},
		{func() (commands.StockResult, error) {
			return k.App.StockReceive(ctx, commands.StockReceive{SKU: "\x00", Quantity: 1})
		}, "NOT_FOUND input.sku"},
		{func() (commands.StockResult, error) {
			return k.App.StockReceive(ctx, commands.StockReceive{SKU: "mug-s", Quantity: 1, Reference: "a\nb"})
		}, "INVALID input.reference"},
	} {
		_, err := test.err()
		wantRefusals(t, k, err, test.want)
	}
}
