package order

import (
	"errors"
	"strconv"

	"github.com/millrace/millrace/domain/money"
)

// Return takes units back that have been sent, a line or several, in part or whole.
type Return struct {
	// Lines may name a line several times.
	Lines []LineQuantity
}

// Decide answers with Returned and what the units had cost; or with ErrNotFound, rule.NotAllowed unless units have been
// sent, or joined: rule.NotFound for each line that does not exist, rule.Invalid for each bad quantity, rule.NotAllowed
// for each quantity above what was sent and has not come back.
func (c Return) Decide(s State) ([]Event, error) {
	switch s.Status {
	case "":
		return nil, ErrNotFound
	case StatusConfirmed, StatusFulfilled, StatusReturned:
	default:
		return nil, errStatus("returned", s.Status)
	}
	if len(c.Lines) == 0 {
		return nil, errLineCount(0)
	}
	amount := money.Zero(s.Currency)
	returning := make(map[string]int, len(c.Lines))
	e := Returned{Lines: make([]LineQuantity, len(c.Lines))}
	var errs []error
	for i, q := range c.Lines {
		at := []string{"lines", strconv.Itoa(i)}
		l, ok := s.Line(q.ID)
		if !ok {
			errs = append(errs, errNoLine(q.ID).At(at...))
			continue
		}
		if q.Quantity < 1 || q.Quantity > MaxQuantity {
			errs = append(errs, errQuantity(q.Quantity).At(at...))
			continue
		}
		if left := l.Fulfilled - l.Returned - returning[q.ID]; q.Quantity > left {
			errs = append(errs, errReturn(left).At(at...))
			continue
		}
		cost, err := l.UnitPrice.Times(q.Quantity)
		if err == nil {
			amount, err = amount.Add(cost)
		}
		if err != nil {
			return nil, err
		}
		e.Lines[i] = q
		returning[q.ID] += q.Quantity
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	e.Amount = amount
	return []Event{e}, nil
}
