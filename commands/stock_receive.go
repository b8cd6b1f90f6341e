package commands

import (
	"context"

	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/internal/es"
)

// StockReceive takes delivered units in.
type StockReceive struct {
	// SKU is in any spelling.
	SKU      string
	Quantity int
	// Reference is the sender's own word for the delivery; may be empty.
	Reference string
}

// StockResult is the stock of a SKU as a command left it.
type StockResult struct {
	State inventory.State
	// Product is whose SKU it is, and Variant the product's variant with that SKU.
	Product  catalog.State
	Variant  catalog.Variant
	Position int64
}

// StockReceive answers with the stock. Refusals: rule.NotFound at input, sku; rule.Invalid at input, quantity or
// reference.
func (a *App) StockReceive(ctx context.Context, in StockReceive) (StockResult, error) {
	command := inventory.Receive{Quantity: in.Quantity, Reference: in.Reference}
	return a.moveStock(ctx, "stock.receive", in.SKU, in, command.Decide)
}

// moveStock executes what concerns the stock of one SKU.
func (a *App) moveStock(
	ctx context.Context, name, sku string, input any, decide func(inventory.State) ([]inventory.Event, error),
) (StockResult, error) {
	sku = catalog.NormalSKU(sku)
	if !catalog.ValidSKU(sku) {
		return StockResult{}, inventory.ErrNotFound.At("input", "sku")
	}
	stream := Stocks.Stream(sku)
	stock, owner := newShown(Stocks), newShown(Products)
	position, err := a.execute(ctx, es.Command{
		Name:    name,
		Streams: []string{stream.Name()},
		Decide: func(d *es.Decision) error {
			before, err := es.State(d, stream)
			if err != nil {
				return err
			}
			events, err := decide(before)
			if err != nil {
				return at(err, "input")
			}
			products := Products.Stream(before.Product)
			product, err := es.State(d, products)
			if err != nil {
				return err
			}
			owner.set(products, product)
			stock.set(stream, es.Append(d, stream, events...))
			return nil
		},
	}, input, stock, owner)
	if err != nil {
		return StockResult{}, err
	}
	variant, _ := owner.state.Variant(sku)
	return StockResult{State: stock.state, Product: owner.state, Variant: variant, Position: position}, nil
}
