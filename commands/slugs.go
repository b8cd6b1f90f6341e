package commands

import (
	"strconv"
	"strings"

	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/internal/es"
)

// slugsLike returns slug, then slug-2 to slug-25, and at last one that ends in a part of the product's own random id, so
// that a title which many products share needs no long search.
func slugsLike(slug, productID string) []string {
	const numbered = 25
	slugs := make([]string, 0, numbered+1)
	slugs = append(slugs, slug)
	for n := 2; n <= numbered; n++ {
		slugs = append(slugs, withSuffix(slug, strconv.Itoa(n)))
	}
	return append(slugs, withSuffix(slug, productID[:10]))
}

// withSuffix returns slug-suffix, with as much of slug as there is room for.
func withSuffix(slug, suffix string) string {
	for !catalog.ValidSlug(slug+"-"+suffix) && len(slug) > 1 {
		slug = strings.TrimRight(slug[:len(slug)-1], "-")
	}
	return slug + "-" + suffix
}

// claimSlug takes a free slug for a product.
func claimSlug(d *es.Decision, slug, productID string) error {
	stream := Slugs.Stream(slug)
	before, err := es.State(d, stream)
	if err != nil {
		return err
	}
	events, err := catalog.ClaimSlug{Product: productID}.Decide(before)
	if err != nil {
		return err
	}
	es.Append(d, stream, events...)
	return nil
}

// releaseSlug gives a product's slug up.
func releaseSlug(d *es.Decision, slug, productID string) error {
	stream := Slugs.Stream(slug)
	before, err := es.State(d, stream)
	if err != nil {
		return err
	}
	events, err := catalog.ReleaseSlug{Product: productID}.Decide(before)
	if err != nil {
		return err
	}
	es.Append(d, stream, events...)
	return nil
}
