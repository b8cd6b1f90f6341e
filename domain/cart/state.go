package cart

import (
	"fmt"
	"slices"

	"github.com/millrace/millrace/domain/money"
)

// Status says what may still happen to a cart.
type Status string

// The statuses of a cart. One that does not exist has none.
const (
	// StatusOpen is a cart that may change.
	StatusOpen Status = "OPEN"
	// StatusCheckedOut is a cart that became an order.
	StatusCheckedOut Status = "CHECKED_OUT"
)

// State is a cart as its events have made it. The zero State is a cart that does not exist.
type State struct {
	Currency money.Currency `json:"currency,omitzero"`
	Status   Status         `json:"status,omitzero"`
	// Lines are in the order in which their SKUs were first added.
	Lines []Line `json:"lines,omitempty"`
	// Order is the id of the order that the cart became.
	Order string `json:"order,omitzero"`
}

// Line is how many units of a SKU the buyer wants.
type Line struct {
	SKU      string `json:"sku"`
	Product  string `json:"product"`
	Title    string `json:"title"`
	Quantity int    `json:"quantity"`
	// UnitPrice is what one unit cost when units were last added.
	UnitPrice money.Money `json:"unitPrice"`
}

// Total returns the price of all units of the line, or money.ErrTooLarge.
func (l Line) Total() (money.Money, error) { return l.UnitPrice.Times(l.Quantity) }

// Exists reports whether the cart has been created.
func (s State) Exists() bool { return s.Status != "" }

// Line returns the line of that SKU, and whether there is one.
func (s State) Line(sku string) (Line, bool) {
	if i := s.line(sku); i >= 0 {
		return s.Lines[i], true
	}
	return Line{}, false
}

func (s State) line(sku string) int {
	return slices.IndexFunc(s.Lines, func(l Line) bool { return l.SKU == sku })
}

// Subtotal returns the price of all lines, or money.ErrTooLarge, which the commands of a cart let no cart come to.
func (s State) Subtotal() (money.Money, error) {
	sum := money.Zero(s.Currency)
	for _, l := range s.Lines {
		total, err := l.Total()
		if err != nil {
			return money.Money{}, err
		}
		if sum, err = sum.Add(total); err != nil {
			return money.Money{}, err
		}
	}
	return sum, nil
}

// Evolve returns the state after e. It leaves alone whatever s points to.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case Created:
		s.Currency, s.Status = e.Currency, StatusOpen
	case LineAdded:
		added := Line{SKU: e.SKU, Product: e.Product, Title: e.Title, Quantity: e.Quantity, UnitPrice: e.UnitPrice}
		if i := s.line(e.SKU); i >= 0 {
			added.Quantity += s.Lines[i].Quantity
			s.Lines = slices.Clone(s.Lines)
			s.Lines[i] = added
		} else {
			s.Lines = slices.Concat(s.Lines, []Line{added})
		}
	case LineChanged:
		if i := s.line(e.SKU); i >= 0 {
			s.Lines = slices.Clone(s.Lines)
			s.Lines[i].Quantity = e.Quantity
		}
	case LineRemoved:
		if i := s.line(e.SKU); i >= 0 {
			s.Lines = slices.Concat(s.Lines[:i], s.Lines[i+1:])
		}
	case CheckedOut:
		s.Status, s.Order = StatusCheckedOut, e.Order
	default:
		panic(fmt.Sprintf("cart: %T is no event of a cart", e))
	}
	return s
}
