package inventory_test

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/domain/internal/given"
	"github.com/millrace/millrace/domain/inventory"
)

type row = given.Case[inventory.State, inventory.Event]

func stock(onHand, reserved int) []inventory.Event {
	events := []inventory.Event{inventory.Opened{SKU: "A", Product: "p1"}}
	if onHand > 0 {
		events = append(events, inventory.Received{Quantity: onHand})
	}
	if reserved > 0 {
		events = append(events, inventory.Reserved{Order: "o0", Quantity: reserved})
	}
	return events
}

func TestDecide(t *testing.T) {
	t.Parallel()
	given.Run(t, inventory.Evolve, []row{
		{Name: "open", When: inventory.Open{SKU: "A", Product: "p1"}, Then: stock(0, 0)},
		{Name: "open again", Given: stock(5, 0), When: inventory.Open{SKU: "A", Product: "p1"}},
		{Name: "open for another product", Given: stock(0, 0), When: inventory.Open{SKU: "A", Product: "p2"}, Broken: []string{"CONFLICT sku"}},
		{Name: "open without a product", When: inventory.Open{SKU: "A"}, Broken: []string{"INVALID"}},

		{Name: "receive", Given: stock(0, 0), When: inventory.Receive{Quantity: 7, Reference: "d1"},
			Then: []inventory.Event{inventory.Received{Quantity: 7, Reference: "d1"}}},
		{Name: "receive for no SKU", When: inventory.Receive{Quantity: 7}, Broken: []string{"NOT_FOUND sku"}},
		{Name: "receive nothing", Given: stock(0, 0), When: inventory.Receive{}, Broken: []string{"INVALID quantity"}},
		{Name: "receive less than nothing", Given: stock(0, 0), When: inventory.Receive{Quantity: math.MinInt}, Broken: []string{"INVALID quantity"}},
		{Name: "receive too much", Given: stock(0, 0), When: inventory.Receive{Quantity: inventory.MaxQuantity + 1}, Broken: []string{"INVALID quantity"}},
		{Name: "receive more than there may be", Given: stock(inventory.MaxOnHand-5, 0), When: inventory.Receive{Quantity: 6}, Broken: []string{"INVALID quantity"}},
		{Name: "receive as much as there may be", Given: stock(inventory.MaxOnHand-5, 0), When: inventory.Receive{Quantity: 5},
			Then: []inventory.Event{inventory.Received{Quantity: 5}}},
		{Name: "receive with a long reference", Given: stock(0, 0), When: inventory.Receive{Quantity: 1, Reference: strings.Repeat("x", 201)},
			Broken: []string{"INVALID reference"}},

		{Name: "adjust upwards", Given: stock(0, 0), When: inventory.Adjust{Delta: 3, Reason: "found"},
			Then: []inventory.Event{inventory.Adjusted{Delta: 3, Reason: "found"}}},
		{Name: "adjust down to what is reserved", Given: stock(5, 2), When: inventory.Adjust{Delta: -3},
			Then: []inventory.Event{inventory.Adjusted{Delta: -3}}},
		{Name: "adjust what is promised away", Given: stock(5, 2), When: inventory.Adjust{Delta: -4}, Broken: []string{"OUT_OF_STOCK delta"}},
		{Name: "adjust by nothing", Given: stock(5, 2), When: inventory.Adjust{}, Broken: []string{"INVALID delta"}},
		{Name: "adjust by too much", Given: stock(5, 2), When: inventory.Adjust{Delta: math.MinInt}, Broken: []string{"INVALID delta"}},
		{Name: "adjust above what there may be", Given: stock(inventory.MaxOnHand, 0), When: inventory.Adjust{Delta: 1}, Broken: []string{"INVALID delta"}},
		{Name: "adjust with a bad reason", Given: stock(5, 2), When: inventory.Adjust{Delta: 1, Reason: "\x00"}, Broken: []string{"INVALID reason"}},
		{Name: "adjust no SKU", When: inventory.Adjust{Delta: 1}, Broken: []string{"NOT_FOUND sku"}},

		{Name: "reserve the last", Given: stock(5, 2), When: inventory.Reserve{Order: "o1", Quantity: 3},
			Then: []inventory.Event{inventory.Reserved{Order: "o1", Quantity: 3}}},
		{Name: "reserve more", Given: stock(5, 2), When: inventory.Reserve{Order: "o1", Quantity: 4}, Broken: []string{"OUT_OF_STOCK"}},
		{Name: "reserve nothing", Given: stock(5, 2), When: inventory.Reserve{Order: "o1"}, Broken: []string{"INVALID quantity"}},
		{Name: "reserve of no SKU", When: inventory.Reserve{Order: "o1", Quantity: 1}, Broken: []string{"NOT_FOUND"}},

		{Name: "release", Given: stock(5, 2), When: inventory.Release{Order: "o0", Quantity: 2},
			Then: []inventory.Event{inventory.Released{Order: "o0", Quantity: 2}}},
		{Name: "release more than is reserved", Given: stock(5, 2), When: inventory.Release{Order: "o0", Quantity: 3}, Broken: []string{"NOT_ALLOWED"}},
		{Name: "release of no SKU", When: inventory.Release{Order: "o0", Quantity: 3}, Broken: []string{"NOT_FOUND"}},

		{Name: "ship", Given: stock(5, 2), When: inventory.Ship{Order: "o0", Quantity: 2},
			Then: []inventory.Event{inventory.Shipped{Order: "o0", Quantity: 2}}},
		{Name: "ship more than is reserved", Given: stock(5, 2), When: inventory.Ship{Order: "o0", Quantity: 3}, Broken: []string{"NOT_ALLOWED"}},
		{Name: "ship nothing", Given: stock(5, 2), When: inventory.Ship{Order: "o0"}, Broken: []string{"INVALID quantity"}},

		{Name: "sell", Given: stock(5, 2), When: inventory.Sell{Order: "o1", Quantity: 3},
			Then: []inventory.Event{inventory.Sold{Order: "o1", Quantity: 3}}},
		{Name: "sell what is reserved", Given: stock(5, 2), When: inventory.Sell{Order: "o1", Quantity: 4}, Broken: []string{"OUT_OF_STOCK"}},
		{Name: "sell nothing", Given: stock(5, 2), When: inventory.Sell{Order: "o1"}, Broken: []string{"INVALID quantity"}},

		{Name: "return", Given: stock(5, 2), When: inventory.Return{Order: "o1", Quantity: 3},
			Then: []inventory.Event{inventory.Returned{Order: "o1", Quantity: 3}}},
		{Name: "return more than there may be", Given: stock(inventory.MaxOnHand, 0), When: inventory.Return{Order: "o1", Quantity: 1}, Broken: []string{"INVALID"}},
		{Name: "return to no SKU", When: inventory.Return{Order: "o1", Quantity: 1}, Broken: []string{"NOT_FOUND"}},
	})
}

