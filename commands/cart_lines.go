package commands

import (
	"context"
	"errors"
	"strconv"

	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/rule"
	"github.com/millrace/millrace/internal/es"
)

// LineInput is a number of units of a SKU in any spelling.
type LineInput struct {
	SKU      string
	Quantity int
}

// normalLines returns the lines with their SKUs in the normal spelling. It refuses more lines than a cart may have
// before anything is read for them.
func normalLines(in []LineInput) ([]LineInput, error) {
	if len(in) > cart.MaxLines {
		return nil, rule.New(rule.Invalid, "%d lines, at most %d are allowed", len(in), cart.MaxLines).At("input", "lines")
	}
	lines := make([]LineInput, len(in))
	for i, l := range in {
		lines[i] = LineInput{SKU: catalog.NormalSKU(l.SKU), Quantity: l.Quantity}
	}
	return lines, nil
}

// stocksOf names the streams of the SKUs. Text that can be no SKU names none.
func stocksOf(lines []LineInput) []string {
	names := make([]string, 0, len(lines)+1)
	for _, l := range lines {
		if catalog.ValidSKU(l.SKU) {
			names = append(names, Stocks.Stream(l.SKU).Name())
		}
	}
	return names
}

func errUnknownSKU(sku string) *rule.Error {
	return rule.New(rule.NotFound, "there is no %q for sale", clip(sku)).At("sku")
}

// clip keeps what people typed short enough to be repeated to them.
func clip(s string) string {
	const most = 64
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "..."
	}
	return s
}

// offer is what the catalogue says of lines at the moment of a decision.
type offer struct {
	lines    []cart.NewLine
	products []catalog.State // of the lines, in their order
}

// told returns the products for an answer. Under a key there are none: a repetition, which may be decided before it is known as one, must not show them as they
// are by then.
func (o offer) told(ctx context.Context) []catalog.State {
	if _, keyed := KeyFrom(ctx); keyed {
		return nil
	}
	return o.products
}

// offered completes lines with what the catalogue says of their SKUs at this moment. It refuses SKUs that shoppers do not
// see.
func offered(d *es.Decision, lines []LineInput) (offer, error) {
	if err := d.Need(stocksOf(lines)...); err != nil {
		return offer{}, err
	}
	owners := make([]string, len(lines)) // products' ids; empty where nobody sells the SKU
	var products []string
	for i, l := range lines {
		if !catalog.ValidSKU(l.SKU) {
			continue
		}
		stock, err := es.State(d, Stocks.Stream(l.SKU))
		if err != nil {
			return offer{}, err
		}
		if stock.Opened() {
			owners[i] = stock.Product
			products = append(products, Products.Stream(stock.Product).Name())
		}
	}
	if err := d.Need(products...); err != nil {
		return offer{}, err
	}
	complete := offer{lines: make([]cart.NewLine, len(lines)), products: make([]catalog.State, len(lines))}
	var errs []error
	for i, l := range lines {
		var product catalog.State
		if owners[i] != "" {
			var err error
			if product, err = es.State(d, Products.Stream(owners[i])); err != nil {
				return offer{}, err
			}
		}
		variant, ok := product.Variant(l.SKU)
		if !ok || product.Status != catalog.StatusActive {
			errs = append(errs, errUnknownSKU(l.SKU).At("input", "lines", strconv.Itoa(i)))
			continue
		}
		complete.products[i] = product
		complete.lines[i] = cart.NewLine{
			SKU: l.SKU, Product: product.ID, Title: product.LineTitle(variant), Quantity: l.Quantity, UnitPrice: variant.Price,
		}
	}
	if len(errs) > 0 {
		return offer{}, errors.Join(errs...)
	}
	return complete, nil
}

// cartStream returns the stream of a cart whose id a client sent.
func cartStream(id string) (es.Stream[cart.State], error) {
	if !isID(id) {
		return es.Stream[cart.State]{}, cart.ErrNotFound.At("input")
	}
	return Carts.Stream(CartRef(id)), nil
}
