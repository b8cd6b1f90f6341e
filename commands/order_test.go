package commands_test

import (
	"errors"
	"testing"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/commands/commandtest"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
)

// bought is a shop with the order of two small mugs and a large one.
func bought(t *testing.T) (*commandtest.Kit, string, string) {
	k := shopWithCart(t)
	r := must[commands.OrderResult](t)(k.App.CheckOut(ctx, checkout()))
	k.Fresh()
	return k, r.State.Number, r.AccessToken
}

func released(number string) []commandtest.Entry {
	return []commandtest.Entry{
		entry("stock-MUG-S", inventory.Released{Order: number, Quantity: 2}),
		entry("stock-MUG-L", inventory.Released{Order: number, Quantity: 1}),
	}
}

func TestOrderCancel(t *testing.T) {
	for name, staff := range map[string]bool{"buyer": false, "staff": true} {
		t.Run(name, func(t *testing.T) {
			k, number, token := bought(t)
			in := commands.OrderCancel{OrderID: number, AccessToken: token, Reason: "changed my mind"}
			if staff {
				in = commands.OrderCancel{OrderID: number, Staff: true, Reason: "changed my mind"}
			}
			r := must[commands.OrderResult](t)(k.App.OrderCancel(ctx, in))
			k.Then(append(released(number), entry("order-"+number, order.Cancelled{Reason: "changed my mind", By: name}))...)
			if r.State.Status != order.StatusCancelled {
				t.Fatalf("got %s", r.State.Status)
			}
			must[commands.OrderResult](t)(k.App.OrderCancel(ctx, in))
			k.Then()
		})
	}
}

func TestOrderRefusals(t *testing.T) {
	k, number, token := bought(t)
	k.Given("order-"+number, order.Confirmed{})
	cancel := func(in commands.OrderCancel) error {
		_, err := k.App.OrderCancel(ctx, in)
		return err
	}
	fulfill := func(in commands.OrderFulfill) error {
		_, err := k.App.OrderFulfill(ctx, in)
		return err
	}
	// An unknown order and a wrong token cannot be told apart.
	unknown := cancel(commands.OrderCancel{OrderID: "00000000", AccessToken: token})
	wantRefusals(t, k, unknown, "NOT_FOUND input.orderId")
	wrong := cancel(commands.OrderCancel{OrderID: number, AccessToken: "x" + token})
	wantRefusals(t, k, wrong, "NOT_FOUND input.orderId")
	right := cancel(commands.OrderCancel{OrderID: "00000000", AccessToken: k.App.AccessToken("00000000")})
	wantRefusals(t, k, right, "NOT_FOUND input.orderId")
	if unknown.Error() != wrong.Error() {
		t.Fatalf("%v and %v tell which orders exist", unknown, wrong)
	}
	wantRefusals(t, k, cancel(commands.OrderCancel{OrderID: "\x00", Staff: true}), "NOT_FOUND input.orderId")
	wantRefusals(t, k, cancel(commands.OrderCancel{OrderID: number, AccessToken: token, Reason: "\x00"}), "INVALID input.reason")
	wantRefusals(t, k, fulfill(commands.OrderFulfill{OrderID: "00000000"}), "NOT_FOUND input.orderId")
	wantRefusals(t, k, fulfill(commands.OrderFulfill{OrderID: number, Tracking: "a\nb"}), "INVALID input.tracking")

	if err := fulfill(commands.OrderFulfill{OrderID: number}); err != nil {
		t.Fatal(err)
	}
	k.Fresh()
	wantRefusals(t, k, cancel(commands.OrderCancel{OrderID: number, AccessToken: token}), "NOT_ALLOWED input.orderId")

	pending, number, _ := bought(t)
	_, err := pending.App.OrderFulfill(ctx, commands.OrderFulfill{OrderID: number})
	wantRefusals(t, pending, err, "NOT_ALLOWED input.orderId")
}

