package invoice

import "slices"

// ImportLines marks lines as done.
type ImportLines struct {
	// Lines are places on the invoice, from 1, in any order.
	Lines []int
}

// Decide answers with LinesImported for the lines that were not done, with no event if there is none, or with
// rule.Invalid for a place below 1.
func (c ImportLines) Decide(s State) ([]Event, error) {
	var fresh []int
	for _, place := range c.Lines {
		if place < 1 {
			return nil, errPlace(place)
		}
		if !s.Done(place) {
			fresh = append(fresh, place)
		}
	}
	if len(fresh) == 0 {
		return nil, nil
	}
	slices.Sort(fresh)
	return []Event{LinesImported{Lines: slices.Compact(fresh)}}, nil
}
