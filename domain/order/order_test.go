package order_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/domain/internal/given"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/personal"
)

type row = given.Case[order.State, order.Event]

var noon = time.Date(2026, 11, 22, 12, 0, 0, 123456000, time.UTC)

func gbp(minor int64) money.Money { return money.Money{Minor: minor, Currency: "GBP"} }

func line(id, sku string, quantity int, minor int64) order.PlacedLine {
	return order.PlacedLine{ID: id, SKU: sku, Product: "p-" + sku, Title: "T " + sku, Quantity: quantity, UnitPrice: gbp(minor)}
}

func placed() order.Placed {
	return order.Placed{
		Number: "7K3M9QXD", Lines: []order.PlacedLine{line("1", "A", 2, 295), line("2", "B", 1, 1000)}, Total: gbp(1590), Currency: "GBP",
		Cart: "ref", Subject: "hash", Contact: personal.Sealed{Key: "hash", Box: []byte{1}}, PaymentToken: personal.Sealed{Key: "hash", Box: []byte{2}},
		Country: "United Kingdom", PlacedAt: noon, PaymentDue: noon.Add(time.Minute),
	}
}

func place(change func(*order.Place)) order.Place {
	c := order.Place{
		Number: "7K3M9QXD", Lines: []order.PlacedLine{line("", "A", 2, 295), line("", "B", 1, 1000)}, Currency: "GBP", Cart: "ref", Subject: "hash",
		Contact: personal.Sealed{Key: "hash", Box: []byte{1}}, PaymentToken: personal.Sealed{Key: "hash", Box: []byte{2}}, Country: "United Kingdom",
		PlacedAt: noon.In(time.FixedZone("", 3600)), PaymentDue: noon.Add(time.Minute),
	}
	change(&c)
	return c
}

// history is what happened to the order of placed() up to some event.
func history(events ...order.Event) []order.Event { return append([]order.Event{placed()}, events...) }

func sent(pairs ...order.LineQuantity) order.Fulfilled { return order.Fulfilled{Lines: pairs} }

func units(id string, n int) order.LineQuantity { return order.LineQuantity{ID: id, Quantity: n} }

var everything = sent(units("1", 2), units("2", 1))

func TestPlace(t *testing.T) {
	t.Parallel()
	given.Run(t, order.Evolve, []row{
		{Name: "lines get ids", When: place(func(*order.Place) {}), Then: history()},
		{Name: "the expected total", When: place(func(c *order.Place) { c.ExpectedTotal = new(gbp(1590)) }), Then: history()},
		{Name: "another total", When: place(func(c *order.Place) { c.ExpectedTotal = new(gbp(1591)) }), Broken: []string{"TOTAL_CHANGED expectedTotal"}},
		{Name: "the total in another currency", When: place(func(c *order.Place) { c.ExpectedTotal = &money.Money{Minor: 1590, Currency: "EUR"} }),
			Broken: []string{"TOTAL_CHANGED expectedTotal"}},
		{Name: "imported, with its own ids, one SKU twice, one line for nothing",
			When: order.Place{Number: "536365", Lines: []order.PlacedLine{line("7", "A", 80_995, 208), line("9", "A", 1, 0)}, Currency: "GBP",
				Customer: "17850", Country: "EIRE", Imported: true, PlacedAt: noon},
			Then: []order.Event{order.Placed{Number: "536365", Lines: []order.PlacedLine{line("7", "A", 80_995, 208), line("9", "A", 1, 0)},
				Total: gbp(80_995 * 208), Currency: "GBP", Customer: "17850", Country: "EIRE", Imported: true, PlacedAt: noon}}},
		{Name: "a number that is taken", Given: history(), When: place(func(*order.Place) {}), Broken: []string{"CONFLICT"}},
		{Name: "a total that does not fit", When: place(func(c *order.Place) { c.Lines = append(c.Lines, line("", "C", 1, math.MaxInt64)) }),
			Broken: []string{"INVALID lines.2"}},
		{Name: "a line that does not fit", When: place(func(c *order.Place) { c.Lines[0].UnitPrice.Minor = math.MaxInt64 }), Broken: []string{"INVALID lines.0"}},
		{Name: "no lines", When: place(func(c *order.Place) { c.Lines = nil }), Broken: []string{"INVALID lines"}},
		{Name: "too many lines", When: place(func(c *order.Place) { c.Lines = make([]order.PlacedLine, 10_001) }), Broken: []string{"INVALID lines"}},
		{Name: "all that is wrong at once", When: place(func(c *order.Place) {
			c.Number, c.PlacedAt = "", time.Time{}
			c.Lines = []order.PlacedLine{line("2", "A", 0, 1), line("", "B", 1, -1), line("x", "", 1, 1), line("y", "C", order.MaxQuantity+1, 1)}
		}), Broken: []string{"INVALID number", "INVALID placedAt", "INVALID lines.0.quantity", "INVALID lines.1", "INVALID lines.1.id",
			"INVALID lines.2", "INVALID lines.3.quantity"}},
		{Name: "no currency", When: place(func(c *order.Place) { c.Currency = "" }), Broken: []string{"INVALID currency", "INVALID lines.0", "INVALID lines.1"}},
		{Name: "another currency", When: place(func(c *order.Place) { c.Lines[1].UnitPrice.Currency = "EUR" }), Broken: []string{"INVALID lines.1"}},
	})
}

