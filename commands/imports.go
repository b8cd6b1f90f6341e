package commands

import (
	"strconv"

	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/rule"
	"github.com/millrace/millrace/internal/es"
)

// ImportReference stands, in what was imported, where a payment provider's or a supplier's own word would.
const ImportReference = "imported"

var errInvoiceNumber = rule.New(rule.Invalid, "an invoice number has 1 to %d letters, digits, hyphens and underscores", maxOrderID)

// IsInvoiceNumber reports whether an invoice of that number can be imported.
func IsInvoiceNumber(s string) bool { return isOrderID(s) }

// refused returns a command that is refused whatever the state: it names no streams, since the input cannot.
func refused(name string, err error) es.Command {
	return es.Command{Name: name, Decide: func(*es.Decision) error { return err }}
}

func checkSKU(sku string) *rule.Error {
	if !catalog.ValidSKU(sku) || sku != catalog.NormalSKU(sku) {
		return rule.New(rule.Invalid, "%q is not a SKU in its normal spelling", clip(sku)).At("sku")
	}
	return nil
}

// lineID returns the id of an imported order's line, from its place on the invoice.
func lineID(place int) string { return strconv.Itoa(place) }
