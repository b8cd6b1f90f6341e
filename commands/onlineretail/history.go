package onlineretail

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/millrace/millrace/domain/invoice"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/internal/es"
)

// pair is a customer and a SKU of a sheet, of which a row wants to give something back.
type pair struct{ customer, sku int32 }

// purchase is a line of an order whose units may come back.
type purchase struct {
	order, line string
	left        int64
	at          time.Time
}

// history is what the log tells of a sheet.
type history struct {
	// position is the end of the log as it was read.
	position int64
	// orders says of each invoice whether there is an order of its number.
	orders []orderKind
	// byRow are the purchases that rows of the sheet have become; the others, of invoices that the sheet does not
	// hold, are in others, the oldest first.
	byRow  map[int32]purchase
	others map[pair][]purchase
}

type orderKind uint8

const (
	noOrder orderKind = iota
	importedOrder
	otherOrder
)

// historyReader folds the events of the log.
type historyReader struct {
	sheet  *sheet
	wanted map[pair]bool
	h      *history

	bought []bought
	// lines finds what was bought in an order: those of its lines that are wanted.
	lines map[string][]int
}

type bought struct {
	purchase
	pair pair
	row  int32 // of the sheet, or -1
}

// readHistory reads the log from its beginning. It marks the rows that are done.
func readHistory(ctx context.Context, r es.Reader, s *sheet, wanted map[pair]bool, seen func(position, head int64)) (*history, error) {
	h := &history{
		orders: make([]orderKind, len(s.documents)), byRow: make(map[int32]purchase), others: make(map[pair][]purchase),
	}
	head, err := r.Head(ctx)
	if err != nil {
		return nil, err
	}
	f := &historyReader{sheet: s, wanted: wanted, h: h, lines: make(map[string][]int)}
	const page = 4000
	for h.position < head {
		events, err := r.ReadAll(ctx, h.position, page)
		if err != nil {
			return nil, err
		}
		if len(events) == 0 {
			return nil, fmt.Errorf("the log ended at %d, before its head %d", h.position, head)
		}
		for i := range events {
			f.fold(&events[i])
		}
		h.position = events[len(events)-1].Position
		seen(h.position, max(h.position, head))
	}
	f.finish()
	return h, nil
}

func (f *historyReader) fold(e *es.Event) {
	switch fact := e.Fact.(type) {
	case order.Placed:
		f.placed(fact)
	case order.Returned:
		f.returned(es.IDOf(e.Stream), fact.Lines)
	case invoice.LinesImported:
		id := f.sheet.invoices.find(es.IDOf(e.Stream))
		if id < 0 {
			return
		}
		rows := f.sheet.documents[id].rows
		for _, place := range fact.Lines {
			if place < 1 || place > len(rows) {
				continue
			}
			if r := &f.sheet.rows[rows[place-1]]; r.class != sale {
				r.done = true
			}
		}
	}
}

func (f *historyReader) placed(fact order.Placed) {
	s := f.sheet
	id := s.invoices.find(fact.Number)
	if !fact.Imported {
		if id >= 0 {
			f.h.orders[id] = otherOrder
		}
		return
	}
	if id >= 0 {
		f.h.orders[id] = importedOrder
		for _, l := range fact.Lines {
			if at := f.rowOf(id, l); at >= 0 {
				s.rows[at].done = true
			}
		}
	}
	customer := s.customers.find(fact.Customer)
	if customer < 0 || fact.Customer == "" {
		return
	}
	for _, l := range fact.Lines {
		p := pair{customer: customer, sku: s.skus.find(l.SKU)}
		if !f.wanted[p] {
			continue
		}
		f.lines[fact.Number] = append(f.lines[fact.Number], len(f.bought))
		f.bought = append(f.bought, bought{
			purchase: purchase{order: fact.Number, line: l.ID, left: int64(l.Quantity), at: fact.PlacedAt},
			pair:     p, row: f.rowOf(id, l),
		})
	}
}

// rowOf returns the row of the sheet that has become the line of an invoice's order, or -1.
func (f *historyReader) rowOf(id int32, l order.PlacedLine) int32 {
	if id < 0 {
		return -1
	}
	rows := f.sheet.documents[id].rows
	place, err := strconv.Atoi(l.ID)
	if err != nil || place < 1 || place > len(rows) {
		return -1
	}
	at := rows[place-1]
	r := &f.sheet.rows[at]
	if r.class == sale && f.sheet.sku(r) == l.SKU && f.sheet.quantity(r) == int64(l.Quantity) && f.sheet.unitPrice(r) == l.UnitPrice {
		return at
	}
	return -1
}

func (f *historyReader) returned(number string, lines []order.LineQuantity) {
	for _, i := range f.lines[number] {
		for _, l := range lines {
			if b := &f.bought[i]; b.line == l.ID {
				b.left -= int64(l.Quantity)
			}
		}
	}
}

func (f *historyReader) finish() {
	for _, b := range f.bought {
		switch {
		case b.row >= 0:
			f.h.byRow[b.row] = b.purchase
		case b.left > 0:
			f.h.others[b.pair] = append(f.h.others[b.pair], b.purchase)
		}
	}
	for _, list := range f.h.others {
		slices.SortStableFunc(list, func(a, b purchase) int { return a.at.Compare(b.at) })
	}
}
