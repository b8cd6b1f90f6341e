package commands

import (
	"strconv"
	"time"

	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
	"github.com/millrace/millrace/internal/es"
)

// ImportOrder is the order of an invoice of the past: placed, paid and sent long ago.
type ImportOrder struct {
	// Number is the invoice's number, and becomes the order's id.
	Number string
	// PlacedAt is when the invoice was made.
	PlacedAt time.Time
	// Customer is the customer's number; empty where nobody knows it.
	Customer string
	// Country is the country's name as the file writes it.
	Country string
	Lines   []ImportOrderLine
}

// ImportOrderLine is a line of an imported order.
type ImportOrderLine struct {
	// Place is the line's place on its invoice, from 1. It becomes the line's id.
	Place int
	// SKU is in its normal spelling and is some product's.
	SKU       string
	Title     string
	Quantity  int
	UnitPrice money.Money
}

// ImportOrder returns the command that places the order, confirms and fulfils it, authorises and captures its payment and
// takes its units off the stock, all at once and as of its date. If the order exists already there is nothing to do. No
// process acts on the order. Refusals are those of the domain: at lines, <i>: rule.NotFound for a SKU that nobody has,
// rule.OutOfStock, rule.Invalid.
func (a *App) ImportOrder(in ImportOrder) es.Command {
	if !isOrderID(in.Number) {
		return refused("import.order", errInvoiceNumber.At("number"))
	}
	orders, payments := Orders.Stream(in.Number), Payments.Stream(in.Number)
	streams := []string{orders.Name(), payments.Name()}
	units := make(map[string]int, len(in.Lines))
	var firsts []int // the lines that name their SKU first
	for i, l := range in.Lines {
		if err := checkSKU(l.SKU); err != nil {
			return refused("import.order", err.At("lines", strconv.Itoa(i)))
		}
		if _, seen := units[l.SKU]; !seen {
			firsts = append(firsts, i)
			streams = append(streams, Stocks.Stream(l.SKU).Name())
		}
		units[l.SKU] += l.Quantity
	}
	return es.Command{
		Name:       "import.order",
		Streams:    streams,
		OccurredAt: in.PlacedAt,
		Decide: func(d *es.Decision) error {
			before, err := es.State(d, orders)
			if err != nil || before.Exists() {
				return err
			}
			if err := d.Need(streams...); err != nil {
				return err
			}
			owners := make(map[string]string, len(firsts))
			for _, i := range firsts {
				sku := in.Lines[i].SKU
				stream := Stocks.Stream(sku)
				stock, err := es.State(d, stream)
				if err != nil {
					return err
				}
				owners[sku] = stock.Product
				sold, err := inventory.Sell{Order: in.Number, Quantity: units[sku]}.Decide(stock)
				if err != nil {
					return at(err, "lines", strconv.Itoa(i))
				}
				es.Append(d, stream, sold...)
			}
			placed, err := in.place(a.currency, owners).Decide(before)
			if err != nil {
				return err
			}
			state := es.Append(d, orders, placed...)
			if err := payInFull(d, payments, state); err != nil {
				return err
			}
			for _, next := range []func(order.State) ([]order.Event, error){order.Confirm{}.Decide, order.Fulfill{}.Decide} {
				events, err := next(state)
				if err != nil {
					return err
				}
				state = es.Append(d, orders, events...)
			}
			return nil
		},
	}
}

// place returns the domain's command; owners are the products of the SKUs.
func (in ImportOrder) place(currency money.Currency, owners map[string]string) order.Place {
	p := order.Place{
		Number: in.Number, Currency: currency, Customer: in.Customer, Country: in.Country, Imported: true,
		PlacedAt: in.PlacedAt, Lines: make([]order.PlacedLine, len(in.Lines)),
	}
	for i, l := range in.Lines {
		p.Lines[i] = order.PlacedLine{
			ID: lineID(l.Place), SKU: l.SKU, Product: owners[l.SKU], Title: l.Title, Quantity: l.Quantity, UnitPrice: l.UnitPrice,
		}
	}
	return p
}

// payInFull authorises and captures the order's total.
func payInFull(d *es.Decision, stream es.Stream[payment.State], o order.State) error {
	state, err := es.State(d, stream)
	if err != nil {
		return err
	}
	for _, next := range []func(payment.State) ([]payment.Event, error){
		payment.Authorise{Order: o.Number, Amount: o.Total, Reference: ImportReference}.Decide,
		payment.Capture{Amount: o.Total}.Decide,
	} {
		events, err := next(state)
		if err != nil {
			return err
		}
		state = es.Append(d, stream, events...)
	}
	return nil
}
