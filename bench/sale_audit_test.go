package bench

import (
	"slices"
	"strings"
	"testing"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/internal/es"
)

// history makes up a log.
type history struct{ events []es.Event }

func (h *history) add(stream string, facts ...any) *history {
	for _, fact := range facts {
		h.events = append(h.events, es.Event{Position: int64(len(h.events) + 1), Stream: stream, Fact: fact})
	}
	return h
}

// stocked begins with two units for sale.
func stocked() *history {
	return new(history).add("stock-LAMP", inventory.Opened{SKU: "LAMP", Product: "p"}, inventory.Received{Quantity: 2})
}

// sells has an order for one unit.
func (h *history) sells(number string) *history {
	h.add("stock-LAMP", inventory.Reserved{Order: number, Quantity: 1})
	return h.places(number)
}

func (h *history) places(number string) *history {
	return h.add("order-"+number, order.Placed{Number: number, Lines: []order.PlacedLine{{ID: "1", SKU: "LAMP", Quantity: 1}}})
}

func (h *history) confirms(number string) *history { return h.add("order-"+number, order.Confirmed{}) }

func TestAuditOfASale(t *testing.T) {
	t.Parallel()
	told := func(orders ...string) promises { return promises{orders: orders} }
	for name, c := range map[string]struct {
		given    *history
		told     promises
		oversold int
		want     string // part of the only violations; empty: none
	}{
		"sold out": {
			given: stocked().sells("A").confirms("A").sells("B"),
			told:  promises{orders: []string{"A", "B"}, confirmed: []string{"A"}},
		},
		"nothing sold": {given: stocked()},
		"sent": {
			given: stocked().sells("A").confirms("A").add("stock-LAMP", inventory.Shipped{Order: "A", Quantity: 1}),
			told:  told("A"),
		},
		"called off": {
			given: stocked().sells("A").add("stock-LAMP", inventory.Released{Order: "A", Quantity: 1}).add("order-A", order.Cancelled{}).sells("B").sells("C"),
			told:  told("A", "B", "C"),
		},
		"other goods and orders": {
			given: stocked().add("stock-CHAIR", inventory.Received{Quantity: 1}, inventory.Sold{Order: "X", Quantity: 1}).
				add("order-X", order.Placed{Number: "X", Lines: []order.PlacedLine{{ID: "1", SKU: "CHAIR", Quantity: 1}}}, order.Confirmed{}),
		},
		"an order whose buyer had no answer": {given: stocked().sells("A"), told: promises{unknown: 1}},
		"more sold than there is": {
			given: stocked().sells("A").sells("B").sells("C"), told: told("A", "B", "C"), oversold: 1, want: "-1 of LAMP are available at position 7",
		},
		"more sold than there is, put right later": {
			given: stocked().sells("A").sells("B").sells("C").add("stock-LAMP", inventory.Released{Order: "C", Quantity: 1}).add("order-C", order.Cancelled{}),
			told:  told("A", "B", "C"), oversold: 1, want: "-1 of LAMP are available at position 7",
		},
		"orders for which nothing was kept": {
			given: stocked().places("A").places("B").places("C"), told: told("A", "B", "C"), oversold: 1,
			want: "0 of LAMP are sold, and pending and confirmed orders have 3",
		},
		"units sold to nobody": {
			given: stocked().add("stock-LAMP", inventory.Reserved{Order: "A", Quantity: 1}), want: "1 of LAMP are sold, and pending and confirmed orders have 0",
		},
		"called off, and its units still kept": {
			given: stocked().sells("A").add("order-A", order.Cancelled{}), told: told("A"), want: "1 of LAMP are sold, and pending and confirmed orders have 0",
		},
		"units that appeared": {
			given: stocked().add("stock-LAMP", inventory.Received{Quantity: 1}), want: "there were 3 of LAMP, not 2",
		},
		"an order that is lost":    {given: stocked(), told: told("A"), want: "a buyer was told of the order A, which is not in the log"},
		"one order for two buyers": {given: stocked().sells("A"), told: told("A", "A"), want: "2 buyers were told that the order A is theirs"},
		"two orders for one buyer": {given: stocked().sells("A").sells("B"), told: told("A"), want: "2 orders are in the log, and buyers may have 1 at most"},
		"confirmed for the buyer only": {
			given: stocked().sells("A"), told: promises{orders: []string{"A"}, confirmed: []string{"A"}},
			want: "the order A is confirmed, and it is PENDING",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLedger(product{skus: []string{"LAMP"}, units: []int{2}})
			for i := range c.given.events {
				if err := l.post(&c.given.events[i]); err != nil {
					t.Fatal(err)
				}
			}
			a := l.close(c.told)
			if a.oversold != c.oversold {
				t.Errorf("%d are oversold, want %d", a.oversold, c.oversold)
			}
			if c.want == "" {
				if err := a.err(); err != nil {
					t.Error(err)
				}
				return
			}
			if a.err() == nil || !slices.ContainsFunc(a.violations, func(v string) bool { return strings.Contains(v, c.want) }) {
				t.Errorf("the violations are %q, want one with %q", a.violations, c.want)
			}
		})
	}
}

func TestAuditKnowsEveryEvent(t *testing.T) {
	t.Parallel()
	l := newLedger(product{skus: []string{"LAMP"}, units: []int{0}})
	err := l.post(&es.Event{Position: 7, Stream: commands.Stocks.Stream("LAMP").Name(), Type: "stock.borrowed"})
	if err == nil || !strings.Contains(err.Error(), "position 7") {
		t.Errorf("an event that nobody knows gives %v", err)
	}
}
