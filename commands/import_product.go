package commands

import (
	"time"

	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/internal/es"
)

// ImportProduct is a product of one variant that invoices of the past need.
type ImportProduct struct {
	// SKU is in its normal spelling.
	SKU string
	// Slug is a wish: it is put into the form of a slug, with a number behind it where another product has it. Empty means
	// one made from the title.
	Slug        string
	Title       string
	Description string
	Price       money.Money
	// Available is how many units there shall be at least, for everything that is still to be imported to find enough.
	Available int
	// At is when all this happened; zero means now.
	At time.Time
}

// ImportProduct returns the command that creates the product, ACTIVE, and receives as many units as are missing. Where the
// SKU is some product's already, that product stays as it is, and only missing units are received: the command can be
// repeated. Refusals are those of the domain.
func (a *App) ImportProduct(in ImportProduct) es.Command {
	if err := checkSKU(in.SKU); err != nil {
		return refused("import.product", err)
	}
	if in.Slug != "" && !catalog.ValidSlug(in.Slug) {
		in.Slug = catalog.Slugify(in.Slug)
	}
	creation := newProduct(catalog.Create{
		ID: newID(), Slug: in.Slug, Title: in.Title, Description: in.Description, Status: catalog.StatusActive,
		Currency: a.currency, Variants: []catalog.Variant{{SKU: in.SKU, Price: in.Price}},
	}, false)
	stream := Stocks.Stream(in.SKU)
	return es.Command{
		Name:       "import.product",
		Streams:    creation.streams(),
		OccurredAt: in.At,
		Decide: func(d *es.Decision) error {
			stock, err := es.State(d, stream)
			if err != nil {
				return err
			}
			if !stock.Opened() {
				if _, err := creation.decide(d); err != nil {
					return err
				}
				if stock, err = es.State(d, stream); err != nil {
					return err
				}
			}
			if missing := in.Available - stock.Available(); missing > 0 {
				received, err := inventory.Receive{Quantity: missing, Reference: ImportReference}.Decide(stock)
				if err != nil {
					return err
				}
				es.Append(d, stream, received...)
			}
			return nil
		},
	}
}
