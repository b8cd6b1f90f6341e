package commands

import (
	"context"

	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/internal/es"
)

// ProductUpdate changes what is given of a product and leaves alone what is nil.
type ProductUpdate struct {
	ID          string
	Slug        *string
	Title       *string
	Description *string
	Status      *catalog.Status
}

// ProductUpdate answers with the product. Refusals: rule.NotFound at input, id; rule.Invalid at the input that is wrong,
// all of them together; rule.Conflict at input, slug for another product's.
func (a *App) ProductUpdate(ctx context.Context, in ProductUpdate) (ProductResult, error) {
	if !isID(in.ID) {
		return ProductResult{}, catalog.ErrNotFound.At("input")
	}
	update := catalog.Update{Slug: in.Slug, Title: in.Title, Description: in.Description, Status: in.Status}
	stream := Products.Stream(in.ID)
	streams := []string{stream.Name()}
	if in.Slug != nil && catalog.ValidSlug(*in.Slug) {
		streams = append(streams, Slugs.Stream(*in.Slug).Name())
	}
	answer := newShown(Products)
	position, err := a.execute(ctx, es.Command{
		Name:    "product.update",
		Streams: streams,
		Decide: func(d *es.Decision) error {
			before, err := es.State(d, stream)
			if err != nil {
				return err
			}
			events, err := update.Decide(before)
			if err != nil {
				return at(err, "input")
			}
			for _, e := range events {
				changed, ok := e.(catalog.SlugChanged)
				if !ok {
					continue
				}
				if err := d.Need(Slugs.Stream(changed.Slug).Name(), Slugs.Stream(changed.From).Name()); err != nil {
					return err
				}
				if err := claimSlug(d, changed.Slug, in.ID); err != nil {
					return at(err, "input")
				}
				if err := releaseSlug(d, changed.From, in.ID); err != nil {
					return at(err, "input")
				}
			}
			answer.set(stream, es.Append(d, stream, events...))
			return nil
		},
	}, in, answer)
	if err != nil {
		return ProductResult{}, err
	}
	return ProductResult{State: answer.state, Position: position}, nil
}