func TestOrderFulfill(t *testing.T) {
	k, number, _ := bought(t)
	k.Given("order-"+number, order.Confirmed{})
	for range 2 { // a repeated command yields no events
		r := must[commands.OrderResult](t)(k.App.OrderFulfill(ctx, commands.OrderFulfill{OrderID: number, Tracking: "RM1"}))
		if r.State.Status != order.StatusFulfilled {
			t.Fatalf("got %s", r.State.Status)
		}
	}
	k.Then(
		entry("stock-MUG-S", inventory.Shipped{Order: number, Quantity: 2}),
		entry("stock-MUG-L", inventory.Shipped{Order: number, Quantity: 1}),
		entry("order-"+number, order.Fulfilled{Lines: []order.LineQuantity{{ID: "1", Quantity: 2}, {ID: "2", Quantity: 1}}, Tracking: "RM1"}),
	)
}

func TestSettlePayment(t *testing.T) {
	const number = "ORDER001"
	cancelled := order.Cancelled{By: order.ByBuyer}
	authorised := payment.Authorised{Order: number, Amount: pounds(1750), Reference: "auth 1"}
	bySystem := func(reason string) []commandtest.Entry {
		return append(released(number), entry("order-"+number, order.Cancelled{Reason: reason, By: order.BySystem}))
	}
	authorise := func(k *commandtest.Kit) (commands.PaymentResult, error) {
		return k.App.AuthorisePayment(ctx, commands.AuthorisePayment{OrderID: number, Reference: "auth 1"})
	}
	decline := func(k *commandtest.Kit) (commands.PaymentResult, error) {
		return k.App.DeclinePayment(ctx, commands.DeclinePayment{OrderID: number, Reason: "no funds"})
	}
	expire := func(k *commandtest.Kit) (commands.PaymentResult, error) {
		k.Now = k.Now.Add(commandtest.Deadline)
		return k.App.ExpirePayment(ctx, commands.ExpirePayment{OrderID: number})
	}
	void := func(k *commandtest.Kit) (commands.PaymentResult, error) {
		return k.App.VoidPayment(ctx, commands.VoidPayment{OrderID: number})
	}
	capture := func(k *commandtest.Kit) (commands.PaymentResult, error) {
		return k.App.CapturePayment(ctx, commands.CapturePayment{OrderID: number})
	}
	refund := func(minor int64) func(k *commandtest.Kit) (commands.PaymentResult, error) {
		return func(k *commandtest.Kit) (commands.PaymentResult, error) {
			return k.App.RefundPayment(ctx, commands.RefundPayment{OrderID: number, Refund: payment.Refund{Total: pounds(minor)}})
		}
	}
	for _, test := range []struct {
		name   string
		orders []any
		paid   []any
		when   func(*commandtest.Kit) (commands.PaymentResult, error)
		then   []commandtest.Entry
		fails  []string
	}{
		{name: "authorise", when: authorise, then: []commandtest.Entry{entry("payment-"+number, authorised), entry("order-"+number, order.Confirmed{})}},
		{name: "authorise what is authorised", orders: []any{order.Confirmed{}}, paid: []any{authorised}, when: authorise},
		{name: "authorise too late", orders: []any{cancelled}, when: authorise, then: []commandtest.Entry{entry("payment-"+number, authorised)}},
		{name: "authorise what was declined", orders: []any{cancelled}, paid: []any{payment.Declined{Order: number}}, when: authorise, fails: []string{"NOT_ALLOWED"}},
		{name: "decline", when: decline, then: append([]commandtest.Entry{entry("payment-"+number, payment.Declined{Order: number, Reason: "no funds"})}, bySystem("the payment was declined")...)},
		{name: "decline what was cancelled", orders: []any{cancelled}, when: decline, then: []commandtest.Entry{entry("payment-"+number, payment.Declined{Order: number, Reason: "no funds"})}},
		{name: "decline what is authorised", orders: []any{order.Confirmed{}}, paid: []any{authorised}, when: decline, fails: []string{"NOT_ALLOWED"}},
		{name: "expire", when: expire, then: bySystem("the payment did not arrive in time")},
		{name: "expire what is confirmed", orders: []any{order.Confirmed{}}, paid: []any{authorised}, when: expire},
		{name: "expire what is cancelled", orders: []any{cancelled}, when: expire},
		{name: "void", orders: []any{order.Confirmed{}, cancelled}, paid: []any{authorised}, when: void, then: []commandtest.Entry{entry("payment-"+number, payment.Voided{Reason: "the order was cancelled"})}},
		{name: "void what was never heard of", orders: []any{cancelled}, when: void, then: []commandtest.Entry{entry("payment-"+number, payment.Declined{Order: number, Reason: "the order was cancelled"})}},
		{name: "void what is not cancelled", orders: []any{order.Confirmed{}}, paid: []any{authorised}, when: void, fails: []string{"NOT_ALLOWED"}},
		{name: "capture", orders: []any{order.Confirmed{}}, paid: []any{authorised}, when: capture, then: []commandtest.Entry{entry("payment-"+number, payment.Captured{Amount: pounds(1750)})}},
		{name: "capture nothing", when: capture, fails: []string{"NOT_ALLOWED"}},
		{name: "refund a part", paid: []any{authorised, payment.Captured{Amount: pounds(1750)}, payment.Refunded{Amount: pounds(500)}}, when: refund(750), then: []commandtest.Entry{entry("payment-"+number, payment.Refunded{Amount: pounds(250)})}},
		{name: "refund too much", paid: []any{authorised, payment.Captured{Amount: pounds(1750)}}, when: refund(1751), fails: []string{"NOT_ALLOWED amount"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := shop(t)
			k.Given("stock-MUG-S", inventory.Reserved{Order: number, Quantity: 2})
			k.Given("stock-MUG-L", inventory.Reserved{Order: number, Quantity: 1})
			k.Given("order-"+number, append([]any{order.Placed{
				Number: number, Total: pounds(1750), Currency: "GBP", PlacedAt: k.Now, PaymentDue: k.Now.Add(commandtest.Deadline),
				Lines: []order.PlacedLine{
					{ID: "1", SKU: "MUG-S", Product: mug, Title: "Mug", Quantity: 2, UnitPrice: pounds(500)},
					{ID: "2", SKU: "MUG-L", Product: mug, Title: "Mug", Quantity: 1, UnitPrice: pounds(750)},
				},
			}}, test.orders...)...)
			k.Given("payment-"+number, test.paid...)
			_, err := test.when(k)
			if err != nil || len(test.fails) > 0 {
				wantRefusals(t, k, err, test.fails...)
				return
			}
			k.Then(test.then...)
			if _, err := test.when(k); err != nil {
				t.Fatalf("repeated: %v", err)
			}
			k.Then() // a repeated command yields no events
		})
	}
}

func TestExpirePaymentWaitsForTheDeadline(t *testing.T) {
	k, number, _ := bought(t)
	if _, err := k.App.ExpirePayment(ctx, commands.ExpirePayment{OrderID: number}); !errors.Is(err, commands.ErrNotDue) {
		t.Fatalf("got %v, want %v", err, commands.ErrNotDue)
	}
	k.Then()
}

func TestPaymentsOf(t *testing.T) {
	k, number, _ := bought(t)
	k.Given("payment-"+number, payment.Authorised{Order: number, Amount: pounds(1750), Reference: "auth 1"})
	found, errs := k.App.PaymentsOf(ctx, []string{"00000000", number})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	if found[0].Order.Exists() || found[0].Payment.Status != "" {
		t.Errorf("of an order that does not exist %+v is known", found[0])
	}
	if r := found[1]; r.Order.Status != order.StatusPending || r.Payment.Status != payment.StatusAuthorised || r.Order.Number != number {
		t.Errorf("got %+v", r)
	}
	k.Then()
}
