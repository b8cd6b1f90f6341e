package commands

import (
	"context"

	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/internal/es"
)

// CartLinesAdd puts units into a cart, on top of those that it has. A SKU that stands in several lines counts with their
// sum.
type CartLinesAdd struct {
	CartID string
	Lines  []LineInput
}

// CartLinesAdd answers with the cart. Refusals: rule.NotFound or rule.CartClosed at input, cartId, and those of
// CartCreate.
func (a *App) CartLinesAdd(ctx context.Context, in CartLinesAdd) (CartResult, error) {
	stream, err := cartStream(in.CartID)
	if err != nil {
		return CartResult{}, err
	}
	lines, err := normalLines(in.Lines)
	if err != nil {
		return CartResult{}, err
	}
	answer := newShown(Carts)
	var found offer
	position, err := a.execute(ctx, es.Command{
		Name:    "cart.lines_add",
		Streams: append(stocksOf(lines), stream.Name()),
		Decide: func(d *es.Decision) error {
			before, err := es.State(d, stream)
			if err != nil {
				return err
			}
			if _, err := (cart.AddLines{}).Decide(before); err != nil {
				return at(err, "input") // a closed cart is refused whatever is to be put into it
			}
			if found, err = offered(d, lines); err != nil {
				return err
			}
			events, err := cart.AddLines{Lines: found.lines}.Decide(before)
			if err != nil {
				return at(err, "input")
			}
			answer.set(stream, es.Append(d, stream, events...))
			return nil
		},
	}, in, answer)
	if err != nil {
		return CartResult{}, err
	}
	return CartResult{ID: in.CartID, State: answer.state, Products: found.told(ctx), Position: position}, nil
}
