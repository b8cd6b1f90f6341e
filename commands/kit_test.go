package commands_test

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/commands/commandtest"
	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/rule"
)

func pounds(minor int64) money.Money { return money.Money{Minor: minor, Currency: "GBP"} }

func ptr[T any](v T) *T { return &v }

// Ids have the form of those that the commands make.
const (
	mug    = "mugmugmugmugmugmugmugmugmu" // A product with the SKUs MUG-S and MUG-L.
	teapot = "teapotteapotteapotteapottq"
	cartID = "cartcartcartcartcartcartca"
)

// shop returns a kit with a shop that sells a mug in two sizes, ten of each, and keeps a teapot as a draft.
func shop(t *testing.T) *commandtest.Kit {
	k := commandtest.New(t)
	k.Given("product-"+mug, catalog.Created{
		ID: mug, Slug: "mug", Title: "Mug", Status: catalog.StatusActive,
		Variants: []catalog.Variant{{SKU: "MUG-S", Title: "Small", Price: pounds(500)}, {SKU: "MUG-L", Title: "Large", Price: pounds(750)}},
	})
	k.Given("slug-mug", catalog.SlugClaimed{Product: mug})
	k.Given("stock-MUG-S", inventory.Opened{SKU: "MUG-S", Product: mug}, inventory.Received{Quantity: 10})
	k.Given("stock-MUG-L", inventory.Opened{SKU: "MUG-L", Product: mug}, inventory.Received{Quantity: 10})
	k.Given("product-"+teapot, catalog.Created{
		ID: teapot, Slug: "teapot", Title: "Teapot", Status: catalog.StatusDraft,
		Variants: []catalog.Variant{{SKU: "POT", Price: pounds(2000)}},
	})
	k.Given("slug-teapot", catalog.SlugClaimed{Product: teapot})
	k.Given("stock-POT", inventory.Opened{SKU: "POT", Product: teapot})
	return k
}

var cartStream = "cart-" + commands.CartRef(cartID)

func mugLine(sku string, quantity int) cart.LineAdded {
	if sku == "MUG-S" {
		return cart.LineAdded{SKU: sku, Product: mug, Title: "Mug – Small", UnitPrice: pounds(500), Quantity: quantity}
	}
	return cart.LineAdded{SKU: sku, Product: mug, Title: "Mug – Large", UnitPrice: pounds(750), Quantity: quantity}
}

// shopWithCart is a shop with a cart that has two small mugs and a large one.
func shopWithCart(t *testing.T) *commandtest.Kit {
	k := shop(t)
	k.Given(cartStream, cart.Created{Currency: "GBP"}, mugLine("MUG-S", 2), mugLine("MUG-L", 1))
	return k
}

// refusals lists the rules that err says were broken, each as "CODE path.of.the.field".
func refusals(err error) []string {
	var broken []string
	for _, e := range rule.All(err) {
		broken = append(broken, strings.TrimSpace(string(e.Code)+" "+strings.Join(e.Field, ".")))
	}
	return broken
}

// wantRefusals fails the test unless err is exactly these broken rules and nothing happened.
func wantRefusals(t *testing.T, k *commandtest.Kit, err error, want ...string) {
	t.Helper()
	if got := refusals(err); !reflect.DeepEqual(got, want) {
		t.Fatalf("got refusals %q (%v), want %q", got, err, want)
	}
	k.Then()
}

func must[T any](t *testing.T) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func entry(stream string, fact any) commandtest.Entry {
	return commandtest.Entry{Stream: stream, Fact: fact}
}

var ctx = context.Background()
