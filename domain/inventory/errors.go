package inventory

import "github.com/millrace/millrace/domain/rule"

// MaxQuantity is how many units one command may move.
const MaxQuantity = 1_000_000_000

// MaxOnHand is how many units of one SKU there may be.
const MaxOnHand = 1<<31 - 1

const (
	maxReference = 200
	maxReason    = 500
)

// Rules of a stock.
var (
	// ErrNotFound is the refusal to move units of a SKU that is no product's.
	ErrNotFound = rule.New(rule.NotFound, "there is no such SKU")
	// ErrNothing is the refusal of an adjustment by zero.
	ErrNothing = rule.New(rule.Invalid, "an adjustment by 0 changes nothing").At("delta")

	errNames = rule.New(rule.Invalid, "a stock needs a SKU and a product")
)

func errTaken(sku string) *rule.Error {
	return rule.New(rule.Conflict, "the SKU %s is another product's", sku).At("sku")
}

func errQuantity(n int) *rule.Error {
	return rule.New(rule.Invalid, "the quantity must be 1 to %d, not %d", MaxQuantity, n).At("quantity")
}

func errDelta(n int) *rule.Error {
	return rule.New(rule.Invalid, "the delta must be -%d to %d, not %d", MaxQuantity, MaxQuantity, n).At("delta")
}

func errTooMany(s State) *rule.Error {
	return rule.New(rule.Invalid, "there are %d of %s; there may be at most %d", s.OnHand, s.SKU, MaxOnHand)
}

// errShort names no field: a buyer whose cart is refused did not name the quantity in the input of the checkout.
func errShort(s State) *rule.Error {
	return rule.New(rule.OutOfStock, "SKU %s: only %d are available", s.SKU, s.Available())
}

func errNotReserved(s State, n int) *rule.Error {
	return rule.New(rule.NotAllowed, "%d of %s reserved, fewer than %d", s.Reserved, s.SKU, n)
}
