package catalog

// ClaimSlug takes a slug for a product.
type ClaimSlug struct{ Product string }

// Decide answers with SlugClaimed, with no event if the product has the slug already, or with ErrSlugTaken.
func (c ClaimSlug) Decide(s SlugState) ([]SlugEvent, error) {
	switch s.Product {
	case "":
		return []SlugEvent{SlugClaimed(c)}, nil
	case c.Product:
		return nil, nil
	default:
		return nil, ErrSlugTaken
	}
}
