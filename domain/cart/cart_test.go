package cart_test

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/internal/given"
	"github.com/millrace/millrace/domain/money"
)

type row = given.Case[cart.State, cart.Event]

func gbp(minor int64) money.Money { return money.Money{Minor: minor, Currency: "GBP"} }

func line(sku string, quantity int, minor int64) cart.NewLine {
	return cart.NewLine{SKU: sku, Product: "p-" + sku, Title: "T " + sku, Quantity: quantity, UnitPrice: gbp(minor)}
}

func added(sku string, quantity int, minor int64) cart.LineAdded {
	return cart.LineAdded{SKU: sku, Product: "p-" + sku, Title: "T " + sku, Quantity: quantity, UnitPrice: gbp(minor)}
}

func holding(events ...cart.Event) []cart.Event {
	return append([]cart.Event{cart.Created{Currency: "GBP"}}, events...)
}

func many(n int) (lines []cart.NewLine, events []cart.Event) {
	for i := range n {
		sku := fmt.Sprintf("S%d", i)
		lines, events = append(lines, line(sku, 1, 100)), append(events, added(sku, 1, 100))
	}
	return lines, events
}

func TestDecide(t *testing.T) {
	t.Parallel()
	lines500, events500 := many(cart.MaxLines)
	lines501, _ := many(cart.MaxLines + 1)
	closed := holding(added("A", 2, 295), cart.CheckedOut{Order: "o1"})
	given.Run(t, cart.Evolve, []row{
		{Name: "create", When: cart.Create{Currency: "GBP"}, Then: holding()},
		{Name: "create with lines", When: cart.Create{Currency: "GBP", Lines: []cart.NewLine{line("A", 2, 295), line("B", 1, 0)}},
			Then: holding(added("A", 2, 295), added("B", 1, 0))},
		{Name: "create twice", Given: holding(), When: cart.Create{Currency: "GBP"}, Broken: []string{"CONFLICT"}},
		{Name: "create in no currency", When: cart.Create{}, Broken: []string{"INVALID"}},
		{Name: "create in a currency that is none", When: cart.Create{Currency: "XXX"}, Broken: []string{"INVALID"}},
		{Name: "create with a bad line", When: cart.Create{Currency: "GBP", Lines: []cart.NewLine{line("A", 2, 295), line("B", 0, 1)}},
			Broken: []string{"INVALID lines.1.quantity"}},

		{Name: "add", Given: holding(), When: cart.AddLines{Lines: []cart.NewLine{line("A", 2, 295)}}, Then: []cart.Event{added("A", 2, 295)}},
		{Name: "add nothing", Given: holding(), When: cart.AddLines{}},
		{Name: "add to what is there, up to the most", Given: holding(added("A", 1, 295)),
			When: cart.AddLines{Lines: []cart.NewLine{line("A", cart.MaxQuantity-1, 255)}}, Then: []cart.Event{added("A", cart.MaxQuantity-1, 255)}},
		{Name: "add above the most", Given: holding(added("A", 1, 295)),
			When: cart.AddLines{Lines: []cart.NewLine{line("A", cart.MaxQuantity, 255)}}, Broken: []string{"INVALID lines.0.quantity"}},
		{Name: "add one SKU twice above the most", Given: holding(),
			When:   cart.AddLines{Lines: []cart.NewLine{line("A", 60_000, 1), line("A", 60_000, 1)}},
			Broken: []string{"INVALID lines.1.quantity"}},
		{Name: "add without bounds", Given: holding(added("A", 1, 295)),
			When: cart.AddLines{Lines: []cart.NewLine{line("A", math.MaxInt, 1), line("A", -1, 1)}}, Broken: []string{"INVALID lines.0.quantity", "INVALID lines.1.quantity"}},
		{Name: "add another currency", Given: holding(),
			When:   cart.AddLines{Lines: []cart.NewLine{{SKU: "A", Product: "p", Quantity: 1, UnitPrice: money.Money{Minor: 1, Currency: "EUR"}}}},
			Broken: []string{"INVALID lines.0.sku"}},
		{Name: "add a line that is none", Given: holding(), When: cart.AddLines{Lines: []cart.NewLine{{Quantity: 1}, line("A", 1, -1)}},
			Broken: []string{"INVALID lines.0.sku", "INVALID lines.1.sku"}},
		{Name: "add as many lines as there may be", Given: holding(), When: cart.AddLines{Lines: lines500}, Then: events500},
		{Name: "add more lines", Given: holding(), When: cart.AddLines{Lines: lines501}, Broken: []string{"INVALID lines"}},
		{Name: "add to a full cart", Given: holding(events500...), When: cart.AddLines{Lines: []cart.NewLine{line("A", 1, 1)}}, Broken: []string{"INVALID lines"}},
		{Name: "add to the lines of a full cart", Given: holding(events500...), When: cart.AddLines{Lines: lines500[:1]}, Then: events500[:1]},
		{Name: "add more than can be paid", Given: holding(added("A", 1, math.MaxInt64)), When: cart.AddLines{Lines: []cart.NewLine{line("B", 1, 1)}},
			Broken: []string{"INVALID lines"}},
		{Name: "add a line that cannot be paid", Given: holding(), When: cart.AddLines{Lines: []cart.NewLine{line("B", 2, math.MaxInt64)}},
			Broken: []string{"INVALID lines"}},
		{Name: "add to no cart", When: cart.AddLines{Lines: lines500}, Broken: []string{"NOT_FOUND cartId"}},
		{Name: "add to a closed cart", Given: closed, When: cart.AddLines{Lines: lines500}, Broken: []string{"CART_CLOSED cartId"}},

		{Name: "update", Given: holding(added("A", 2, 295), added("B", 1, 1), added("C", 3, 1)),
			When: cart.UpdateLines{Lines: []cart.Quantity{{SKU: "A", Quantity: 6}, {SKU: "B", Quantity: 0}, {SKU: "C", Quantity: 3}}},
			Then: []cart.Event{cart.LineChanged{SKU: "A", Quantity: 6}, cart.LineRemoved{SKU: "B"}}},
		{Name: "update what is not there", Given: holding(added("A", 2, 295)),
			When:   cart.UpdateLines{Lines: []cart.Quantity{{SKU: "A", Quantity: 6}, {SKU: "B", Quantity: 0}}},
			Broken: []string{"NOT_FOUND lines.1.sku"}},
		{Name: "update what was just removed", Given: holding(added("A", 2, 295)),
			When:   cart.UpdateLines{Lines: []cart.Quantity{{SKU: "A", Quantity: 0}, {SKU: "A", Quantity: 1}}},
			Broken: []string{"NOT_FOUND lines.1.sku"}},
		{Name: "update out of bounds", Given: holding(added("A", 2, 295)),
			When:   cart.UpdateLines{Lines: []cart.Quantity{{SKU: "A", Quantity: -1}, {SKU: "A", Quantity: cart.MaxQuantity + 1}}},
			Broken: []string{"INVALID lines.0.quantity", "INVALID lines.1.quantity"}},
		{Name: "update to more than can be paid", Given: holding(added("A", 1, math.MaxInt64)),
			When: cart.UpdateLines{Lines: []cart.Quantity{{SKU: "A", Quantity: 2}}}, Broken: []string{"INVALID lines"}},
		{Name: "update no cart", When: cart.UpdateLines{}, Broken: []string{"NOT_FOUND cartId"}},
		{Name: "update a closed cart", Given: closed, When: cart.UpdateLines{}, Broken: []string{"CART_CLOSED cartId"}},

		{Name: "check out", Given: holding(added("A", 2, 295)), When: cart.CheckOut{Order: "o1"}, Then: []cart.Event{cart.CheckedOut{Order: "o1"}}},
		{Name: "check out again", Given: closed, When: cart.CheckOut{Order: "o1"}},
		{Name: "check out into another order", Given: closed, When: cart.CheckOut{Order: "o2"}, Broken: []string{"CART_CLOSED cartId"}},
		{Name: "check out nothing", Given: holding(added("A", 2, 295), cart.LineRemoved{SKU: "A"}), When: cart.CheckOut{Order: "o1"}, Broken: []string{"CART_EMPTY cartId"}},
		{Name: "check out no cart", When: cart.CheckOut{Order: "o1"}, Broken: []string{"NOT_FOUND cartId"}},
		{Name: "check out into no order", Given: closed, When: cart.CheckOut{}, Broken: []string{"INVALID"}},
	})
}

