package onlineretail

import (
	"time"

	"github.com/millrace/millrace/commands"
)

// ledger knows what customers have bought and could still give back, as of one row of the sheet.
type ledger struct {
	piles map[pair]*pile
	// later are purchases of other files, which come in when the sheet reaches their date.
	later map[pair][]purchase
}

// pile is what a customer has bought of a SKU, the newest on top. What is given back completely is taken away.
type pile struct{ bought []purchase }

// push puts a purchase on top.
func (l *ledger) push(p pair, b purchase) {
	pile := l.upTo(p, b.at)
	if b.left > 0 {
		pile.bought = append(pile.bought, b)
	}
}

// upTo returns the pile with the purchases of other files up to a date.
func (l *ledger) upTo(p pair, date time.Time) *pile {
	pl := l.piles[p]
	if pl == nil {
		pl = &pile{}
		l.piles[p] = pl
	}
	list := l.later[p]
	for len(list) > 0 && !list[0].at.After(date) {
		pl.bought = append(pl.bought, list[0])
		list = list[1:]
	}
	if len(list) < len(l.later[p]) {
		l.later[p] = list
	}
	return pl
}

// take removes units that had been bought by a date, the newest first, and returns where they come from. It removes
// nothing and returns nil if there are not as many.
func (l *ledger) take(p pair, quantity int64, date time.Time) []commands.ReturnedUnits {
	pile := l.upTo(p, date)
	left := quantity
	for i := len(pile.bought) - 1; i >= 0 && left > 0; i-- {
		if b := &pile.bought[i]; !b.at.After(date) {
			left -= min(left, b.left)
		}
	}
	if left > 0 {
		return nil
	}
	var from []commands.ReturnedUnits
	left = quantity
	for i := len(pile.bought) - 1; i >= 0 && left > 0; i-- {
		b := &pile.bought[i]
		n := min(left, b.left)
		if b.at.After(date) || n == 0 {
			continue
		}
		b.left -= n
		left -= n
		from = append(from, commands.ReturnedUnits{Order: b.order, Line: b.line, Quantity: int(n)})
	}
	for n := len(pile.bought); n > 0 && pile.bought[n-1].left == 0; n-- {
		pile.bought = pile.bought[:n-1]
	}
	return from
}
