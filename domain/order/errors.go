package order

import (
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/rule"
)

// MaxQuantity is how many units one line may have.
const MaxQuantity = 1_000_000_000

const (
	maxNumber   = 64
	maxLines    = 10_000
	maxReason   = 500
	maxTracking = 200
)

// Rules of an order.
var (
	// ErrNotFound is the refusal to change an order that does not exist.
	ErrNotFound = rule.New(rule.NotFound, "there is no such order").At("orderId")
	// ErrExists is the refusal to place an order under a number that is taken.
	ErrExists = rule.New(rule.Conflict, "there is an order of this number already")

	errNoTime = rule.New(rule.Invalid, "an order needs the time at which it is placed").At("placedAt")
	errLine   = rule.New(rule.Invalid, "a line needs a SKU, a product and a price that is not negative")
)

func errTotal(is, expected money.Money) *rule.Error {
	return rule.New(rule.TotalChanged, "the total is %s, not %s", is, expected).At("expectedTotal")
}

func errLineCount(n int) *rule.Error {
	return rule.New(rule.Invalid, "an order has 1 to %d lines, not %d", maxLines, n).At("lines")
}

func errQuantity(n int) *rule.Error {
	return rule.New(rule.Invalid, "the quantity must be 1 to %d, not %d", MaxQuantity, n).At("quantity")
}

func errSameID(id string) *rule.Error {
	return rule.New(rule.Invalid, "%q is the id of an earlier line too", id).At("id")
}

func errMixed(got, want money.Currency) *rule.Error {
	return rule.New(rule.Invalid, "the price is in %s, the order in %s", got, want)
}

func errCurrency(c money.Currency) *rule.Error {
	return rule.New(rule.Invalid, "%q is not an active ISO 4217 currency code", string(c)).At("currency")
}

func errStatus(step string, s Status) *rule.Error {
	return rule.New(rule.NotAllowed, "an order that is %s cannot be %s", s, step).At("orderId")
}

func errSent() *rule.Error {
	return rule.New(rule.NotAllowed, "an order of which units have been sent cannot be cancelled").At("orderId")
}

func errNoLine(id string) *rule.Error {
	return rule.New(rule.NotFound, "the order has no line %q", id).At("id")
}

func errReturn(left int) *rule.Error {
	return rule.New(rule.NotAllowed, "%d units of the line can be returned", left).At("quantity")
}