func TestOneLineASKU(t *testing.T) {
	t.Parallel()
	s := given.Fold(t, cart.Evolve, cart.State{}, holding(added("A", 2, 295), added("B", 1, 1000), added("A", 3, 255))...)
	l, ok := s.Line("A")
	if !ok || l.Quantity != 5 || l.UnitPrice != gbp(255) || len(s.Lines) != 2 || s.Lines[0].SKU != "A" {
		t.Errorf("the lines are %+v", s.Lines)
	}
	if _, ok := s.Line("C"); ok {
		t.Error("there is a line that nobody added")
	}
	if sum, err := s.Subtotal(); sum != gbp(5*255+1000) || err != nil {
		t.Errorf("the subtotal is %v, %v", sum, err)
	}
}

func TestSubtotalThatDoesNotFit(t *testing.T) {
	t.Parallel()
	for _, lines := range [][]cart.Event{{added("A", 2, math.MaxInt64)}, {added("A", 1, math.MaxInt64), added("B", 1, 1)}} {
		s := given.Fold(t, cart.Evolve, cart.State{}, holding(lines...)...)
		if sum, err := s.Subtotal(); err == nil {
			t.Errorf("the subtotal is %v", sum)
		}
	}
}

func TestEveryEventCounts(t *testing.T) {
	t.Parallel()
	given.EveryEventCounts(t, cart.Evolve, cart.Events(), holding(added("A", 2, 295), added("B", 1, 1),
		cart.LineChanged{SKU: "A", Quantity: 3}, cart.LineRemoved{SKU: "B"}, cart.CheckedOut{Order: "o1"}))
}

