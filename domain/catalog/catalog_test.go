package catalog_test

import (
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/internal/given"
	"github.com/millrace/millrace/domain/money"
)

type (
	row     = given.Case[catalog.State, catalog.Event]
	slugRow = given.Case[catalog.SlugState, catalog.SlugEvent]
)

func gbp(minor int64) money.Money { return money.Money{Minor: minor, Currency: "GBP"} }

func created() catalog.Created {
	return catalog.Created{
		ID: "p1", Slug: "heart", Title: "Heart", Description: "White.", Status: catalog.StatusDraft,
		Variants: []catalog.Variant{{SKU: "85123A", Title: "S", Price: gbp(295)}, {SKU: "BANK CHARGES", Price: gbp(0)}},
	}
}

func create(change func(*catalog.Create)) catalog.Create {
	c := catalog.Create{
		ID: "p1", Slug: "heart", Title: " Heart ", Description: "White.", Currency: "GBP",
		Variants: []catalog.Variant{{SKU: " 85123a ", Title: " S", Price: gbp(295)}, {SKU: "bank charges", Price: gbp(0)}},
	}
	change(&c)
	return c
}

func variants(n int) []catalog.Variant {
	all := make([]catalog.Variant, n)
	for i := range all {
		all[i] = catalog.Variant{SKU: strings.Repeat("X", i%60+1) + string(rune('A'+i/60)), Price: gbp(1)}
	}
	return all
}

func TestCreate(t *testing.T) {
	t.Parallel()
	as := func(change func(*catalog.Created)) []catalog.Event {
		e := created()
		change(&e)
		return []catalog.Event{e}
	}
	given.Run(t, catalog.Evolve, []row{
		{Name: "a draft, its names made normal", When: create(func(*catalog.Create) {}), Then: []catalog.Event{created()}},
		{Name: "active at once", When: create(func(c *catalog.Create) { c.Status = catalog.StatusActive }),
			Then: as(func(e *catalog.Created) { e.Status = catalog.StatusActive })},
		{Name: "a slug from the title", When: create(func(c *catalog.Create) { c.Slug, c.Title = "", "Crème brûlée!" }),
			Then: as(func(e *catalog.Created) { e.Slug, e.Title = "creme-brulee", "Crème brûlée!" })},
		{Name: "a hundred variants", When: create(func(c *catalog.Create) { c.Variants = variants(100) }),
			Then: as(func(e *catalog.Created) { e.Variants = variants(100) })},
		{Name: "twice", Given: []catalog.Event{created()}, When: create(func(*catalog.Create) {}), Broken: []string{"CONFLICT id"}},
		{Name: "no id", When: create(func(c *catalog.Create) { c.ID = "" }), Broken: []string{"INVALID id"}},
		{Name: "a bad slug", When: create(func(c *catalog.Create) { c.Slug = "Two words" }), Broken: []string{"INVALID slug"}},
		{Name: "a blank title", When: create(func(c *catalog.Create) { c.Title = " \t " }), Broken: []string{"INVALID title"}},
		{Name: "a long title", When: create(func(c *catalog.Create) { c.Title = strings.Repeat("é", 201) }), Broken: []string{"INVALID title"}},
		{Name: "a long description", When: create(func(c *catalog.Create) { c.Description = strings.Repeat("x", 10_001) }),
			Broken: []string{"INVALID description"}},
		{Name: "a status that there is not", When: create(func(c *catalog.Create) { c.Status = "SECRET" }), Broken: []string{"INVALID status"}},
		{Name: "no variants", When: create(func(c *catalog.Create) { c.Variants = nil }), Broken: []string{"INVALID variants"}},
		{Name: "too many variants", When: create(func(c *catalog.Create) { c.Variants = variants(101) }), Broken: []string{"INVALID variants"}},
		{Name: "all that is wrong at once", When: create(func(c *catalog.Create) {
			c.Title = ""
			c.Variants = []catalog.Variant{
				{SKU: "a", Price: gbp(1)},
				{SKU: " A ", Price: gbp(-1)},
				{SKU: "", Title: "x\x00", Price: money.Money{Minor: 1, Currency: "EUR"}},
			}
		}), Broken: []string{"INVALID title", "INVALID variants.1.price", "INVALID variants.1.sku", "INVALID variants.2.sku",
			"INVALID variants.2.title", "INVALID variants.2.price"}},
	})
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	history := []catalog.Event{created()}
	active, archived, draft, none := catalog.StatusActive, catalog.StatusArchived, catalog.StatusDraft, catalog.Status("")
	given.Run(t, catalog.Evolve, []row{
		{Name: "nothing given", Given: history, When: catalog.Update{}},
		{Name: "nothing new", Given: history,
			When: catalog.Update{Slug: new("heart"), Title: new("Heart "), Description: new("White."), Status: &draft}},
		{Name: "everything new", Given: history,
			When: catalog.Update{Slug: new("hearts"), Title: new("Hearts"), Description: new(""), Status: &active},
			Then: []catalog.Event{catalog.SlugChanged{Slug: "hearts", From: "heart"}, catalog.Described{Title: "Hearts"}, catalog.Published{}}},
		{Name: "one detail keeps the other", Given: history, When: catalog.Update{Title: new("Hearts")},
			Then: []catalog.Event{catalog.Described{Title: "Hearts", Description: "White."}}},
		{Name: "archive", Given: append(history, catalog.Published{}), When: catalog.Update{Status: &archived}, Then: []catalog.Event{catalog.Archived{}}},
		{Name: "back to a draft", Given: append(history, catalog.Published{}), When: catalog.Update{Status: &draft}, Then: []catalog.Event{catalog.Unpublished{}}},
		{Name: "offer again", Given: append(history, catalog.Archived{}), When: catalog.Update{Status: &active}, Then: []catalog.Event{catalog.Published{}}},
		{Name: "no product", When: catalog.Update{Title: new("Hearts")}, Broken: []string{"NOT_FOUND id"}},
		{Name: "all that is wrong at once", Given: history,
			When:   catalog.Update{Slug: new(""), Title: new(""), Description: new("\x00"), Status: &none},
			Broken: []string{"INVALID slug", "INVALID title", "INVALID description", "INVALID status"}},
	})
}

