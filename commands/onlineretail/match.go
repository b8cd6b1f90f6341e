package onlineretail

import (
	"strconv"

	"github.com/millrace/millrace/commands"
)

// matching goes through the rows of a plan in the file's order and makes its steps.
//
// An order is placed at its invoice's first sale, with all of its sales: so that it is there for every return that may be
// about it. A credit note is executed at its last row, a correction at its own.
type matching struct {
	plan    *plan
	wanted  map[pair]bool
	ledger  ledger
	ordered []bool          // by invoice
	returns map[int32]*step // by invoice, until its last row
}

// match makes the steps of the plan, whose rows are classified. wanted are the pairs that returns are about.
func (p *plan) match(wanted map[pair]bool) {
	s := p.sheet
	m := &matching{
		plan: p, wanted: wanted, ledger: ledger{piles: make(map[pair]*pile), later: p.history.others},
		ordered: make([]bool, len(s.documents)), returns: make(map[int32]*step),
	}
	for i := range s.rows {
		at, r := int32(i), &s.rows[i]
		switch r.class {
		case sale:
			m.sell(at, r)
		case giveBack:
			m.giveBack(at, r)
		case correction:
			if !r.done {
				p.steps = append(p.steps, step{kind: correction, rows: []int32{at}})
			}
		case rejected:
		}
		id := s.invoiceID(r)
		if back := m.returns[id]; back != nil && int(r.place) == len(s.documents[id].rows) {
			p.steps = append(p.steps, *back)
			delete(m.returns, id)
		}
	}
	p.before = len(s.rows)
	for i := range p.steps {
		p.before -= len(p.steps[i].rows)
	}
}

func (m *matching) sell(at int32, r *row) {
	s, h := m.plan.sheet, m.plan.history
	id := s.invoiceID(r)
	switch kind := h.orders[id]; {
	case kind == otherOrder:
		r.class, r.why = rejected, takenNumber
		return
	case kind == importedOrder && !r.done:
		r.class, r.why = rejected, notOnOrder
		return
	}
	if p := (pair{s.customerID(r), s.skuID(r)}); m.wanted[p] {
		b := purchase{order: s.number(r), line: strconv.Itoa(int(r.place)), left: s.quantity(r), at: s.date(r)}
		if r.done {
			b = h.byRow[at]
		}
		m.ledger.push(p, b)
	}
	if !r.done && !m.ordered[id] {
		m.ordered[id] = true
		m.plan.steps = append(m.plan.steps, step{kind: sale, rows: s.salesOf(id)})
	}
}

func (m *matching) giveBack(at int32, r *row) {
	if r.done {
		return
	}
	s := m.plan.sheet
	from := m.ledger.take(pair{s.customerID(r), s.skuID(r)}, -s.quantity(r), s.date(r))
	if from == nil {
		r.class, r.why = rejected, notCovered
		return
	}
	id := s.invoiceID(r)
	st := m.returns[id]
	if st == nil {
		st = &step{kind: giveBack}
		m.returns[id] = st
	}
	st.rows = append(st.rows, at)
	st.lines = append(st.lines, commands.ImportReturnLine{Place: int(r.place), From: from})
}

// salesOf returns the sales among an invoice's rows.
func (s *sheet) salesOf(id int32) []int32 {
	var sales []int32
	for _, at := range s.documents[id].rows {
		if s.rows[at].class == sale {
			sales = append(sales, at)
		}
	}
	return sales
}