func TestRefusalSaysWhatIsAvailable(t *testing.T) {
	t.Parallel()
	s := given.Fold(t, inventory.Evolve, inventory.State{}, stock(5, 2)...)
	_, err := inventory.Reserve{Order: "o1", Quantity: 4}.Decide(s)
	if err == nil || !strings.Contains(err.Error(), "SKU A: only 3 are available") {
		t.Errorf("the refusal is %v", err)
	}
}

func TestEveryEventCounts(t *testing.T) {
	t.Parallel()
	given.EveryEventCounts(t, inventory.Evolve, inventory.Events(), append(stock(9, 4),
		inventory.Released{Order: "o0", Quantity: 1}, inventory.Shipped{Order: "o0", Quantity: 3}, inventory.Sold{Order: "o1", Quantity: 2},
		inventory.Returned{Order: "o1", Quantity: 1}, inventory.Adjusted{Delta: -1}))
}

func TestStoredEvents(t *testing.T) {
	t.Parallel()
	given.Stored(t, inventory.Events()...)
}

func TestAvailableIsNeverBelowZero(t *testing.T) {
	t.Parallel()
	type command = given.Command[inventory.State, inventory.Event]
	rapid.Check(t, func(t *rapid.T) {
		quantity := rapid.OneOf(rapid.IntRange(-1, 20), rapid.SampledFrom([]int{
			math.MinInt, math.MaxInt, inventory.MaxQuantity, inventory.MaxOnHand, 1 - inventory.MaxQuantity}))
		var s inventory.State
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			q := quantity.Draw(t, "quantity")
			c := rapid.SampledFrom([]command{
				inventory.Open{SKU: "A", Product: "p1"}, inventory.Open{SKU: "A", Product: "p2"}, inventory.Receive{Quantity: q},
				inventory.Adjust{Delta: q}, inventory.Adjust{Delta: -q}, inventory.Reserve{Order: "o", Quantity: q},
				inventory.Release{Order: "o", Quantity: q}, inventory.Ship{Order: "o", Quantity: q},
				inventory.Sell{Order: "o", Quantity: q}, inventory.Return{Order: "o", Quantity: q},
			}).Draw(t, "command")
			events, err := c.Decide(s)
			if err != nil && events != nil {
				t.Fatalf("%#v was refused with events %v", c, events)
			}
			s = given.Fold(t, inventory.Evolve, s, events...)
			if s.Reserved < 0 || s.Available() < 0 || s.OnHand > inventory.MaxOnHand {
				t.Fatalf("after %#v there is %+v", c, s)
			}
		}
	})
}
