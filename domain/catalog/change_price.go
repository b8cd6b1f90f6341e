package catalog

import "github.com/millrace/millrace/domain/money"

// ChangePrice sets what one variant costs from now on.
type ChangePrice struct {
	// SKU may be in any spelling.
	SKU   string
	Price money.Money
}

// Decide answers with PriceChanged, or with no event if the variant costs that already; or with rule.NotFound, or
// rule.Invalid for a price that is negative or in another currency than the variant's.
func (c ChangePrice) Decide(s State) ([]Event, error) {
	sku := NormalSKU(c.SKU)
	v, ok := s.Variant(sku)
	if !ok {
		return nil, errNoVariant(sku)
	}
	if err := checkPrice(c.Price, v.Price.Currency); err != nil {
		return nil, err
	}
	if c.Price == v.Price {
		return nil, nil
	}
	return []Event{PriceChanged{SKU: sku, Price: c.Price, Was: v.Price}}, nil
}
