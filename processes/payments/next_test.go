package payments_test

import (
	"testing"
	"time"

	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
	"github.com/millrace/millrace/processes/payments"
)

func TestNext(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	gbp := func(minor int64) money.Money { return money.Money{Minor: minor, Currency: "GBP"} }
	o := func(s order.Status) order.State {
		return order.State{Number: "X", Status: s, Currency: "GBP", Total: gbp(10), PaymentDue: now.Add(time.Second)}
	}
	paid := func(s payment.Status) payment.State {
		return payment.State{Order: "X", Status: s, Authorised: gbp(10), Captured: gbp(10)}
	}
	due, returned, imported := o(order.StatusPending), o(order.StatusFulfilled), o(order.StatusPending)
	due.PaymentDue = now
	returned.Lines = []order.Line{{ID: "1", Quantity: 2, Fulfilled: 2, Returned: 1, UnitPrice: gbp(5)}}
	imported.Imported = true
	refunded := paid(payment.StatusCaptured)
	refunded.Refunded = gbp(5)
	for _, test := range []struct {
		name string
		o    order.State
		p    payment.State
		want payments.Step
	}{
		{"no order", order.State{}, payment.State{}, payments.Nothing},
		{"an imported order", imported, payment.State{}, payments.Nothing},
		{"waits for its payment", o(order.StatusPending), payment.State{}, payments.Authorise},
		{"waits for too long", due, payment.State{}, payments.Expire},
		{"is authorised", o(order.StatusConfirmed), paid(payment.StatusAuthorised), payments.Nothing},
		{"is declined", o(order.StatusCancelled), paid(payment.StatusDeclined), payments.Nothing},
		{"was cancelled before an answer", o(order.StatusCancelled), payment.State{}, payments.Void},
		{"was cancelled with money kept", o(order.StatusCancelled), paid(payment.StatusAuthorised), payments.Void},
		{"was cancelled and voided", o(order.StatusCancelled), paid(payment.StatusVoided), payments.Nothing},
		{"was sent", o(order.StatusFulfilled), paid(payment.StatusAuthorised), payments.Capture},
		{"was sent and captured", o(order.StatusFulfilled), paid(payment.StatusCaptured), payments.Nothing},
		{"came back in part", returned, paid(payment.StatusCaptured), payments.Refund},
		{"came back in part and was refunded", returned, refunded, payments.Nothing},
		{"came back before the capture", returned, paid(payment.StatusAuthorised), payments.Capture},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := payments.Next(test.o, test.p, now); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
