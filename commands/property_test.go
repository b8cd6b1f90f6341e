package commands_test

import (
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/commands/commandtest"
	"github.com/millrace/millrace/domain/order"
)

// Whatever buyers, staff and the payment process do, in whatever order: units that are reserved are those of the orders
// that are open, none is sold twice, and who repeats a step changes nothing.
func TestStockIsWhatOrdersSay(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		k := shop(t)
		received := map[string]int{"MUG-S": 10, "MUG-L": 10}
		var numbers []string
		steps := rapid.IntRange(1, 25).Draw(r, "steps")
		for range steps {
			step := rapid.SampledFrom([]string{"buy", "buy", "authorise", "decline", "expire", "cancel", "fulfill", "receive"}).Draw(r, "step")
			if step == "buy" {
				if number := buySome(t, r, k); number != "" {
					numbers = append(numbers, number)
				}
				continue
			}
			if step == "receive" {
				n := rapid.IntRange(1, 5).Draw(r, "received")
				must[commands.StockResult](t)(k.App.StockReceive(ctx, commands.StockReceive{SKU: "MUG-S", Quantity: n}))
				received["MUG-S"] += n
				continue
			}
			if len(numbers) == 0 {
				continue
			}
			number := rapid.SampledFrom(numbers).Draw(r, "order")
			do := stepOf(k, step, number)
			k.Fresh()
			first := do()
			k.Fresh()
			again := do()
			if events := k.Fresh(); len(events) > 0 || (first == nil) != (again == nil) {
				r.Fatalf("%s, repeated, came to %v (%v, then %v)", step, events, first, again)
			}
		}
		checkStock(r, k, received, numbers)
	})
}

// buySome checks out a cart of some mugs, if there are enough.
func buySome(t *testing.T, r *rapid.T, k *commandtest.Kit) string {
	lines := []commands.LineInput{{SKU: "MUG-S", Quantity: rapid.IntRange(1, 6).Draw(r, "small")}}
	if large := rapid.IntRange(0, 6).Draw(r, "large"); large > 0 {
		lines = append(lines, commands.LineInput{SKU: "MUG-L", Quantity: large})
	}
	c := must[commands.CartResult](t)(k.App.CartCreate(ctx, commands.CartCreate{Lines: lines}))
	in := checkout()
	in.CartID = c.ID
	o, err := k.App.CheckOut(ctx, in)
	if err != nil && !strings.Contains(fmt.Sprint(refusals(err)), "OUT_OF_STOCK") {
		r.Fatal(err)
	}
	return o.State.Number
}

func stepOf(k *commandtest.Kit, step, number string) func() error {
	return func() (err error) {
		switch step {
		case "authorise":
			_, err = k.App.AuthorisePayment(ctx, commands.AuthorisePayment{OrderID: number, Reference: "ref"})
		case "decline":
			_, err = k.App.DeclinePayment(ctx, commands.DeclinePayment{OrderID: number})
		case "expire":
			k.Now = k.Now.Add(commandtest.Deadline)
			_, err = k.App.ExpirePayment(ctx, commands.ExpirePayment{OrderID: number})
		case "cancel":
			_, err = k.App.OrderCancel(ctx, commands.OrderCancel{OrderID: number, Staff: true})
		case "fulfill":
			_, err = k.App.OrderFulfill(ctx, commands.OrderFulfill{OrderID: number})
		}
		return err
	}
}

func checkStock(r *rapid.T, k *commandtest.Kit, received map[string]int, numbers []string) {
	for sku, total := range received {
		var reserved, sent int
		for _, number := range numbers {
			o := commandtest.State(k, commands.Orders.Stream(number))
			for _, l := range o.Lines {
				if l.SKU != sku {
					continue
				}
				switch o.Status {
				case order.StatusPending, order.StatusConfirmed:
					reserved += l.Quantity
				case order.StatusFulfilled:
					sent += l.Quantity
				default: // nothing was sent, nothing is kept
				}
			}
		}
		s := commandtest.State(k, commands.Stocks.Stream(sku))
		if s.Reserved != reserved || s.OnHand != total-sent || s.Available() < 0 {
			r.Fatalf("the stock of %s is %+v; orders hold %d, %d of %d were sent", sku, s, reserved, sent, total)
		}
	}
}
