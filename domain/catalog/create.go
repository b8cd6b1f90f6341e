package catalog

import (
	"errors"
	"strconv"
	"strings"

	"github.com/millrace/millrace/domain/internal/text"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/rule"
)

// Create brings a product into being.
type Create struct {
	ID string
	// Slug may be empty: then it is Slugify of the title.
	Slug        string
	Title       string
	Description string
	// Status may be empty: then it is StatusDraft.
	Status Status
	// Variants have SKUs in any spelling.
	Variants []Variant
	// Currency is the shop's: every price must be in it.
	Currency money.Currency
}

// Decide answers with Created, ErrExists, or every rule.Invalid that the input breaks, joined.
func (c Create) Decide(s State) ([]Event, error) {
	if s.Exists() {
		return nil, ErrExists
	}
	e := Created{
		ID: c.ID, Slug: c.Slug, Title: strings.TrimSpace(c.Title), Description: c.Description,
		Status: c.Status, Variants: make([]Variant, len(c.Variants)),
	}
	if e.Slug == "" {
		e.Slug = Slugify(e.Title)
	}
	if e.Status == "" {
		e.Status = StatusDraft
	}
	var errs []error
	if e.ID == "" {
		errs = append(errs, errNoID)
	}
	if !ValidSlug(e.Slug) {
		errs = append(errs, errSlug)
	}
	if err := checkTitle(e.Title); err != nil {
		errs = append(errs, err.At("title"))
	}
	if err := checkDescription(e.Description); err != nil {
		errs = append(errs, err.At("description"))
	}
	if !e.Status.Valid() {
		errs = append(errs, errStatus)
	}
	if n := len(c.Variants); n < 1 || n > maxVariants {
		errs = append(errs, errVariantCount(n))
	}
	seen := make(map[string]bool, len(c.Variants))
	for i, v := range c.Variants {
		v.SKU, v.Title = NormalSKU(v.SKU), strings.TrimSpace(v.Title)
		e.Variants[i] = v
		for _, err := range checkVariant(v, c.Currency) {
			errs = append(errs, err.At("variants", strconv.Itoa(i)))
		}
		if seen[v.SKU] {
			errs = append(errs, errSameSKU(v.SKU).At("variants", strconv.Itoa(i)))
		}
		seen[v.SKU] = true
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return []Event{e}, nil
}

func checkVariant(v Variant, shop money.Currency) (broken []*rule.Error) {
	if !ValidSKU(v.SKU) {
		broken = append(broken, errSKU)
	}
	if err := text.Line(v.Title, 0, maxTitle); err != nil {
		broken = append(broken, err.At("title"))
	}
	if err := checkPrice(v.Price, shop); err != nil {
		broken = append(broken, err)
	}
	return broken
}

func checkPrice(price money.Money, shop money.Currency) *rule.Error {
	if price.Currency != shop {
		return errCurrency(price.Currency, shop)
	}
	if price.IsNegative() {
		return errPrice
	}
	return nil
}
