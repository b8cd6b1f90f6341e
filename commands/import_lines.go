package commands

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/invoice"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
	"github.com/millrace/millrace/internal/es"
)

// ImportReturn is units that came back by lines of a credit note.
type ImportReturn struct {
	// Invoice is the number of the credit note.
	Invoice    string
	ReturnedAt time.Time
	Lines      []ImportReturnLine
}

// ImportReturnLine is one line of a credit note.
type ImportReturnLine struct {
	// Place is the line's place on the credit note, from 1.
	Place int
	// From are the units that came back; together they are the line's quantity.
	From []ReturnedUnits
}

// ReturnedUnits are units of one line of one order.
type ReturnedUnits struct {
	Order string
	// Line is the line's id in the order.
	Line     string
	Quantity int
}

// ImportReturn returns the command that takes units of several orders and SKUs back and refunds what they had cost, all at
// once. Lines that were imported before are left alone. Refusals are those of the domain: rule.NotFound for an order or
// line that does not exist, rule.NotAllowed for units that were never sent or have come back already.
func (a *App) ImportReturn(in ImportReturn) es.Command {
	if !isOrderID(in.Invoice) {
		return refused("import.return", errInvoiceNumber.At("invoice"))
	}
	invoices := Invoices.Stream(in.Invoice)
	streams := []string{invoices.Name()}
	places := make([]int, len(in.Lines))
	for i, l := range in.Lines {
		places[i] = l.Place
		for _, u := range l.From {
			if !isOrderID(u.Order) {
				return refused("import.return", order.ErrNotFound.At("lines", strconv.Itoa(i)))
			}
			streams = append(streams, Orders.Stream(u.Order).Name(), Payments.Stream(u.Order).Name())
		}
	}
	return es.Command{
		Name:       "import.return",
		Streams:    streams,
		OccurredAt: in.ReturnedAt,
		Decide: func(d *es.Decision) error {
			if err := d.Need(streams...); err != nil {
				return err
			}
			done, err := es.State(d, invoices)
			if err != nil {
				return err
			}
			marks, err := invoice.ImportLines{Lines: places}.Decide(done)
			if err != nil || len(marks) == 0 {
				return err
			}
			back := make(map[string][]order.LineQuantity) // by order
			for _, l := range in.Lines {
				if done.Done(l.Place) {
					continue
				}
				for _, u := range l.From {
					back[u.Order] = append(back[u.Order], order.LineQuantity{ID: u.Line, Quantity: u.Quantity})
				}
			}
			for _, number := range slices.Sorted(maps.Keys(back)) {
				if err := takeBack(d, number, back[number]); err != nil {
					return err
				}
			}
			es.Append(d, invoices, marks...)
			return nil
		},
	}
}

// takeBack returns units of an order, puts them into the stock, and refunds what they had cost.
func takeBack(d *es.Decision, number string, lines []order.LineQuantity) error {
	orders, payments := Orders.Stream(number), Payments.Stream(number)
	before, err := es.State(d, orders)
	if err != nil {
		return err
	}
	returned, err := order.Return{Lines: lines}.Decide(before)
	if err != nil {
		return at(err, number)
	}
	units := make(map[string]int) // by SKU
	for _, q := range lines {
		l, _ := before.Line(q.ID)
		units[l.SKU] += q.Quantity
	}
	skus := slices.Sorted(maps.Keys(units))
	var stocks []string
	for _, sku := range skus {
		stocks = append(stocks, Stocks.Stream(sku).Name())
	}
	if err := d.Need(stocks...); err != nil {
		return err
	}
	for _, sku := range skus {
		stream := Stocks.Stream(sku)
		stock, err := es.State(d, stream)
		if err != nil {
			return err
		}
		events, err := inventory.Return{Order: number, Quantity: units[sku]}.Decide(stock)
		if err != nil {
			return at(err, number)
		}
		es.Append(d, stream, events...)
	}
	after := es.Append(d, orders, returned...)
	total, err := after.ReturnedAmount()
	if err != nil {
		return err
	}
	paid, err := es.State(d, payments)
	if err != nil {
		return err
	}
	refunded, err := payment.Refund{Total: total}.Decide(paid)
	if err != nil {
		return at(err, number)
	}
	es.Append(d, payments, refunded...)
	return nil
}

// ImportCorrection is a line of an invoice that says that a count found more or fewer units than were known.
type ImportCorrection struct {
	Invoice string
	// Place is the line's place on the invoice, from 1.
	Place int
	At    time.Time
	// SKU is in its normal spelling and is some product's.
	SKU    string
	Delta  int
	Reason string
}

// ImportCorrection returns the command that adjusts the stock, once. Refusals are those of the domain: rule.NotFound at sku,
// rule.OutOfStock at delta, rule.Invalid.
func (a *App) ImportCorrection(in ImportCorrection) es.Command {
	if !isOrderID(in.Invoice) {
		return refused("import.correction", errInvoiceNumber.At("invoice"))
	}
	if err := checkSKU(in.SKU); err != nil {
		return refused("import.correction", err)
	}
	invoices, stocks := Invoices.Stream(in.Invoice), Stocks.Stream(in.SKU)
	streams := []string{invoices.Name(), stocks.Name()}
	return es.Command{
		Name:       "import.correction",
		Streams:    streams,
		OccurredAt: in.At,
		Decide: func(d *es.Decision) error {
			if err := d.Need(streams...); err != nil {
				return err
			}
			done, err := es.State(d, invoices)
			if err != nil {
				return err
			}
			marks, err := invoice.ImportLines{Lines: []int{in.Place}}.Decide(done)
			if err != nil || len(marks) == 0 {
				return err
			}
			stock, err := es.State(d, stocks)
			if err != nil {
				return err
			}
			adjusted, err := inventory.Adjust{Delta: in.Delta, Reason: in.Reason}.Decide(stock)
			if err != nil {
				return err
			}
			es.Append(d, stocks, adjusted...)
			es.Append(d, invoices, marks...)
			return nil
		},
	}
}
