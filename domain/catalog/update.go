package catalog

import (
	"errors"
	"strings"
)

// Update changes what is given of a product and leaves alone what is nil.
type Update struct {
	Slug        *string
	Title       *string
	Description *string
	Status      *Status
}

// Decide answers with an event for each thing that really changes, none if nothing does; or with ErrNotFound, or every
// rule.Invalid that the input breaks, joined.
func (c Update) Decide(s State) ([]Event, error) {
	if !s.Exists() {
		return nil, ErrNotFound
	}
	slug, title, description, status := s.Slug, s.Title, s.Description, s.Status
	var errs []error
	if c.Slug != nil {
		if slug = *c.Slug; !ValidSlug(slug) {
			errs = append(errs, errSlug)
		}
	}
	if c.Title != nil {
		title = strings.TrimSpace(*c.Title)
		if err := checkTitle(title); err != nil {
			errs = append(errs, err.At("title"))
		}
	}
	if c.Description != nil {
		description = *c.Description
		if err := checkDescription(description); err != nil {
			errs = append(errs, err.At("description"))
		}
	}
	if c.Status != nil {
		if status = *c.Status; !status.Valid() {
			errs = append(errs, errStatus)
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	var events []Event
	if slug != s.Slug {
		events = append(events, SlugChanged{Slug: slug, From: s.Slug})
	}
	if title != s.Title || description != s.Description {
		events = append(events, Described{Title: title, Description: description})
	}
	if status != s.Status {
		events = append(events, entered(status))
	}
	return events, nil
}

// entered returns the event that says that a product has come to a valid status.
func entered(status Status) Event {
	switch status {
	case StatusActive:
		return Published{}
	case StatusArchived:
		return Archived{}
	default:
		return Unpublished{}
	}
}
