package bench

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/internal/devstack"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/postgres"
)

// audit is what the log says of a sale.
type audit struct {
	units      []int // that there were of each SKU
	oversold   int   // units that were sold beyond them, at the worst position
	violations []string
}

// err is nil where the log contradicts nothing.
func (a audit) err() error {
	if len(a.violations) == 0 {
		return nil
	}
	return fmt.Errorf("bench: the log contradicts the sale: %s", strings.Join(a.violations, "; "))
}

// auditSale replays the whole log and compares it with what buyers were told.
func (s *shop) auditSale(ctx context.Context, p product, t *tally) (a audit, err error) {
	servers, err := devstack.Find(s.data)
	if err != nil {
		return a, err
	}
	pool, err := newPool(ctx, servers.PostgresURL, 1)
	if err != nil {
		return a, err
	}
	defer pool.Close()
	log, err := postgres.OpenLog(ctx, pool, commands.Codec())
	if err != nil {
		return a, err
	}
	const pageSize = 5000
	l := newLedger(p)
	for after := int64(0); ; {
		events, err := log.ReadAll(ctx, after, pageSize)
		if err != nil {
			return a, fmt.Errorf("bench: replaying the log: %w", err)
		}
		if len(events) == 0 {
			return l.close(t.promises()), nil
		}
		for i := range events {
			if err := l.post(&events[i]); err != nil {
				return a, fmt.Errorf("bench: replaying the log: %w", err)
			}
		}
		after = events[len(events)-1].Position
	}
}

// promises are what buyers were told.
type promises struct {
	orders []string // numbers of the orders that they have
	// confirmed are those of them that they were told are paid for.
	confirmed []string
	// unknown is how many had no answer that says whether they have one.
	unknown int
}

func (t *tally) promises() promises {
	p := promises{unknown: t.sums[failed]}
	for _, b := range t.purchases {
		if b.outcome == sold {
			p.orders = append(p.orders, b.number)
		}
	}
	for _, c := range t.confirms {
		p.confirmed = append(p.confirmed, c.number)
	}
	return p
}

// ledger is the stock of every SKU and the orders of a sale, folded from the log by the domain's own rules.
type ledger struct {
	product product
	forSale map[string]bool // by SKU
	stocks  map[string]inventory.State
	orders  map[string]order.State // that have a SKU of the sale
	gone    map[string]int         // units that have left, by SKU
	short   map[string]int         // how far below zero the available units of a SKU were at worst
	found   audit
}

// mostViolations is how many are told; the first say most.
const mostViolations = 20

func newLedger(p product) *ledger {
	l := &ledger{
		product: p, forSale: make(map[string]bool), stocks: make(map[string]inventory.State), orders: make(map[string]order.State),
		gone: make(map[string]int), short: make(map[string]int), found: audit{units: p.units},
	}
	for _, sku := range p.skus {
		l.forSale[sku] = true
	}
	return l
}

func (l *ledger) violation(format string, args ...any) {
	if len(l.found.violations) < mostViolations {
		l.found.violations = append(l.found.violations, fmt.Sprintf(format, args...))
	}
}

// post folds the next event of the log.
func (l *ledger) post(e *es.Event) error {
	switch fact := e.Fact.(type) {
	case inventory.Event:
		l.postStock(e, fact)
	case order.Event:
		l.postOrder(es.IDOf(e.Stream), fact)
	case nil:
		return fmt.Errorf("the event at position %d (%s) is not known to this program", e.Position, e.Type)
	}
	return nil
}

func (l *ledger) postStock(e *es.Event, fact inventory.Event) {
	sku := es.IDOf(e.Stream)
	stock := inventory.Evolve(l.stocks[sku], fact)
	l.stocks[sku] = stock
	switch fact := fact.(type) {
	case inventory.Shipped:
		l.gone[sku] += fact.Quantity
	case inventory.Sold:
		l.gone[sku] += fact.Quantity
	case inventory.Returned:
		l.gone[sku] -= fact.Quantity
	default:
	}
	if stock.Available() < 0 {
		l.violation("%d of %s are available at position %d", stock.Available(), sku, e.Position)
		l.short[sku] = max(l.short[sku], -stock.Available())
	}
	if stock.Reserved < 0 {
		l.violation("%d of %s are reserved at position %d", stock.Reserved, sku, e.Position)
	}
}

func (l *ledger) postOrder(number string, fact order.Event) {
	if placed, ok := fact.(order.Placed); ok {
		if !slices.ContainsFunc(placed.Lines, func(line order.PlacedLine) bool { return l.forSale[line.SKU] }) {
			return
		}
	} else if _, ok := l.orders[number]; !ok {
		return
	}
	l.orders[number] = order.Evolve(l.orders[number], fact)
}

// close compares what there is at the end of the log with itself and with what buyers were told.
func (l *ledger) close(told promises) audit {
	ordered := make(map[string]int) // units by SKU, of orders that were not called off
	for _, o := range l.orders {
		if o.Status == order.StatusCancelled {
			continue
		}
		for _, line := range o.Lines {
			ordered[line.SKU] += line.Quantity - line.Returned
		}
	}
	for i, sku := range l.product.skus {
		stock := l.stocks[sku]
		sold := stock.Reserved + l.gone[sku]
		if sold != ordered[sku] {
			l.violation("%d of %s are sold, and pending and confirmed orders have %d", sold, sku, ordered[sku])
		}
		if all := stock.OnHand + l.gone[sku]; all != l.product.units[i] {
			l.violation("there were %d of %s, not %d", all, sku, l.product.units[i])
		}
		l.found.oversold += max(l.short[sku], ordered[sku]-l.product.units[i])
	}
	l.compare(told)
	return l.found
}

// compare holds the orders against what buyers were told.
func (l *ledger) compare(told promises) {
	numbers := make(map[string]int)
	for _, number := range told.orders {
		numbers[number]++
	}
	for _, number := range slices.Sorted(maps.Keys(numbers)) {
		if n := numbers[number]; n > 1 {
			l.violation("%d buyers were told that the order %s is theirs", n, number)
		}
		if _, ok := l.orders[number]; !ok {
			l.violation("a buyer was told of the order %s, which is not in the log", number)
		}
	}
	for _, number := range told.confirmed {
		if o, ok := l.orders[number]; ok && o.Status != order.StatusConfirmed {
			l.violation("a buyer was told that the order %s is confirmed, and it is %s", number, o.Status)
		}
	}
	// Who had no answer may have an order all the same.
	if most := len(numbers) + told.unknown; len(l.orders) > most {
		l.violation("%d orders are in the log, and buyers may have %d at most", len(l.orders), most)
	}
}
