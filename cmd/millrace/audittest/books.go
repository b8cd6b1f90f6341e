package audittest

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// books is what has to agree across streams, because one command appends to several: an order, its cart, its stock, its payment.
type books struct {
	findings *findings
	orders   map[string]*entry
	carts    map[string]string // by cart, the order that it became
}

// entry is what the log says of one order.
type entry struct {
	placed, fulfilled, cancelled int // how often
	imported                     bool
	cart                         string
	ordered, reserved, released  map[string]int64 // units by SKU
	shipped                      map[string]int64
	settled                      int // payments authorised or declined
}

func (b *books) entry(number string) *entry {
	if b.orders[number] == nil {
		b.orders[number] = &entry{
			ordered: map[string]int64{}, reserved: map[string]int64{}, released: map[string]int64{}, shipped: map[string]int64{},
		}
	}
	return b.orders[number]
}

// checkBooks holds the events of the log against each other, and against the idempotency keys.
func checkBooks(ctx context.Context, pool *pgxpool.Pool, events []Event, f *findings) error {
	b := &books{findings: f, orders: make(map[string]*entry), carts: make(map[string]string)}
	states(events, "stock", evolveStock, func(e *Event, s object) {
		if s.number("reserved") < 0 || s.number("onHand") < s.number("reserved") {
			f.add(Log, e.Stream, "at position %d there are %d units, and %d of them reserved", e.Position, s.number("onHand"), s.number("reserved"))
		}
	})
	for i := range events {
		b.add(&events[i])
	}
	for number, o := range b.orders {
		b.check(number, o)
	}
	return b.checkKeys(ctx, pool)
}

func (b *books) add(e *Event) {
	d := e.fields()
	units := func(of func(*entry) map[string]int64) { of(b.entry(d.text("order")))[e.id()] += d.number("quantity") }
	switch e.Type {
	case "order.placed":
		o := b.entry(e.id())
		o.placed++
		o.cart, o.imported = d.text("cart"), d["imported"] == true
		for _, l := range d.objects("lines") {
			o.ordered[l.text("sku")] += l.number("quantity")
		}
	case "order.fulfilled":
		b.entry(e.id()).fulfilled++
	case "order.cancelled":
		b.entry(e.id()).cancelled++
	case "cart.checked_out":
		if other, twice := b.carts[e.id()]; twice {
			b.findings.add(Log, e.Stream, "it became the orders %s and %s", other, d.text("order"))
		}
		b.carts[e.id()] = d.text("order")
	case "stock.reserved":
		units(func(o *entry) map[string]int64 { return o.reserved })
	case "stock.released":
		units(func(o *entry) map[string]int64 { return o.released })
	case "stock.shipped":
		units(func(o *entry) map[string]int64 { return o.shipped })
	case "payment.authorised", "payment.declined":
		b.entry(e.id()).settled++
	}
}

func (b *books) check(number string, o *entry) {
	wrong := func(format string, args ...any) { b.findings.add(Log, "order "+number, format, args...) }
	if o.placed != 1 || o.cancelled > 1 || o.settled > 1 || o.cancelled > 0 && o.fulfilled > 0 {
		wrong("it was placed %d times, cancelled %d times, sent %d times, and its payment was settled %d times", o.placed, o.cancelled, o.fulfilled, o.settled)
	}
	if o.imported {
		return // what was imported reserves nothing, and comes of no cart
	}
	if b.carts[o.cart] != number {
		wrong("it was placed for cart %s, which became order %q", o.cart, b.carts[o.cart])
	}
	none := map[string]int64{}
	for _, moved := range []struct {
		what        string
		found, want map[string]int64
		all         bool
	}{
		{"reserved", o.reserved, o.ordered, true},
		{"released", o.released, o.ordered, o.cancelled > 0},
		{"shipped", o.shipped, o.ordered, o.fulfilled > 0},
	} {
		want := moved.want
		if !moved.all {
			want = none
		}
		if f, w := canonical(moved.found), canonical(want); f != w {
			wrong("%s are %s, want %s", moved.what, f, w)
		}
	}
}

// checkKeys sees to it that each idempotency key, all of which are those of checkouts, stands for one order, which stands at its position, and no order has two.
func (b *books) checkKeys(ctx context.Context, pool *pgxpool.Pool) error {
	rows, err := pool.Query(ctx, `SELECT i.streams, i.position, coalesce(e.stream, '') FROM idempotency i LEFT JOIN events e USING (position)`)
	if err != nil {
		return fmt.Errorf("reading the idempotency keys: %w", err)
	}
	seen := make(map[string]bool)
	var streams []string
	var position int64
	var at string
	_, err = pgx.ForEachRow(rows, []any{&streams, &position, &at}, func() error {
		wrong := func(format string, args ...any) { b.findings.add(Log, "idempotency keys", format, args...) }
		if len(streams) != 1 || b.orders[(&Event{Stream: streams[0]}).id()] == nil {
			wrong("one stands for %v, which is no order", streams)
			return nil
		}
		if seen[streams[0]] {
			wrong("two stand for %s", streams[0])
		}
		seen[streams[0]] = true
		if !slices.Contains([]string{streams[0], "cart-" + b.orders[(&Event{Stream: streams[0]}).id()].cart}, at) {
			wrong("that of %s points to position %d, an event of %s", streams[0], position, at)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading the idempotency keys: %w", err)
	}
	return nil
}