func TestConfirm(t *testing.T) {
	t.Parallel()
	given.Run(t, order.Evolve, []row{
		{Name: "pending", Given: history(), When: order.Confirm{}, Then: []order.Event{order.Confirmed{}}},
		{Name: "again", Given: history(order.Confirmed{}), When: order.Confirm{}},
		{Name: "after it was sent", Given: history(order.Confirmed{}, everything), When: order.Confirm{}},
		{Name: "after it was cancelled", Given: history(order.Cancelled{}), When: order.Confirm{}, Broken: []string{"NOT_ALLOWED orderId"}},
		{Name: "no order", When: order.Confirm{}, Broken: []string{"NOT_FOUND orderId"}},
	})
}

func TestCancel(t *testing.T) {
	t.Parallel()
	cancel := order.Cancel{Reason: "changed my mind", By: order.ByBuyer}
	cancelled := order.Cancelled{Reason: "changed my mind", By: "buyer"}
	given.Run(t, order.Evolve, []row{
		{Name: "pending", Given: history(), When: cancel, Then: []order.Event{cancelled}},
		{Name: "confirmed", Given: history(order.Confirmed{}), When: cancel, Then: []order.Event{cancelled}},
		{Name: "again", Given: history(cancelled), When: order.Cancel{Reason: "too late", By: order.BySystem}},
		{Name: "sent in part", Given: history(order.Confirmed{}, sent(units("1", 1))), When: cancel, Broken: []string{"NOT_ALLOWED orderId"}},
		{Name: "sent", Given: history(order.Confirmed{}, everything), When: cancel, Broken: []string{"NOT_ALLOWED orderId"}},
		{Name: "returned", Given: history(order.Confirmed{}, everything, order.Returned{Lines: everything.Lines, Amount: gbp(1590)}), When: cancel,
			Broken: []string{"NOT_ALLOWED orderId"}},
		{Name: "for a long reason", Given: history(), When: order.Cancel{Reason: strings.Repeat("x", 501)}, Broken: []string{"INVALID reason"}},
		{Name: "no order", When: cancel, Broken: []string{"NOT_FOUND orderId"}},
	})
}

