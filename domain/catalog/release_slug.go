package catalog

// ReleaseSlug gives a product's slug up, so that another may claim it.
type ReleaseSlug struct{ Product string }

// Decide answers with SlugReleased, with no event if the slug is free already, or with ErrSlugTaken if it is another
// product's.
func (c ReleaseSlug) Decide(s SlugState) ([]SlugEvent, error) {
	switch s.Product {
	case c.Product:
		return []SlugEvent{SlugReleased(c)}, nil
	case "":
		return nil, nil
	default:
		return nil, ErrSlugTaken
	}
}
