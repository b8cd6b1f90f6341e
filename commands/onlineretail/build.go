package onlineretail

import (
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/internal/es"
)

// offers works out title and price of every SKU from all of its rows.
func (s *sheet) offers() (titles []string, prices []money.Money) {
	titles, prices = make([]string, len(s.skus.all)), make([]money.Money, len(s.skus.all))
	for sku := range prices {
		titles[sku], prices[sku] = s.skus.all[sku], money.Zero(s.currency)
	}
	type naming struct{ sku, description int32 }
	counts := make(map[naming]int)
	var seen []naming // in the order of their first rows
	for i := range s.rows {
		r := &s.rows[i]
		if r.class == sale && s.price(r).minor > 0 {
			prices[s.skuID(r)] = s.unitPrice(r)
		}
		if s.description(r) == "" {
			continue
		}
		n := naming{sku: s.skuID(r), description: s.describedAs[r.text[colDescription]]}
		if counts[n]++; counts[n] == 1 {
			seen = append(seen, n)
		}
	}
	most := make([]int, len(titles))
	for _, n := range seen {
		if counts[n] > most[n.sku] {
			most[n.sku], titles[n.sku] = counts[n], s.descriptions.all[n.description]
		}
	}
	return titles, prices
}

// builder turns steps into commands.
type builder struct {
	plan   *plan
	make   Commands
	titles []string
	prices []money.Money
	begin  time.Time
}

// command returns the command of a step and about how many events it will have.
func (b *builder) command(st *step) (es.Command, int) {
	s := b.plan.sheet
	first := &s.rows[st.rows[0]]
	last := &s.rows[st.rows[len(st.rows)-1]]
	switch st.kind {
	case sale:
		lines := make([]commands.ImportOrderLine, len(st.rows))
		for i, at := range st.rows {
			r := &s.rows[at]
			title := s.description(r)
			if title == "" {
				title = b.titles[s.skuID(r)]
			}
			lines[i] = commands.ImportOrderLine{
				Place: int(r.place), SKU: s.sku(r), Title: title, Quantity: int(s.quantity(r)), UnitPrice: s.unitPrice(r),
			}
		}
		return b.make.ImportOrder(commands.ImportOrder{
			Number: s.number(first), PlacedAt: s.date(first), Customer: s.customer(first), Country: s.country(first), Lines: lines,
		}), 5 + len(lines)
	case giveBack:
		events := 1
		for _, l := range st.lines {
			events += 3 * len(l.From)
		}
		return b.make.ImportReturn(commands.ImportReturn{
			Invoice: s.number(first), ReturnedAt: s.date(last), Lines: st.lines,
		}), events
	default:
		return b.make.ImportCorrection(commands.ImportCorrection{
			Invoice: s.number(first), Place: int(first.place), At: s.date(first), SKU: s.sku(first),
			Delta: int(s.quantity(first)), Reason: s.description(first),
		}), 2
	}
}

// opening returns the command that has units of a SKU in stock, creating its product if need be, and about how many
// events it will have.
func (b *builder) opening(sku int32, units int64) (es.Command, int) {
	code := b.plan.sheet.skus.all[sku]
	return b.make.ImportProduct(commands.ImportProduct{
		SKU: code, Slug: catalog.Slugify(b.titles[sku] + " " + code), Title: b.titles[sku], Price: b.prices[sku],
		Available: int(min(units, inventory.MaxQuantity)), At: b.begin,
	}), 4
}