func TestFulfill(t *testing.T) {
	t.Parallel()
	given.Run(t, order.Evolve, []row{
		{Name: "all", Given: history(order.Confirmed{}), When: order.Fulfill{Tracking: "JD1"},
			Then: []order.Event{order.Fulfilled{Lines: everything.Lines, Tracking: "JD1"}}},
		{Name: "what is left", Given: history(order.Confirmed{}, sent(units("1", 2))), When: order.Fulfill{}, Then: []order.Event{sent(units("2", 1))}},
		{Name: "again", Given: history(order.Confirmed{}, everything), When: order.Fulfill{Tracking: "JD1"}},
		{Name: "before it is paid", Given: history(), When: order.Fulfill{}, Broken: []string{"NOT_ALLOWED orderId"}},
		{Name: "after it was cancelled", Given: history(order.Cancelled{}), When: order.Fulfill{}, Broken: []string{"NOT_ALLOWED orderId"}},
		{Name: "after all came back", Given: history(order.Confirmed{}, everything, order.Returned{Lines: everything.Lines, Amount: gbp(1590)}),
			When: order.Fulfill{}, Broken: []string{"NOT_ALLOWED orderId"}},
		{Name: "with a long tracking", Given: history(order.Confirmed{}), When: order.Fulfill{Tracking: strings.Repeat("x", 201)}, Broken: []string{"INVALID tracking"}},
		{Name: "no order", When: order.Fulfill{}, Broken: []string{"NOT_FOUND orderId"}},
	})
}

func TestReturn(t *testing.T) {
	t.Parallel()
	done := history(order.Confirmed{}, everything)
	some := func(lines ...order.LineQuantity) order.Return { return order.Return{Lines: lines} }
	given.Run(t, order.Evolve, []row{
		{Name: "in part", Given: done, When: some(units("1", 1)),
			Then: []order.Event{order.Returned{Lines: []order.LineQuantity{units("1", 1)}, Amount: gbp(295)}}},
		{Name: "all", Given: done, When: some(everything.Lines...), Then: []order.Event{order.Returned{Lines: everything.Lines, Amount: gbp(1590)}}},
		{Name: "one line twice", Given: done, When: some(units("1", 1), units("1", 1)),
			Then: []order.Event{order.Returned{Lines: []order.LineQuantity{units("1", 1), units("1", 1)}, Amount: gbp(590)}}},
		{Name: "one line twice, too much", Given: done, When: some(units("1", 1), units("1", 2)), Broken: []string{"NOT_ALLOWED lines.1.quantity"}},
		{Name: "what is back already", Given: append(done, order.Returned{Lines: []order.LineQuantity{units("1", 2)}, Amount: gbp(590)}),
			When: some(units("1", 1), units("2", 1)), Broken: []string{"NOT_ALLOWED lines.0.quantity"}},
		{Name: "after all came back", Given: append(done, order.Returned{Lines: everything.Lines, Amount: gbp(1590)}), When: some(units("1", 1)),
			Broken: []string{"NOT_ALLOWED lines.0.quantity"}},
		{Name: "of what was sent so far", Given: history(order.Confirmed{}, sent(units("1", 1))), When: some(units("1", 1)),
			Then: []order.Event{order.Returned{Lines: []order.LineQuantity{units("1", 1)}, Amount: gbp(295)}}},
		{Name: "of what was not sent", Given: history(order.Confirmed{}, sent(units("1", 1))), When: some(units("1", 2), units("2", 1)),
			Broken: []string{"NOT_ALLOWED lines.0.quantity", "NOT_ALLOWED lines.1.quantity"}},
		{Name: "no such line, no such quantity", Given: done, When: some(units("9", 1), units("1", 0), units("1", math.MinInt), units("1", math.MaxInt)),
			Broken: []string{"NOT_FOUND lines.0.id", "INVALID lines.1.quantity", "INVALID lines.2.quantity", "INVALID lines.3.quantity"}},
		{Name: "nothing", Given: done, When: some(), Broken: []string{"INVALID lines"}},
		{Name: "before it was paid", Given: history(), When: some(units("1", 1)), Broken: []string{"NOT_ALLOWED orderId"}},
		{Name: "after it was cancelled", Given: history(order.Cancelled{}), When: some(units("1", 1)), Broken: []string{"NOT_ALLOWED orderId"}},
		{Name: "no order", When: some(units("1", 1)), Broken: []string{"NOT_FOUND orderId"}},
	})
}

