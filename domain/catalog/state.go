package catalog

import (
	"fmt"
	"slices"
	"time"
)

// Status says who may see a product.
type Status string

// The statuses of a product.
const (
	// StatusDraft is a product that is being prepared.
	StatusDraft Status = "DRAFT"
	// StatusActive is a product that shoppers see and buy.
	StatusActive Status = "ACTIVE"
	// StatusArchived is a product that is no longer offered.
	StatusArchived Status = "ARCHIVED"
)

// Valid reports whether s is one of the statuses.
func (s Status) Valid() bool { return s == StatusDraft || s == StatusActive || s == StatusArchived }

// State is a product as its events have made it. The zero State is a product that does not exist.
type State struct {
	ID          string    `json:"id,omitzero"`
	Slug        string    `json:"slug,omitzero"`
	Title       string    `json:"title,omitzero"`
	Description string    `json:"description,omitzero"`
	Status      Status    `json:"status,omitzero"`
	Variants    []Variant `json:"variants,omitempty"`
	// CreatedAt and UpdatedAt are when the first and the last event happened; see At.
	CreatedAt time.Time `json:"createdAt,omitzero"`
	UpdatedAt time.Time `json:"updatedAt,omitzero"`
}

// Exists reports whether the product has been created.
func (s State) Exists() bool { return s.ID != "" }

// Variant returns the variant with that SKU, and whether there is one.
func (s State) Variant(sku string) (Variant, bool) {
	if i := s.variant(sku); i >= 0 {
		return s.Variants[i], true
	}
	return Variant{}, false
}

// LineTitle returns what a cart or an order calls the variant: the product's title, and the variant's if it has one.
func (s State) LineTitle(v Variant) string {
	if v.Title == "" {
		return s.Title
	}
	return s.Title + " – " + v.Title
}

func (s State) variant(sku string) int {
	return slices.IndexFunc(s.Variants, func(v Variant) bool { return v.SKU == sku })
}

// At returns s as changed at t. Events carry no time, their envelopes do: who evolves a state calls At after each event.
func (s State) At(t time.Time) State {
	s.UpdatedAt = t.UTC()
	if s.CreatedAt.IsZero() {
		s.CreatedAt = s.UpdatedAt
	}
	return s
}

// Evolve returns the state after e. It leaves alone whatever s points to.
func Evolve(s State, e Event) State {
	switch e := e.(type) {
	case Created:
		s.ID, s.Slug, s.Title, s.Description, s.Status = e.ID, e.Slug, e.Title, e.Description, e.Status
		s.Variants = slices.Clone(e.Variants)
	case Described:
		s.Title, s.Description = e.Title, e.Description
	case SlugChanged:
		s.Slug = e.Slug
	case Published:
		s.Status = StatusActive
	case Unpublished:
		s.Status = StatusDraft
	case Archived:
		s.Status = StatusArchived
	case PriceChanged:
		if i := s.variant(e.SKU); i >= 0 {
			s.Variants = slices.Clone(s.Variants)
			s.Variants[i].Price = e.Price
		}
	default:
		panic(fmt.Sprintf("catalog: %T is no event of a product", e))
	}
	return s
}

// SlugState is who has a slug. The zero SlugState is a slug that is free.
type SlugState struct {
	Product string `json:"product,omitzero"`
}

// EvolveSlug returns the state of a slug after e.
func EvolveSlug(s SlugState, e SlugEvent) SlugState {
	switch e := e.(type) {
	case SlugClaimed:
		s.Product = e.Product
	case SlugReleased:
		s.Product = ""
	default:
		panic(fmt.Sprintf("catalog: %T is no event of a slug", e))
	}
	return s
}
