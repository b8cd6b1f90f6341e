package onlineretail

import (
	"context"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/internal/es"
)

// plan is what has to be executed of a sheet, in order.
type plan struct {
	sheet    *sheet
	history  *history
	products []product
	steps    []step
	// before counts the rows for which there is nothing to do: rejected, or done by an earlier run.
	before int
}

// product is a SKU that rows still to be done are about.
type product struct {
	sku  int32
	need int64 // units that leave the stock
}

// step is one command.
type step struct {
	kind class
	rows []int32
	// lines are those of a return.
	lines []commands.ImportReturnLine
}

// makePlan classifies the rows, looks up what is done, and matches the returns.
func makePlan(ctx context.Context, r es.Reader, s *sheet, seen func(position, head int64)) (*plan, error) {
	wanted := make(map[pair]bool)
	for i := range s.rows {
		row := &s.rows[i]
		row.class, row.why = s.classify(row)
		if row.class == giveBack {
			wanted[pair{s.customerID(row), s.skuID(row)}] = true
		}
	}
	h, err := readHistory(ctx, r, s, wanted, seen)
	if err != nil {
		return nil, err
	}
	p := &plan{sheet: s, history: h}
	p.match(wanted)
	p.lookForProducts()
	return p, nil
}

// lookForProducts finds the SKUs of the steps and what each will need.
func (p *plan) lookForProducts() {
	s := p.sheet
	index := make(map[int32]int)
	for i := range p.steps {
		st := &p.steps[i]
		if st.kind == giveBack {
			continue // what comes back has been sold
		}
		for _, at := range st.rows {
			r := &s.rows[at]
			sku := s.skuID(r)
			n, known := index[sku]
			if !known {
				n = len(p.products)
				index[sku] = n
				p.products = append(p.products, product{sku: sku})
			}
			switch quantity := s.quantity(r); {
			case st.kind == sale:
				p.products[n].need += quantity
			case quantity < 0:
				p.products[n].need -= quantity
			}
		}
	}
}

// begin is when the products are created and their stock is opened: the date of the first row that is still to be done.
func (p *plan) begin() time.Time {
	var first time.Time
	for i := range p.steps {
		if at := p.sheet.date(&p.sheet.rows[p.steps[i].rows[0]]); first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}
