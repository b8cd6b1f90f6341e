package catalog

import (
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/rule"
)

// Rules of a product and its slug.
var (
	// ErrNotFound is the refusal to change a product that does not exist.
	ErrNotFound = rule.New(rule.NotFound, "there is no such product").At("id")
	// ErrExists is the refusal to create a product twice.
	ErrExists = rule.New(rule.Conflict, "the product exists already").At("id")
	// ErrSlugTaken is the refusal of a slug that another product has.
	ErrSlugTaken = rule.New(rule.Conflict, "another product has this slug").At("slug")

	errNoID   = rule.New(rule.Invalid, "a product needs an id").At("id")
	errSlug   = rule.New(rule.Invalid, "a slug is 1 to %d lower-case letters a to z, digits, and single hyphens between them", maxSlug).At("slug")
	errStatus = rule.New(rule.Invalid, "the status must be DRAFT, ACTIVE or ARCHIVED").At("status")
	errSKU    = rule.New(rule.Invalid, "a SKU is 1 to %d printable characters", maxSKU).At("sku")
	errPrice  = rule.New(rule.Invalid, "a price must not be negative").At("price")
)

func errVariantCount(n int) *rule.Error {
	return rule.New(rule.Invalid, "a product has 1 to %d variants, not %d", maxVariants, n).At("variants")
}

func errSameSKU(sku string) *rule.Error {
	return rule.New(rule.Invalid, "%s is the SKU of an earlier variant too", sku).At("sku")
}

func errCurrency(got, want money.Currency) *rule.Error {
	return rule.New(rule.Invalid, "the price must be in %s, not %s", want, got).At("price")
}

func errNoVariant(sku string) *rule.Error {
	return rule.New(rule.NotFound, "the product has no variant %s", sku).At("sku")
}