func TestStoredEvents(t *testing.T) {
	t.Parallel()
	given.Stored(t, cart.Events()...)
}

// TestInvariants runs random commands, the good and the bad, looks at the cart after each, and repeats all but those
// that add: none has another effect.
func TestInvariants(t *testing.T) {
	t.Parallel()
	type command = given.Command[cart.State, cart.Event]
	rapid.Check(t, func(t *rapid.T) {
		var s cart.State
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			sku := rapid.SampledFrom([]string{"A", "B", "C"}).Draw(t, "sku")
			n := rapid.SampledFrom([]int{-1, 0, 1, 2, 50_000, cart.MaxQuantity, math.MaxInt}).Draw(t, "quantity")
			price := rapid.SampledFrom([]int64{-1, 0, 295, math.MaxInt64 / cart.MaxQuantity, math.MaxInt64}).Draw(t, "price")
			update := cart.UpdateLines{Lines: []cart.Quantity{{SKU: sku, Quantity: n}}}
			c := rapid.SampledFrom([]command{
				cart.Create{Currency: "GBP"}, cart.AddLines{Lines: []cart.NewLine{line(sku, n, price), line("A", 1, 1)}}, update, update,
				cart.CheckOut{Order: "o1"},
			}).Draw(t, "command")
			events, err := c.Decide(s)
			s = given.Fold(t, cart.Evolve, s, events...)
			seen := make(map[string]bool)
			for _, l := range s.Lines {
				if seen[l.SKU] || l.Quantity < 1 || l.Quantity > cart.MaxQuantity {
					t.Fatalf("after %#v there is %+v", c, s)
				}
				seen[l.SKU] = true
			}
			if _, err := s.Subtotal(); err != nil {
				t.Fatalf("after %#v: %v", c, err)
			}
			if _, adds := c.(cart.AddLines); adds || err != nil {
				continue
			}
			if again, err := c.Decide(s); len(again) > 0 {
				t.Fatalf("%#v, repeated, answers %v, %v", c, again, err)
			}
		}
	})
}
