package catalogue_test

import (
	"context"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/projector/projectortest"
	"github.com/millrace/millrace/projections/catalogue"
	"github.com/millrace/millrace/projections/paging"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

type row = projectortest.Row

var (
	on    = projectortest.On
	began = projectortest.Now
	later = began.Add(time.Hour)
)

func gbp(minor int64) money.Money { return money.Money{Minor: minor, Currency: "GBP"} }

// lantern is a product of two sizes.
func lantern() catalog.Created {
	return catalog.Created{
		ID: "p1", Slug: "lantern", Title: "Red Lantern", Description: "It glows.", Status: catalog.StatusDraft,
		Variants: []catalog.Variant{{SKU: "L-L", Title: "Large", Price: gbp(500)}, {SKU: "L-S", Title: "Small", Price: gbp(295)}},
	}
}

// is returns the lantern after these events, of which the last happened later.
func is(events ...catalog.Event) *catalog.State {
	s := catalog.Evolve(catalog.State{}, lantern()).At(began)
	for _, e := range events {
		s = catalog.Evolve(s, e).At(later)
	}
	return &s
}

const (
	products = `SELECT id, slug, status, title_key, min_price, created_at FROM catalogue.products ORDER BY id`
	variants = `SELECT sku, product, price FROM catalogue.variants ORDER BY sku`
)

// found expects the lantern in both stores, and as the answer to queries for its id and its slug.
func found(want *catalog.State) []projectortest.Expectation {
	type document struct {
		Product *catalog.State `json:"product"`
	}
	return []projectortest.Expectation{
		projectortest.Rows(products, row{"p1", want.Slug, want.Status, "red lantern", want.Variants[1].Price.Minor, began}),
		projectortest.Rows(variants, row{"L-L", "p1", want.Variants[0].Price.Minor}, row{"L-S", "p1", want.Variants[1].Price.Minor}),
		projectortest.Rows(`SELECT document FROM catalogue.products`, row{*want}),
		projectortest.Document("product-p1", "product-p1", document{want}),
		projectortest.Answer(func(ctx context.Context, from projectortest.Sources) ([]*catalog.State, error) {
			return catalogue.New(from.Models).Products(ctx, []string{"none", "p1"})
		}, []*catalog.State{nil, want}),
		bySlug([]string{"none", want.Slug}, nil, want),
	}
}

// bySlug expects the products that are found by slugs.
func bySlug(slugs []string, want ...*catalog.State) projectortest.Expectation {
	return projectortest.Answer(func(ctx context.Context, from projectortest.Sources) ([]*catalog.State, error) {
		return catalogue.New(from.Models).ProductsBySlug(ctx, slugs)
	}, want)
}

// listed expects the ids of the products in a list, in its order.
func listed(q catalogue.Query, want ...string) projectortest.Expectation {
	q.Window = paging.Window{First: 10}
	return projectortest.Answer(func(ctx context.Context, from projectortest.Sources) ([]string, error) {
		page, err := catalogue.New(from.Models).List(ctx, q)
		var ids []string
		for _, r := range page.Rows {
			ids = append(ids, r.Value.ID)
		}
		return ids, err
	}, want)
}

func TestProducts(t *testing.T) {
	t.Parallel()
	kit := projectortest.New(t, catalogue.Projection(), commands.Codec())
	created := []projectortest.Facts{on("product-p1", lantern()), on("slug-lantern", catalog.SlugClaimed{Product: "p1"})}
	after := func(facts ...any) []projectortest.Facts {
		return append(created[:2:2], on("product-p1", facts...).At(later))
	}

	kit.Case("a draft").Given(created...).Then(found(is())...)
	kit.Case("it is published").Given(after(catalog.Published{})...).Then(found(is(catalog.Published{}))...)
	kit.Case("it is a draft again").Given(after(catalog.Published{}, catalog.Unpublished{})...).Then(found(is(catalog.Unpublished{}))...)
	kit.Case("it is archived, and stays to be found").Given(after(catalog.Published{}, catalog.Archived{})...).
		Then(append(found(is(catalog.Archived{})),
			listed(catalogue.Query{}, "p1"),
			listed(catalogue.Query{Filter: catalogue.Filter{Statuses: []catalog.Status{catalog.StatusActive}}}))...)

	dearer, cheaper := catalog.PriceChanged{SKU: "L-S", Price: gbp(499), Was: gbp(295)}, catalog.PriceChanged{SKU: "L-S", Price: gbp(1), Was: gbp(499)}
	kit.Case("the price of the cheapest variant rises").Given(after(dearer)...).Then(found(is(dearer))...)
	kit.Case("a price rises and falls").Given(after(dearer, cheaper)...).Then(found(is(dearer, cheaper))...)
	large := catalog.PriceChanged{SKU: "L-L", Price: gbp(100), Was: gbp(500)}
	kit.Case("another variant becomes the cheapest").Given(after(large)...).
		Then(
			projectortest.Rows(`SELECT min_price FROM catalogue.products`, row{100}),
			projectortest.Rows(variants, row{"L-L", "p1", 100}, row{"L-S", "p1", 295}),
		)

	described := catalog.Described{Title: "Blue Lamp", Description: "It shines."}
	text := func(s string) catalogue.Query { return catalogue.Query{Filter: catalogue.Filter{Text: s}} }
	kit.Case("words that it is found by").Given(created...).
		Then(listed(text("lanterns"), "p1"), listed(text("glow"), "p1"), listed(text("l-s"), "p1"), listed(text("small"), "p1"), listed(text("lamp")))
	kit.Case("other words").Given(after(described)...).
		Then(
			projectortest.Rows(`SELECT title_key FROM catalogue.products`, row{"blue lamp"}),
			projectortest.Rows(`SELECT document FROM catalogue.products`, row{*is(described)}),
			listed(text("lamps"), "p1"), listed(text("shine"), "p1"), listed(text("l-s"), "p1"), listed(text("lantern")), listed(text("glow")),
		)

	renamed := catalog.SlugChanged{Slug: "lamp", From: "lantern"}
	moved := []projectortest.Facts{
		on("slug-lamp", catalog.SlugClaimed{Product: "p1"}), on("slug-lantern", catalog.SlugReleased{Product: "p1"}), on("product-p1", renamed).At(later),
	}
	kit.Case("it moves to another slug").Given(created...).Given(moved...).
		Then(append(found(is(renamed)), bySlug([]string{"lamp", "lantern"}, is(renamed), nil))...)
	other := catalog.Created{ID: "p2", Slug: "lantern", Title: "Other", Status: catalog.StatusActive, Variants: []catalog.Variant{{SKU: "O", Price: gbp(0)}}}
	second := catalog.Evolve(catalog.State{}, other).At(began)
	kit.Case("another product takes the slug that it left").Given(created...).Given(moved...).
		Given(on("product-p2", other), on("slug-lantern", catalog.SlugClaimed{Product: "p2"})).
		Then(
			bySlug([]string{"lantern", "lamp", "lantern"}, &second, is(renamed), &second),
			listed(catalogue.Query{Sort: "PRICE"}, "p2", "p1"),
			listed(catalogue.Query{Sort: "TITLE"}, "p2", "p1"),
		)
	kit.EveryEventIsGiven()
	kit.Histories(10, projectortest.Decided(catalog.Evolve, command, "product-1", "product-2", "product-3"))
}

func command(t *rapid.T, stream string) projectortest.Command[catalog.State, catalog.Event] {
	type command = projectortest.Command[catalog.State, catalog.Event]
	id := stream[len("product-"):]
	create := catalog.Create{
		ID: id, Title: "Lantern " + id, Currency: "GBP", Variants: []catalog.Variant{{SKU: "A" + id, Price: gbp(5)}, {SKU: "B" + id, Price: gbp(3)}},
	}
	word := rapid.SampledFrom([]string{"lamp", "lantern", "light"}).Draw(t, "word")
	status := rapid.SampledFrom([]catalog.Status{catalog.StatusActive, catalog.StatusArchived, catalog.StatusDraft}).Draw(t, "status")
	price := catalog.ChangePrice{SKU: "A" + id, Price: gbp(rapid.Int64Range(1, 6).Draw(t, "price"))}
	return rapid.SampledFrom([]command{
		create, create, catalog.Update{Title: &word}, catalog.Update{Description: &word}, catalog.Update{Slug: &word}, catalog.Update{Status: &status}, price,
	}).Draw(t, "command")
}
