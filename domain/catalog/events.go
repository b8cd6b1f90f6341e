package catalog

import "github.com/millrace/millrace/domain/money"

// Event is a fact about a product. The set is closed: only this package's types implement it.
type Event interface {
	// EventType returns the name that the event is stored under.
	EventType() string
	isProductEvent()
}

// Created is the first event of a product and holds all that it begins with.
type Created struct {
	ID          string    `json:"id"`
	Slug        string    `json:"slug"`
	Title       string    `json:"title"`
	Description string    `json:"description,omitzero"`
	Status      Status    `json:"status"`
	Variants    []Variant `json:"variants"`
}

// Variant is what can be put into a cart: a product in one size, colour or the like.
type Variant struct {
	SKU string `json:"sku"`
	// Title tells the variant from the others of its product; empty where there is nothing to tell.
	Title string      `json:"title,omitzero"`
	Price money.Money `json:"price"`
}

// Described says that title or description changed; it holds both as they are now.
type Described struct {
	Title       string `json:"title"`
	Description string `json:"description,omitzero"`
}

// SlugChanged says that the product is found under another slug from now on.
type SlugChanged struct {
	Slug string `json:"slug"`
	From string `json:"from"`
}

// Published says that shoppers see the product.
type Published struct{}

// Unpublished says that the product is a draft again.
type Unpublished struct{}

// Archived says that the product is no longer offered.
type Archived struct{}

// PriceChanged says that one variant costs something else from now on.
type PriceChanged struct {
	SKU   string      `json:"sku"`
	Price money.Money `json:"price"`
	Was   money.Money `json:"was"`
}

// EventType returns "product.created".
func (Created) EventType() string { return "product.created" }

// EventType returns "product.described".
func (Described) EventType() string { return "product.described" }

// EventType returns "product.slug_changed".
func (SlugChanged) EventType() string { return "product.slug_changed" }

// EventType returns "product.published".
func (Published) EventType() string { return "product.published" }

// EventType returns "product.unpublished".
func (Unpublished) EventType() string { return "product.unpublished" }

// EventType returns "product.archived".
func (Archived) EventType() string { return "product.archived" }

// EventType returns "product.price_changed".
func (PriceChanged) EventType() string { return "product.price_changed" }

func (Created) isProductEvent()      {}
func (Described) isProductEvent()    {}
func (SlugChanged) isProductEvent()  {}
func (Published) isProductEvent()    {}
func (Unpublished) isProductEvent()  {}
func (Archived) isProductEvent()     {}
func (PriceChanged) isProductEvent() {}

// Events returns one zero value of each event of a product.
func Events() []Event {
	return []Event{Created{}, Described{}, SlugChanged{}, Published{}, Unpublished{}, Archived{}, PriceChanged{}}
}

// SlugEvent is a fact about who has a slug. The set is closed: only this package's types implement it.
type SlugEvent interface {
	// EventType returns the name that the event is stored under.
	EventType() string
	isSlugEvent()
}

// SlugClaimed says that a product has the slug.
type SlugClaimed struct {
	Product string `json:"product"`
}

// SlugReleased says that a product has given the slug up, so that another may claim it.
type SlugReleased struct {
	Product string `json:"product"`
}

// EventType returns "slug.claimed".
func (SlugClaimed) EventType() string { return "slug.claimed" }

// EventType returns "slug.released".
func (SlugReleased) EventType() string { return "slug.released" }

func (SlugClaimed) isSlugEvent()  {}
func (SlugReleased) isSlugEvent() {}

// SlugEvents returns one zero value of each event of a slug.
func SlugEvents() []SlugEvent { return []SlugEvent{SlugClaimed{}, SlugReleased{}} }
