package cart

import (
	"errors"
	"strconv"

	"github.com/millrace/millrace/domain/money"
)

// AddLines puts units into a cart.
type AddLines struct{ Lines []NewLine }

// NewLine is units of a SKU to be put into a cart, with what the catalogue says of that SKU now.
type NewLine struct {
	// SKU is in its normal spelling.
	SKU     string
	Product string
	Title   string
	// Quantity is 1 to MaxQuantity.
	Quantity  int
	UnitPrice money.Money
}

// Decide answers with a LineAdded for each line, none if there are no lines; or with ErrNotFound, ErrClosed, or every
// rule.Invalid that the lines break, joined.
func (c AddLines) Decide(s State) ([]Event, error) {
	if err := open(s); err != nil {
		return nil, err
	}
	return add(s, c.Lines)
}

// open checks that the cart may change.
func open(s State) error {
	switch s.Status {
	case StatusOpen:
		return nil
	case StatusCheckedOut:
		return ErrClosed
	default:
		return ErrNotFound
	}
}

// add decides what follows from adding lines to an open cart. It counts beside the state, whose lines one Evolve after
// the other would copy once a line.
func add(s State, lines []NewLine) ([]Event, error) {
	units := make(map[string]int, len(s.Lines)+len(lines))
	prices := make(map[string]money.Money, len(s.Lines)+len(lines))
	for _, l := range s.Lines {
		units[l.SKU], prices[l.SKU] = l.Quantity, l.UnitPrice
	}
	events := make([]Event, 0, len(lines))
	var errs []error
	for i, l := range lines {
		at := []string{"lines", strconv.Itoa(i)}
		switch sum := units[l.SKU] + l.Quantity; {
		case l.SKU == "" || l.Product == "" || l.UnitPrice.IsNegative():
			errs = append(errs, errNoLine.At(at...))
		case l.UnitPrice.Currency != s.Currency:
			errs = append(errs, errMixed(l.UnitPrice.Currency, s.Currency).At(at...))
		case l.Quantity < 1 || l.Quantity > MaxQuantity:
			errs = append(errs, errQuantity(l.Quantity, 1).At(at...))
		case sum > MaxQuantity:
			errs = append(errs, errSum(l.SKU, sum).At(at...))
		default:
			units[l.SKU], prices[l.SKU] = sum, l.UnitPrice
			events = append(events, LineAdded{
				SKU: l.SKU, Product: l.Product, Title: l.Title, UnitPrice: l.UnitPrice, Quantity: l.Quantity,
			})
		}
	}
	if len(units) > MaxLines {
		errs = append(errs, errTooMany)
	}
	if len(errs) == 0 && !fits(units, prices, s.Currency) {
		errs = append(errs, money.ErrTooLarge.At("lines"))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return events, nil
}

// fits reports whether so many units at such prices, all of one currency, have a subtotal that can be told.
func fits(units map[string]int, prices map[string]money.Money, c money.Currency) bool {
	sum := money.Zero(c)
	for sku, n := range units {
		total, err := prices[sku].Times(n)
		if err != nil {
			return false
		}
		if sum, err = sum.Add(total); err != nil {
			return false
		}
	}
	return true
}