func TestStatusMeansEveryUnit(t *testing.T) {
	t.Parallel()
	var s order.State
	for _, step := range []struct {
		event order.Event
		want  order.Status
	}{
		{history()[0], order.StatusPending},
		{order.Confirmed{}, order.StatusConfirmed},
		{order.Fulfilled{Lines: []order.LineQuantity{units("2", 1)}, Tracking: "JD1"}, order.StatusConfirmed},
		{sent(units("1", 2)), order.StatusFulfilled},
		{order.Returned{Lines: []order.LineQuantity{units("2", 1), units("1", 1)}, Amount: gbp(1295)}, order.StatusFulfilled},
		{order.Returned{Lines: []order.LineQuantity{units("1", 1)}, Amount: gbp(295)}, order.StatusReturned},
	} {
		if s = given.Fold(t, order.Evolve, s, step.event); s.Status != step.want {
			t.Errorf("after %#v the order is %s, want %s", step.event, s.Status, step.want)
		}
	}
	if s.Tracking != "JD1" {
		t.Errorf("the tracking is %q", s.Tracking)
	}
	if back, err := s.ReturnedAmount(); back != s.Total || err != nil {
		t.Errorf("what came back cost %v (%v), all cost %v", back, err, s.Total)
	}
	if l, ok := s.Line("2"); !ok || l.SKU != "B" {
		t.Errorf("line 2 is %+v", l)
	}
}

func TestEveryEventCounts(t *testing.T) {
	t.Parallel()
	given.EveryEventCounts(t, order.Evolve, order.Events(),
		history(order.Confirmed{}, everything, order.Returned{Lines: []order.LineQuantity{units("1", 1)}, Amount: gbp(295)}),
		history(order.Cancelled{Reason: "changed my mind", By: order.ByBuyer}))
}

func TestStoredEvents(t *testing.T) {
	t.Parallel()
	given.Stored(t, order.Events()...)
}

// TestInvariants runs random commands and looks at the order after each. All but a return are repeated, and have no
// second effect.
func TestInvariants(t *testing.T) {
	t.Parallel()
	type command = given.Command[order.State, order.Event]
	rapid.Check(t, func(t *rapid.T) {
		s := given.Fold(t, order.Evolve, order.State{}, history()...)
		refunded := gbp(0)
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			id := rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "line")
			n := rapid.IntRange(-1, 3).Draw(t, "quantity")
			back := order.Return{Lines: []order.LineQuantity{units(id, n), units("1", 1)}[:rapid.IntRange(1, 2).Draw(t, "lines")]}
			c := rapid.SampledFrom([]command{order.Confirm{}, order.Fulfill{Tracking: "JD1"}, order.Cancel{}, back, back, back}).Draw(t, "command")
			events, err := c.Decide(s)
			s = given.Fold(t, order.Evolve, s, events...)
			for _, l := range s.Lines {
				if l.Returned < 0 || l.Returned > l.Fulfilled || l.Fulfilled > l.Quantity {
					t.Fatalf("after %#v there is %+v", c, s)
				}
			}
			if _, returns := c.(order.Return); !returns && err == nil {
				if again, err := c.Decide(s); len(again) > 0 || err != nil {
					t.Fatalf("%#v, repeated, answers %v, %v", c, again, err)
				}
			}
			for _, e := range events {
				if e, ok := e.(order.Returned); ok {
					refunded.Minor += e.Amount.Minor
				}
			}
			if back, err := s.ReturnedAmount(); back != refunded || err != nil || back.Minor > s.Total.Minor {
				t.Fatalf("what came back cost %v (%v), the events say %v", back, err, refunded)
			}
		}
	})
}