func TestChangePrice(t *testing.T) {
	t.Parallel()
	history := []catalog.Event{created()}
	given.Run(t, catalog.Evolve, []row{
		{Name: "another price", Given: history, When: catalog.ChangePrice{SKU: "85123a", Price: gbp(255)},
			Then: []catalog.Event{catalog.PriceChanged{SKU: "85123A", Price: gbp(255), Was: gbp(295)}}},
		{Name: "the same price", Given: history, When: catalog.ChangePrice{SKU: "85123A", Price: gbp(295)}},
		{Name: "a negative price", Given: history, When: catalog.ChangePrice{SKU: "85123A", Price: gbp(-1)}, Broken: []string{"INVALID price"}},
		{Name: "another currency", Given: history, When: catalog.ChangePrice{SKU: "85123A", Price: money.Money{Minor: 255, Currency: "EUR"}},
			Broken: []string{"INVALID price"}},
		{Name: "no variant", Given: history, When: catalog.ChangePrice{SKU: "22197", Price: gbp(255)}, Broken: []string{"NOT_FOUND sku"}},
		{Name: "no product", When: catalog.ChangePrice{SKU: "85123A", Price: gbp(255)}, Broken: []string{"NOT_FOUND sku"}},
	})
}

func TestSlug(t *testing.T) {
	t.Parallel()
	mine := []catalog.SlugEvent{catalog.SlugClaimed{Product: "p1"}}
	given.Run(t, catalog.EvolveSlug, []slugRow{
		{Name: "claim", When: catalog.ClaimSlug{Product: "p1"}, Then: mine},
		{Name: "claim again", Given: mine, When: catalog.ClaimSlug{Product: "p1"}},
		{Name: "claim another's", Given: mine, When: catalog.ClaimSlug{Product: "p2"}, Broken: []string{"CONFLICT slug"}},
		{Name: "release", Given: mine, When: catalog.ReleaseSlug{Product: "p1"}, Then: []catalog.SlugEvent{catalog.SlugReleased{Product: "p1"}}},
		{Name: "release what is free", When: catalog.ReleaseSlug{Product: "p1"}},
		{Name: "release another's", Given: mine, When: catalog.ReleaseSlug{Product: "p2"}, Broken: []string{"CONFLICT slug"}},
		{Name: "claim what was released", Given: append(mine, catalog.SlugReleased{Product: "p1"}), When: catalog.ClaimSlug{Product: "p2"},
			Then: []catalog.SlugEvent{catalog.SlugClaimed{Product: "p2"}}},
	})
}

