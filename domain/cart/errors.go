package cart

import (
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/rule"
)

// MaxQuantity is how many units of one SKU a cart may have.
const MaxQuantity = 100_000

// MaxLines is how many SKUs a cart may have.
const MaxLines = 500

// Rules of a cart.
var (
	// ErrNotFound is the refusal to use a cart that does not exist.
	ErrNotFound = rule.New(rule.NotFound, "there is no such cart").At("cartId")
	// ErrExists is the refusal to create a cart twice.
	ErrExists = rule.New(rule.Conflict, "the cart exists already")
	// ErrClosed is the refusal to change a cart that became an order.
	ErrClosed = rule.New(rule.CartClosed, "the cart has been checked out").At("cartId")
	// ErrEmpty is the refusal to check out a cart without lines.
	ErrEmpty = rule.New(rule.CartEmpty, "the cart has no lines").At("cartId")

	errTooMany = rule.New(rule.Invalid, "a cart has at most %d lines", MaxLines).At("lines")
	errNoLine  = rule.New(rule.Invalid, "a line needs a SKU, a product and a price that is not negative").At("sku")
	errNoOrder = rule.New(rule.Invalid, "a checkout needs an order")
)

func errQuantity(n, least int) *rule.Error {
	return rule.New(rule.Invalid, "the quantity must be %d to %d, not %d", least, MaxQuantity, n).At("quantity")
}

func errSum(sku string, n int) *rule.Error {
	return rule.New(rule.Invalid, "that would make %d of %s, at most %d are allowed", n, sku, MaxQuantity).At("quantity")
}

func errNotInCart(sku string) *rule.Error {
	return rule.New(rule.NotFound, "%s is not in the cart", sku).At("sku")
}

func errCurrency(c money.Currency) *rule.Error {
	if c == "" {
		return rule.New(rule.Invalid, "a cart needs a currency")
	}
	return rule.New(rule.Invalid, "%s is not an active ISO 4217 currency code", string(c))
}

func errMixed(got, want money.Currency) *rule.Error {
	return rule.New(rule.Invalid, "the price is in %s, the cart in %s", got, want).At("sku")
}
