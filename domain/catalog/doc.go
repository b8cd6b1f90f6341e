// Package catalog decides what the shop offers: products with their variants, prices and public names.
//
// A product is the stream product-<id>. Its status is one of three, and every step between them is open:
//
//	DRAFT ⇄ ACTIVE ⇄ ARCHIVED ⇄ DRAFT
//
// DRAFT is being prepared, ACTIVE is what shoppers see, ARCHIVED is no longer offered; a product begins as DRAFT unless
// the command says otherwise.
//
// Invariants: a product has 1 to 100 variants, each with a SKU of its own, and prices that are not negative and all in
// the shop's currency. Titles, descriptions and slugs keep their limits.
//
// That no two products have one slug is the concern of the stream slug-<slug>, which holds who has claimed it: claiming
// it is decided in the same append as the product's own event. In the same way the SKU of a variant is claimed by opening
// its stock (package inventory).
package catalog
