package main

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/domain/payment"
	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/processes/payments"
	"github.com/millrace/millrace/processes/sandbox"
)

// slowProvider authorises when it is allowed to.
type slowProvider struct {
	sandbox.Provider
	asked, answer chan struct{}
}

func (p slowProvider) Authorise(context.Context, payments.AuthoriseRequest) (string, error) {
	close(p.asked)
	<-p.answer
	return "ref", nil
}

// TestWhatIsAnsweredAfterTheStopIsRecorded stops a process that waits for the payment provider, which then authorises.
func TestWhatIsAnsweredAfterTheStopIsRecorded(t *testing.T) {
	t.Parallel()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	e := stacktest.New(t)
	pool := connect(t, e.DatabaseURL)
	s, err := openShop(t.Context(), serverFlags{
		logFlags: logFlags{DatabaseURL: e.DatabaseURL}, RedisURL: e.RedisURL, NATSURL: e.NATSURL, SecretKey: strings.Repeat("5a", 32),
	}, lagFlags{LagTarget: time.Second}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	must(err)
	provider := slowProvider{asked: make(chan struct{}), answer: make(chan struct{})}
	answer := sync.OnceFunc(func() { close(provider.answer) })
	stop := sync.OnceFunc(func() {
		if err := s.close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	t.Cleanup(func() {
		answer()
		stop()
	})
	side, err := s.writeSide(writeFlags{stateFlags{64}, keyFlags{time.Hour}, paymentFlags{time.Hour}}, nil)
	must(err)
	models := s.models()
	must(s.worker(s.ctx, allProjections(), false))
	must(s.process(side, models, provider))
	_, err = side.app.ProductCreate(t.Context(), commands.ProductCreate{
		Title: "Mug", Status: catalog.StatusActive, Variants: []commands.VariantInput{{SKU: "MUG", Price: "5.00"}},
	})
	must(err)
	_, err = side.app.StockReceive(t.Context(), commands.StockReceive{SKU: "MUG", Quantity: 1})
	must(err)
	c, err := side.app.CartCreate(t.Context(), commands.CartCreate{Lines: []commands.LineInput{{SKU: "MUG", Quantity: 1}}})
	must(err)
	_, err = side.app.CheckOut(t.Context(), commands.CheckOut{
		CartID: c.ID, Email: "ada@example.org", PaymentToken: "ok",
		ShippingAddress: commands.Address{Name: "Ada", Line1: "1 Mill Lane", City: "Leeds", Country: "GB"},
	})
	must(err)
	select {
	case <-provider.asked:
	case <-time.After(settle):
		t.Fatal("the provider was not asked")
	}
	go stop()
	<-s.deciding.Done()
	if s.ctx.Err() != nil {
		t.Error("what records the answer was told to stop with those who wait for it")
	}
	answer()
	stop() // returns when it has
	events := countEvents(t, pool)
	for _, want := range []string{payment.Authorised{}.EventType(), order.Confirmed{}.EventType()} {
		if events[want] != 1 {
			t.Errorf("%d events %s are in the log, want 1", events[want], want)
		}
	}
}
