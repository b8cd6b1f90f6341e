package commands

import (
	"context"
	"errors"
	"strconv"

	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/rule"
	"github.com/millrace/millrace/internal/es"
)

// CartLinesUpdate sets how many units of some SKUs a cart has; 0 removes the line.
type CartLinesUpdate struct {
	CartID string
	Lines  []LineInput
}

// CartLinesUpdate answers with the cart. Refusals: rule.NotFound or rule.CartClosed at input, cartId; rule.NotFound at
// input, lines, <i>, sku for a SKU that is not in the cart; rule.Invalid there for one that stands in two lines, at that
// line's quantity, or at input, lines.
func (a *App) CartLinesUpdate(ctx context.Context, in CartLinesUpdate) (CartResult, error) {
	stream, err := cartStream(in.CartID)
	if err != nil {
		return CartResult{}, err
	}
	lines, err := normalLines(in.Lines)
	if err != nil {
		return CartResult{}, err
	}
	update := cart.UpdateLines{Lines: make([]cart.Quantity, len(lines))}
	seen := make(map[string]bool, len(lines))
	var errs []error
	for i, l := range lines {
		if seen[l.SKU] {
			errs = append(errs, rule.New(rule.Invalid, "%q stands in an earlier line too", clip(l.SKU)).
				At("input", "lines", strconv.Itoa(i), "sku"))
		}
		seen[l.SKU] = true
		update.Lines[i] = cart.Quantity(l)
	}
	if len(errs) > 0 {
		return CartResult{}, errors.Join(errs...)
	}
	answer := newShown(Carts)
	position, err := a.execute(ctx, es.Command{
		Name:    "cart.lines_update",
		Streams: []string{stream.Name()},
		Decide: func(d *es.Decision) error {
			before, err := es.State(d, stream)
			if err != nil {
				return err
			}
			events, err := update.Decide(before)
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
	return CartResult{ID: in.CartID, State: answer.state, Position: position}, nil
}
