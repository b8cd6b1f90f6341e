package payment

import "github.com/millrace/millrace/domain/money"

// Authorise records that the provider keeps money for the shop.
type Authorise struct {
	Order     string
	Amount    money.Money
	Reference string
}

// Decide answers with Authorised, with no event if this very authorisation is known already, whatever became of it since,
// or with rule.Invalid, rule.NotAllowed after a decline, or ErrAuthorised.
func (c Authorise) Decide(s State) ([]Event, error) {
	switch {
	case c.Order == "":
		return nil, errNoOrder
	case !c.Amount.Currency.Valid() || c.Amount.IsNegative():
		return nil, errAmount
	case s.Status == "":
		return []Event{Authorised(c)}, nil
	case s.Status == StatusDeclined:
		return nil, errStatus("authorised", s.Status)
	case s.Reference != c.Reference || s.Authorised != c.Amount:
		return nil, ErrAuthorised
	default:
		return nil, nil
	}
}
