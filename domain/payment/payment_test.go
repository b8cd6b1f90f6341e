package payment_test

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/domain/internal/given"
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/payment"
)

type row = given.Case[payment.State, payment.Event]

func gbp(minor int64) money.Money { return money.Money{Minor: minor, Currency: "GBP"} }

func eur(minor int64) money.Money { return money.Money{Minor: minor, Currency: "EUR"} }

var (
	authorise  = payment.Authorise{Order: "o1", Amount: gbp(590), Reference: "a1"}
	authorised = []payment.Event{payment.Authorised{Order: "o1", Amount: gbp(590), Reference: "a1"}}
	declined   = []payment.Event{payment.Declined{Order: "o1", Reason: "card refused"}}
	captured   = append(authorised, payment.Captured{Amount: gbp(590)})
	voided     = append(authorised, payment.Voided{Reason: "cancelled"})
	partly     = append(captured, payment.Refunded{Amount: gbp(295)})
	refunded   = append(captured, payment.Refunded{Amount: gbp(590)})
)

func TestDecide(t *testing.T) {
	t.Parallel()
	given.Run(t, payment.Evolve, []row{
		{Name: "authorise", When: authorise, Then: authorised},
		{Name: "authorise nothing, for a free order", When: payment.Authorise{Order: "o1", Amount: gbp(0)},
			Then: []payment.Event{payment.Authorised{Order: "o1", Amount: gbp(0)}}},
		{Name: "authorise again", Given: authorised, When: authorise},
		{Name: "authorise again after the capture", Given: captured, When: authorise},
		{Name: "authorise again after the void", Given: voided, When: authorise},
		{Name: "authorise again after the refund", Given: refunded, When: authorise},
		{Name: "authorise under another reference", Given: authorised, When: payment.Authorise{Order: "o1", Amount: gbp(590), Reference: "a2"}, Broken: []string{"CONFLICT"}},
		{Name: "authorise another amount", Given: authorised, When: payment.Authorise{Order: "o1", Amount: gbp(591), Reference: "a1"}, Broken: []string{"CONFLICT"}},
		{Name: "authorise after a decline", Given: declined, When: authorise, Broken: []string{"NOT_ALLOWED"}},
		{Name: "authorise less than nothing", When: payment.Authorise{Order: "o1", Amount: gbp(-1)}, Broken: []string{"INVALID amount"}},
		{Name: "authorise in no currency", When: payment.Authorise{Order: "o1"}, Broken: []string{"INVALID amount"}},
		{Name: "authorise for no order", When: payment.Authorise{Amount: gbp(1)}, Broken: []string{"INVALID"}},

		{Name: "decline", When: payment.Decline{Order: "o1", Reason: "card refused"}, Then: declined},
		{Name: "decline again", Given: declined, When: payment.Decline{Order: "o1", Reason: "still"}},
		{Name: "decline what is authorised", Given: authorised, When: payment.Decline{Order: "o1"}, Broken: []string{"NOT_ALLOWED"}},
		{Name: "decline for no order", When: payment.Decline{}, Broken: []string{"INVALID"}},
		{Name: "decline for a long reason", When: payment.Decline{Order: "o1", Reason: strings.Repeat("x", 501)}, Broken: []string{"INVALID reason"}},

		{Name: "capture", Given: authorised, When: payment.Capture{Amount: gbp(590)}, Then: []payment.Event{payment.Captured{Amount: gbp(590)}}},
		{Name: "capture less", Given: authorised, When: payment.Capture{Amount: gbp(1)}, Then: []payment.Event{payment.Captured{Amount: gbp(1)}}},
		{Name: "capture again", Given: captured, When: payment.Capture{Amount: gbp(590)}},
		{Name: "capture again after the refund", Given: refunded, When: payment.Capture{Amount: gbp(590)}},
		{Name: "capture another amount", Given: captured, When: payment.Capture{Amount: gbp(1)}, Broken: []string{"NOT_ALLOWED amount"}},
		{Name: "capture more", Given: authorised, When: payment.Capture{Amount: gbp(591)}, Broken: []string{"NOT_ALLOWED amount"}},
		{Name: "capture less than nothing", Given: authorised, When: payment.Capture{Amount: gbp(-1)}, Broken: []string{"INVALID amount"}},
		{Name: "capture another currency", Given: authorised, When: payment.Capture{Amount: eur(590)}, Broken: []string{"INVALID amount"}},
		{Name: "capture what is not authorised", When: payment.Capture{Amount: gbp(590)}, Broken: []string{"NOT_ALLOWED"}},
		{Name: "capture what is declined", Given: declined, When: payment.Capture{Amount: gbp(590)}, Broken: []string{"NOT_ALLOWED"}},
		{Name: "capture what was let go", Given: voided, When: payment.Capture{Amount: gbp(590)}, Broken: []string{"NOT_ALLOWED"}},

		{Name: "void", Given: authorised, When: payment.Void{Reason: "cancelled"}, Then: []payment.Event{payment.Voided{Reason: "cancelled"}}},
		{Name: "void again", Given: voided, When: payment.Void{Reason: "cancelled"}},
		{Name: "void what is not authorised", When: payment.Void{}},
		{Name: "void what is declined", Given: declined, When: payment.Void{}},
		{Name: "void what is captured", Given: captured, When: payment.Void{}, Broken: []string{"NOT_ALLOWED"}},
		{Name: "void for a bad reason", Given: authorised, When: payment.Void{Reason: "\x00"}, Broken: []string{"INVALID reason"}},

		{Name: "refund in part", Given: captured, When: payment.Refund{Total: gbp(295)}, Then: []payment.Event{payment.Refunded{Amount: gbp(295)}}},
		{Name: "refund in part again", Given: partly, When: payment.Refund{Total: gbp(295)}},
		{Name: "refund the rest", Given: partly, When: payment.Refund{Total: gbp(590)}, Then: []payment.Event{payment.Refunded{Amount: gbp(295)}}},
		{Name: "refund all", Given: captured, When: payment.Refund{Total: gbp(590)}, Then: []payment.Event{payment.Refunded{Amount: gbp(590)}}},
		{Name: "refund all again", Given: refunded, When: payment.Refund{Total: gbp(590)}},
		{Name: "an earlier refund, after a later one", Given: refunded, When: payment.Refund{Total: gbp(295)}},
		{Name: "refund more than there was", Given: partly, When: payment.Refund{Total: gbp(591)}, Broken: []string{"NOT_ALLOWED amount"}},
		{Name: "refund without bounds", Given: partly, When: payment.Refund{Total: gbp(math.MaxInt64)}, Broken: []string{"NOT_ALLOWED amount"}},
		{Name: "refund less than nothing", Given: captured, When: payment.Refund{Total: gbp(-1)}, Broken: []string{"INVALID amount"}},
		{Name: "refund another currency", Given: captured, When: payment.Refund{Total: eur(1)}, Broken: []string{"INVALID amount"}},
		{Name: "refund what is not captured", Given: authorised, When: payment.Refund{Total: gbp(1)}, Broken: []string{"NOT_ALLOWED"}},
	})
}

