package commands

import (
	"context"

	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/internal/es"
)

// CartCreate begins a cart, with lines or without.
type CartCreate struct{ Lines []LineInput }

// CartResult is a cart as a command left it.
type CartResult struct {
	// ID is the cart's secret id.
	ID string
	// State is the decided state.
	State cart.State
	// Position is that of the effect.
	Position int64
}

// CartCreate answers with the cart and its id, which is in no event and can be had here only. Refusals: rule.NotFound at
// input, lines, <i>, sku for a SKU that shoppers do not see; rule.Invalid at that line's quantity, or at input, lines.
func (a *App) CartCreate(ctx context.Context, in CartCreate) (CartResult, error) {
	lines, err := normalLines(in.Lines)
	if err != nil {
		return CartResult{}, err
	}
	id := newID()
	stream := Carts.Stream(CartRef(id))
	var state cart.State
	outcome, err := a.execute(ctx, es.Command{
		Name:    "cart.create",
		Streams: stocksOf(lines),
		Decide: func(d *es.Decision) error {
			before := es.Minted(d, stream)
			priced, err := offered(d, lines)
			if err != nil {
				return err
			}
			events, err := cart.Create{Currency: a.currency, Lines: priced}.Decide(before)
			if err != nil {
				return at(err, "input")
			}
			state = es.Append(d, stream, events...)
			return nil
		},
	})
	if err != nil {
		return CartResult{}, err
	}
	return CartResult{ID: id, State: state, Position: outcome.Position}, nil
}
