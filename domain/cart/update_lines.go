package cart

import (
	"errors"
	"strconv"

	"github.com/millrace/millrace/domain/money"
)

// UpdateLines sets how many units of some SKUs a cart has.
type UpdateLines struct{ Lines []Quantity }

// Quantity is how many units of a SKU the cart shall have.
type Quantity struct {
	// SKU is in its normal spelling.
	SKU string
	// Quantity is 1 to MaxQuantity, or 0 to remove the line.
	Quantity int
}

// Decide answers with a LineChanged or LineRemoved for each line that really changes; or with ErrNotFound, ErrClosed, or
// joined: rule.NotFound for each SKU that is not in the cart, rule.Invalid for each bad quantity.
func (c UpdateLines) Decide(s State) ([]Event, error) {
	if err := open(s); err != nil {
		return nil, err
	}
	units := make(map[string]int, len(s.Lines))
	prices := make(map[string]money.Money, len(s.Lines))
	for _, l := range s.Lines {
		units[l.SKU], prices[l.SKU] = l.Quantity, l.UnitPrice
	}
	var (
		events []Event
		errs   []error
	)
	for i, l := range c.Lines {
		at := []string{"lines", strconv.Itoa(i)}
		had, ok := units[l.SKU]
		switch {
		case l.Quantity < 0 || l.Quantity > MaxQuantity:
			errs = append(errs, errQuantity(l.Quantity, 0).At(at...))
		case !ok:
			errs = append(errs, errNotInCart(l.SKU).At(at...))
		case l.Quantity == 0:
			delete(units, l.SKU)
			events = append(events, LineRemoved{SKU: l.SKU})
		case l.Quantity != had:
			units[l.SKU] = l.Quantity
			events = append(events, LineChanged(l))
		}
	}
	if len(errs) == 0 && !fits(units, prices, s.Currency) {
		errs = append(errs, money.ErrTooLarge.At("lines"))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return events, nil
}
