package commands

import (
	"context"

	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/internal/es"
)

// VariantPriceChange sets what one variant costs from now on.
type VariantPriceChange struct {
	// SKU is in any spelling.
	SKU string
	// Price is a decimal number in the shop's currency.
	Price string
}

// VariantPriceChange answers with the product. Refusals: rule.NotFound at input, sku; rule.Invalid at input, price.
func (a *App) VariantPriceChange(ctx context.Context, in VariantPriceChange) (ProductResult, error) {
	price, err := money.Parse(in.Price, a.currency)
	if err != nil {
		return ProductResult{}, at(err, "input", "price")
	}
	sku := catalog.NormalSKU(in.SKU)
	if !catalog.ValidSKU(sku) {
		return ProductResult{}, inventory.ErrNotFound.At("input", "sku")
	}
	stock := Stocks.Stream(sku)
	answer := newShown(Products)
	position, err := a.execute(ctx, es.Command{
		Name:    "variant.price_change",
		Streams: []string{stock.Name()},
		Decide: func(d *es.Decision) error {
			owner, err := es.State(d, stock)
			if err != nil {
				return err
			}
			if !owner.Opened() {
				return inventory.ErrNotFound.At("input", "sku")
			}
			stream := Products.Stream(owner.Product)
			before, err := es.State(d, stream)
			if err != nil {
				return err
			}
			events, err := catalog.ChangePrice{SKU: sku, Price: price}.Decide(before)
			if err != nil {
				return at(err, "input")
			}
			answer.set(stream, es.Append(d, stream, events...))
			return nil
		},
	}, in, answer)
	if err != nil {
		return ProductResult{}, err
	}
	return ProductResult{State: answer.state, Position: position}, nil
}
