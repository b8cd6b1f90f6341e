package commands

import (
	"context"
	"fmt"
	"strconv"

	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/catalog"
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
	// Products are those of the lines that were put into it, as the decision saw them; none under a key.
	Products []catalog.State
	// Position is that of the effect.
	Position int64
}

// CartCreate answers with the cart and its id, which is in no event and can be had here only: under a key of the context it is derived
// from the key. Refusals: rule.NotFound at input, lines, <i>, sku for a SKU that shoppers do not see; rule.Invalid at that line's
// quantity, or at input, lines.
func (a *App) CartCreate(ctx context.Context, in CartCreate) (CartResult, error) {
	lines, err := normalLines(in.Lines)
	if err != nil {
		return CartResult{}, err
	}
	ids := a.cartIDs(ctx)
	answer := newShown(Carts)
	var found offer
	position, err := a.execute(ctx, es.Command{
		Name:    "cart.create",
		Streams: stocksOf(lines),
		Decide: func(d *es.Decision) error {
			var err error
			if found, err = offered(d, lines); err != nil {
				return err
			}
			stream, before, err := ids.free(d)
			if err != nil {
				return err
			}
			events, err := cart.Create{Currency: a.currency, Lines: found.lines}.Decide(before)
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
	id, err := ids.of(answer.stream())
	if err != nil {
		return CartResult{}, err
	}
	return CartResult{ID: id, State: answer.state, Products: found.told(ctx), Position: position}, nil
}

// cartIDs are the ids that a new cart may have, the first that is free. Under a key they follow from it, so that no record has to hold
// one; there are several since a key may be used anew once it was forgotten.
type cartIDs struct {
	random string
	key    *Key
	secret []byte
}

func (a *App) cartIDs(ctx context.Context) cartIDs {
	if key, ok := KeyFrom(ctx); ok {
		return cartIDs{key: &key, secret: a.keys.idempotency}
	}
	return cartIDs{random: newID()}
}

// maxUses is how often one key can be used for a new cart, each time once it was forgotten: every day for eleven years.
const maxUses = 4096

// at returns the id of the nth use of the key.
func (c cartIDs) at(n int) string {
	return lower32.EncodeToString(c.key.hash(c.secret, "cart", strconv.Itoa(n))[:idBytes])
}

// free returns the stream of the first id that no cart has.
func (c cartIDs) free(d *es.Decision) (es.Stream[cart.State], cart.State, error) {
	if c.key == nil {
		stream := Carts.Stream(CartRef(c.random))
		return stream, es.Minted(d, stream), nil
	}
	state := es.Presumed[cart.State]
	for n := range maxUses {
		stream := Carts.Stream(CartRef(c.at(n)))
		if before, err := state(d, stream); err != nil || !before.Exists() {
			return stream, before, err
		}
		state = es.State // it has been used before, who knows how often
	}
	return es.Stream[cart.State]{}, cart.State{}, fmt.Errorf("commands: a key was used for %d carts", maxUses)
}

// of returns the id of the cart with that stream.
func (c cartIDs) of(stream string) (string, error) {
	if c.key == nil {
		return c.random, nil
	}
	for n := range maxUses {
		if id := c.at(n); Carts.Stream(CartRef(id)).Name() == stream {
			return id, nil
		}
	}
	return "", fmt.Errorf("commands: the cart of an idempotency key is not one of the key's, but %s", stream)
}
