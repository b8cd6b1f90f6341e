package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/money"
)

// Target of live, in events/s.
const liveTarget = 15_000

const (
	orderLines = 5         // 10 events an order
	plenty     = 1_000_000 // units of each SKU
)

// live measures what the one worker of a shop keeps up with in all read models while everything else runs beside it, the
// generator of the orders too: events appended, over the time until no model lacks one of them.
func live(ctx context.Context, l *lab) (figures []Figure, err error) {
	s, err := l.shopOf(ctx, sampleShop)
	if err != nil {
		return nil, err
	}
	c, err := openClient(ctx, l, s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	skus, err := c.openSKUs(ctx)
	if err != nil {
		return nil, err
	}
	for _, sku := range skus {
		if _, err := c.stock(ctx, sku, inventory.Receive{Quantity: plenty}.Decide); err != nil {
			return nil, err
		}
	}
	if _, err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	var orders, events atomic.Int64
	run := time.Now()
	place := func(ctx context.Context, _ int) error {
		n := orders.Add(1)
		outcome, err := c.writer.Execute(ctx, c.app.ImportOrder(anOrder(run, n, skus)))
		events.Add(int64(outcome.Events))
		return err
	}
	began := time.Now()
	if _, _, err := closedLoop(ctx, l.Duration, side{"orders", callers, place}); err != nil {
		return nil, err
	}
	loaded := time.Since(began)
	if _, err := s.catchUp(ctx); err != nil {
		return nil, err
	}
	took := time.Since(began)
	l.say("  %d events of %d orders in %.1f s, visible in all models %.1f s later", events.Load(), orders.Load(), loaded.Seconds(), (took - loaded).Seconds())
	return []Figure{newFigure("live", float64(events.Load())/took.Seconds(), "events/s", Higher).aiming(liveTarget)}, nil
}

// anOrder is one as they come from the books: placed, paid and sent.
func anOrder(run time.Time, n int64, skus []string) commands.ImportOrder {
	in := commands.ImportOrder{Number: fmt.Sprintf("B%d-%d", run.Unix(), n), PlacedAt: run, Country: "United Kingdom"}
	for i := range orderLines {
		in.Lines = append(in.Lines, commands.ImportOrderLine{
			Place: i + 1, SKU: skus[(int(n)*orderLines+i)%len(skus)], Title: "A lantern of white metal", Quantity: 1,
			UnitPrice: money.Money{Minor: 295, Currency: "GBP"},
		})
	}
	return in
}
