package bench

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Targets of flash-sale.
const (
	crowdTimeTarget   = 5 // s, of a sale of 100 units to 1,000 buyers
	hotRateTarget     = 700
	hotP99Target      = 250       // ms
	oneSKUTarget      = 1.0 / 1.3 // of the rate of a thousand SKUs, which may be 1.3 times as high
	twoAPIsTarget     = 0.7       // of the rate of one api process
	leastShareTarget  = 35        // %, of what two sell together
	hotBuyers         = 10_000
	spreadSKUs        = 1000
	hotRounds         = 3
	browsingBeforeHot = time.Second
)

// flashSale sells little to a crowd, with one and with two api processes, and then, in turns, as much as there are buyers: of one SKU, of a
// thousand, and of one through two api processes.
func flashSale(ctx context.Context, l *lab) (figures []Figure, err error) {
	for apis := range 2 {
		s, err := l.sellAloud(ctx, SaleOptions{APIs: apis + 1})
		if err != nil {
			return figures, err
		}
		figures = append(figures, crowdFigures(fmt.Sprintf("flash-sale-crowd-api-%d", apis+1), s)...)
	}
	var hot hotSales
	for range hotRounds {
		for _, kind := range []struct {
			SaleOptions
			into *[]*saleOutcome
		}{{SaleOptions{}, &hot.one}, {SaleOptions{SKUs: spreadSKUs}, &hot.spread}, {SaleOptions{APIs: 2}, &hot.two}} {
			o := kind.SaleOptions
			o.Units, o.Buyers, o.Before = hotBuyers, hotBuyers, browsingBeforeHot
			s, err := l.sellAloud(ctx, o)
			if err != nil {
				return figures, err
			}
			*kind.into = append(*kind.into, s)
		}
	}
	return append(figures, hot.figures()...), nil
}

func (l *lab) sellAloud(ctx context.Context, o SaleOptions) (*saleOutcome, error) {
	s, err := l.sell(ctx, o)
	if err != nil {
		return nil, err
	}
	_, checkout, _, _ := s.steps()
	l.say("  %d sold, %d refused, %d failed in %.1f s: %.0f orders/s, checkout p99 %.1f ms", s.sums[sold], s.sums[refused], s.sums[failed],
		s.over.Seconds(), s.rate(), milliseconds(percentile(checkout, 99)))
	for _, p := range s.summary().Problems {
		l.say("  %d times: %s", p.Count, p.Reason)
	}
	return s, nil
}

// crowdFigures are those of a sale to many more buyers than there are units.
func crowdFigures(name string, s *saleOutcome) []Figure {
	_, _, refusal, _ := s.steps()
	before, during, _ := s.browsing()
	return []Figure{
		newFigure(name+"-sold", float64(s.sums[sold]), "buyers", Higher).aiming(float64(product{units: s.audit.units}.expected(s.Buyers))),
		newFigure(name+"-failed", float64(s.sums[failed]), "buyers", Lower).aiming(0),
		newFigure(name+"-oversold", float64(s.audit.oversold), "units", Lower).aiming(0),
		newFigure(name+"-again", float64(s.again), "requests", Lower),
		newFigure(name+"-time", s.over.Seconds(), "s", Lower).aiming(crowdTimeTarget),
		newFigure(name+"-refusal-p99", milliseconds(percentile(refusal, 99)), "ms", Lower),
		newFigure(name+"-browsing-p99", milliseconds(percentile(during, 99)), "ms", Lower).against(milliseconds(percentile(before, 99))),
	}
}

// hotSales are sales of as many units as there are buyers.
type hotSales struct{ one, spread, two []*saleOutcome }

func (h hotSales) figures() []Figure {
	var checkouts []time.Duration
	for _, s := range h.one {
		_, took, _, _ := s.steps()
		checkouts = append(checkouts, took...)
	}
	var least []float64
	for _, s := range h.two {
		least = append(least, min(s.shareOf(0), s.shareOf(1)))
	}
	failures, oversold, unconfirmed := 0, 0, 0
	for _, s := range slices.Concat(h.one, h.spread, h.two) {
		failures += s.sums[failed]
		oversold += s.audit.oversold
		unconfirmed += s.sums[sold] - len(s.confirms)
	}
	one := rateOf(h.one)
	return []Figure{
		newFigure("flash-sale-rate", one, "orders/s", Higher).aiming(hotRateTarget),
		newFigure("flash-sale-checkout-p99", milliseconds(percentile(checkouts, 99)), "ms", Lower).aiming(hotP99Target),
		newFigure("flash-sale-one-sku", one, "orders/s", Higher).against(rateOf(h.spread)).aiming(oneSKUTarget),
		newFigure("flash-sale-two-apis", rateOf(h.two), "orders/s", Higher).against(one).aiming(twoAPIsTarget),
		newFigure("flash-sale-two-apis-least-share", median(least), "%", Higher).aiming(leastShareTarget),
		newFigure("flash-sale-failed", float64(failures), "buyers", Lower).aiming(0),
		newFigure("flash-sale-oversold", float64(oversold), "units", Lower).aiming(0),
		newFigure("flash-sale-unconfirmed", float64(unconfirmed), "buyers", Lower),
	}
}

func rateOf(sales []*saleOutcome) float64 {
	var rates []float64
	for _, s := range sales {
		rates = append(rates, s.rate())
	}
	return median(rates)
}