func TestEveryEventCounts(t *testing.T) {
	t.Parallel()
	given.EveryEventCounts(t, catalog.Evolve, catalog.Events(), []catalog.Event{
		created(), catalog.Described{Title: "Hearts"}, catalog.SlugChanged{Slug: "hearts", From: "heart"}, catalog.Published{},
		catalog.Archived{}, catalog.Unpublished{}, catalog.PriceChanged{SKU: "85123A", Price: gbp(1), Was: gbp(295)},
	})
	given.EveryEventCounts(t, catalog.EvolveSlug, catalog.SlugEvents(), []catalog.SlugEvent{
		catalog.SlugClaimed{Product: "p1"}, catalog.SlugReleased{Product: "p1"},
	})
}

func TestStoredEvents(t *testing.T) {
	t.Parallel()
	var all []interface{ EventType() string }
	for _, e := range catalog.Events() {
		all = append(all, e)
	}
	for _, e := range catalog.SlugEvents() {
		all = append(all, e)
	}
	given.Stored(t, all...)
}

func TestAtKeepsTheFirstTime(t *testing.T) {
	t.Parallel()
	first := time.Date(2010, 12, 1, 8, 26, 0, 0, time.FixedZone("", 3600))
	s := catalog.Evolve(catalog.State{}, created()).At(first)
	s = catalog.Evolve(s, catalog.Published{}).At(first.Add(time.Hour))
	if s.CreatedAt != first.UTC() || s.UpdatedAt != first.UTC().Add(time.Hour) {
		t.Errorf("created at %v, updated at %v", s.CreatedAt, s.UpdatedAt)
	}
}

func TestWhatABuyerReads(t *testing.T) {
	t.Parallel()
	s := catalog.Evolve(catalog.State{}, created())
	for sku, want := range map[string]string{"85123A": "Heart – S", "BANK CHARGES": "Heart"} {
		v, ok := s.Variant(sku)
		if got := s.LineTitle(v); !ok || got != want {
			t.Errorf("%s is called %q (%v), want %q", sku, got, ok, want)
		}
	}
	if _, ok := s.Variant("85123a"); ok {
		t.Error("a SKU is found under another spelling than its normal one")
	}
}

func TestSlugify(t *testing.T) {
	t.Parallel()
	for title, want := range map[string]string{
		"WHITE HANGING HEART T-LIGHT HOLDER": "white-hanging-heart-t-light-holder",
		"Children's  Apron -- \"Dolly\"":     "childrens-apron-dolly",
		"Crème Brûlée":                       "creme-brulee",
		"Cre\u0300me":                        "creme",
		"Straße 7½":                          "strasse-7",
		"-.-":                                "product",
		"":                                   "product",
		"日本":                                 "product",
		"20713":                              "20713",
		strings.Repeat("ab ", 40):            strings.TrimSuffix(strings.Repeat("ab-", 27), "-"),
		strings.Repeat("x", 90):              strings.Repeat("x", 80),
	} {
		if got := catalog.Slugify(title); got != want {
			t.Errorf("%q becomes %q, want %q", title, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		title := rapid.String().Draw(t, "title")
		slug := catalog.Slugify(title)
		if !catalog.ValidSlug(slug) {
			t.Fatalf("%q becomes %q, which is not valid", title, slug)
		}
		if again := catalog.Slugify(slug); again != slug {
			t.Fatalf("%q becomes %q when done again", slug, again)
		}
	})
}

func TestValidSlug(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "-a", "a-", "a--b", "A", "a b", "é", "a/b", "a_b", strings.Repeat("a", 81)} {
		if catalog.ValidSlug(s) {
			t.Errorf("%q is valid", s)
		}
	}
}

func TestSKU(t *testing.T) {
	t.Parallel()
	for raw, want := range map[string]string{"85123a": "85123A", " bank charges\t": "BANK CHARGES", "gift_0001_10": "GIFT_0001_10", "m": "M"} {
		if got := catalog.NormalSKU(raw); got != want || !catalog.ValidSKU(got) {
			t.Errorf("%q is %q, valid: %v", raw, got, catalog.ValidSKU(got))
		}
	}
	for _, s := range []string{"", " A", "A ", "A\tB", "A\x00", "A\nB", "caf\xe9", "A\u00a0B", strings.Repeat("A", 65)} {
		if catalog.ValidSKU(s) {
			t.Errorf("%q is valid", s)
		}
	}
	if s := strings.Repeat("É", 64); !catalog.ValidSKU(s) {
		t.Errorf("%q is not valid", s)
	}
}