func TestEveryEventCounts(t *testing.T) {
	t.Parallel()
	given.EveryEventCounts(t, payment.Evolve, payment.Events(), declined, voided, append(partly, payment.Refunded{Amount: gbp(295)}))
}

func TestRefundedMeansAll(t *testing.T) {
	t.Parallel()
	if s := given.Fold(t, payment.Evolve, payment.State{}, partly...); s.Status != payment.StatusCaptured {
		t.Errorf("refunded in part is %s", s.Status)
	}
	if s := given.Fold(t, payment.Evolve, payment.State{}, refunded...); s.Status != payment.StatusRefunded {
		t.Errorf("refunded in full is %s", s.Status)
	}
}

func TestStoredEvents(t *testing.T) {
	t.Parallel()
	given.Stored(t, payment.Events()...)
}

// TestInvariants runs random commands, repeats each one that was accepted, and at the end repeats them all: nothing
// happens twice.
func TestInvariants(t *testing.T) {
	t.Parallel()
	type command = given.Command[payment.State, payment.Event]
	rapid.Check(t, func(t *rapid.T) {
		var (
			s        payment.State
			accepted []command
		)
		for range rapid.IntRange(1, 20).Draw(t, "steps") {
			amount := gbp(rapid.OneOf(rapid.Int64Range(-1, 600), rapid.Int64()).Draw(t, "amount"))
			c := rapid.SampledFrom([]command{
				authorise, payment.Authorise{Order: "o1", Amount: amount, Reference: "a2"}, payment.Decline{Order: "o1"}, payment.Void{},
				payment.Capture{Amount: amount}, payment.Capture{Amount: gbp(590)}, payment.Refund{Total: amount}, payment.Refund{Total: amount},
			}).Draw(t, "command")
			events, err := c.Decide(s)
			s = given.Fold(t, payment.Evolve, s, events...)
			if s.Refunded.Minor < 0 || s.Refunded.Minor > s.Captured.Minor || s.Captured.Minor > s.Authorised.Minor {
				t.Fatalf("after %#v there is %+v", c, s)
			}
			if err != nil {
				continue
			}
			if again, err := c.Decide(s); len(again) > 0 || err != nil {
				t.Fatalf("%#v, repeated, answers %v, %v", c, again, err)
			}
			if len(events) > 0 {
				accepted = append(accepted, c)
			}
		}
		for _, c := range accepted {
			if again, err := c.Decide(s); len(again) > 0 {
				t.Fatalf("%#v, repeated at the end, answers %v, %v", c, again, err)
			}
		}
	})
}
