package commands

import (
	"context"
	"errors"
	"strconv"

	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/rule"
	"github.com/millrace/millrace/internal/es"
)

// ProductCreate brings a product into being.
type ProductCreate struct {
	// Slug, if nil, is made from the title, with a number behind it where another product has it.
	Slug        *string
	Title       string
	Description string
	Variants    []VariantInput
	// Status may be empty: then the product is a draft.
	Status catalog.Status
}

// VariantInput is a variant of a product to be.
type VariantInput struct {
	// SKU is in any spelling.
	SKU string
	// Title may be empty.
	Title string
	// Price is a decimal number in the shop's currency.
	Price string
}

// ProductResult is a product as a command left it.
type ProductResult struct {
	State    catalog.State
	Position int64
}

// ProductCreate answers with the product. Refusals: rule.Invalid at the input that is wrong, all of them together;
// rule.Conflict at input, slug or input, variants, <i>, sku for what is another product's.
func (a *App) ProductCreate(ctx context.Context, in ProductCreate) (ProductResult, error) {
	create := catalog.Create{
		ID: newID(), Title: in.Title, Description: in.Description, Status: in.Status, Currency: a.currency,
		Variants: make([]catalog.Variant, len(in.Variants)),
	}
	var errs []error
	if in.Slug != nil {
		create.Slug = *in.Slug
		if *in.Slug == "" {
			errs = append(errs, rule.New(rule.Invalid, "must not be empty where it is given").At("input", "slug"))
		}
	}
	for i, v := range in.Variants {
		price, err := money.Parse(v.Price, a.currency)
		if err != nil {
			errs = append(errs, at(err, "input", "variants", strconv.Itoa(i), "price"))
			price = money.Zero(a.currency)
		}
		create.Variants[i] = catalog.Variant{SKU: v.SKU, Title: v.Title, Price: price}
	}
	if _, err := create.Decide(catalog.State{}); err != nil {
		errs = append(errs, at(err, "input"))
	}
	if len(errs) > 0 {
		return ProductResult{}, errors.Join(errs...)
	}
	creation := newProduct(create, in.Slug != nil)
	answer := newShown(Products)
	position, err := a.execute(ctx, es.Command{
		Name:    "product.create",
		Streams: creation.streams(),
		Decide: func(d *es.Decision) error {
			state, err := creation.decide(d)
			answer.set(Products.Stream(create.ID), state)
			return at(err, "input")
		},
	}, in, answer)
	if err != nil {
		return ProductResult{}, err
	}
	return ProductResult{State: answer.state, Position: position}, nil
}

// creation is a product about to be created with its slug and SKUs, of checked input.
type creation struct {
	create catalog.Create
	// slugs are what the product may be called, the best first.
	slugs []string
}

// newProduct returns the creation of a product under a new id. The slug is the only one that will do, or a wish.
func newProduct(create catalog.Create, insist bool) creation {
	for i := range create.Variants {
		create.Variants[i].SKU = catalog.NormalSKU(create.Variants[i].SKU)
	}
	if insist {
		return creation{create: create, slugs: []string{create.Slug}}
	}
	if create.Slug == "" {
		create.Slug = catalog.Slugify(create.Title)
	}
	return creation{create: create, slugs: slugsLike(create.Slug, create.ID)}
}

// streams names what the creation needs in most cases: the other slugs are asked for only where the first is taken.
func (c creation) streams() []string {
	names := []string{Slugs.Stream(c.slugs[0]).Name()}
	for _, v := range c.create.Variants {
		names = append(names, Stocks.Stream(v.SKU).Name())
	}
	return names
}

// decide appends the product, the claim of its slug and the stocks of its SKUs. Its refusals' fields begin in the input.
func (c creation) decide(d *es.Decision) (catalog.State, error) {
	stream := Products.Stream(c.create.ID)
	if err := d.Need(c.streams()...); err != nil {
		return catalog.State{}, err
	}
	create := c.create
	var errs []error
	slug, err := c.free(d)
	if err == nil {
		create.Slug = slug
		err = claimSlug(d, slug, create.ID)
	}
	if errors.Is(err, es.ErrNotLoaded) {
		return catalog.State{}, err
	}
	errs = append(errs, err)
	for i, v := range create.Variants {
		stock := Stocks.Stream(v.SKU)
		before, err := es.State(d, stock)
		if err != nil {
			return catalog.State{}, err
		}
		opened, err := inventory.Open{SKU: v.SKU, Product: create.ID}.Decide(before)
		if err != nil {
			errs = append(errs, at(err, "variants", strconv.Itoa(i)))
			continue
		}
		es.Append(d, stock, opened...)
	}
	created, err := create.Decide(es.Minted(d, stream))
	if err := errors.Join(append(errs, err)...); err != nil {
		return catalog.State{}, err
	}
	return es.Append(d, stream, created...), nil
}

// free returns the first of the slugs that nobody has, or the last if all are taken.
func (c creation) free(d *es.Decision) (string, error) {
	const together = 8 // read at a time once the first is taken
	for i, slug := range c.slugs {
		if i%together == 1 {
			var names []string
			for _, s := range c.slugs[i:min(i+together, len(c.slugs))] {
				names = append(names, Slugs.Stream(s).Name())
			}
			if err := d.Need(names...); err != nil {
				return "", err
			}
		}
		state, err := es.State(d, Slugs.Stream(slug))
		if err != nil {
			return "", err
		}
		if state.Product == "" {
			return slug, nil
		}
	}
	return c.slugs[len(c.slugs)-1], nil
}
