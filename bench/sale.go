package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// SaleOptions say how a flash sale goes. A zero field has its default.
type SaleOptions struct {
	// Units are there to be sold, over all SKUs; 100.
	Units int
	// Buyers want one unit each; 1,000.
	Buyers int
	// Concurrency is how many buyers are under way at a time, from the first request to the answer to their checkout; 64. The payment
	// is waited for beside.
	Concurrency int
	// APIs is how many api processes serve them; 1.
	APIs int
	// SKUs is over how many SKUs the units and the buyers are spread; 1.
	SKUs int
	// Before is for how long browsing is measured before the sale; 5 s.
	Before time.Duration
	// Chart is the file for a chart of the sale, SVG or PNG by its ending; empty: none.
	Chart string
	// Watch, if not nil, is told how the sale goes, every Every (1 s) and at its end.
	Watch func(SaleProgress)
	Every time.Duration
}

const (
	maxSaleAPIs = 16
	maxSaleSKUs = 1000
)

func (o SaleOptions) withDefaults() SaleOptions {
	for _, field := range []struct {
		value    *int
		fallback int
	}{{&o.Units, 100}, {&o.Buyers, 1000}, {&o.Concurrency, 64}, {&o.APIs, 1}, {&o.SKUs, 1}} {
		if *field.value == 0 {
			*field.value = field.fallback
		}
	}
	if o.Before == 0 {
		o.Before = 5 * time.Second
	}
	if o.Every == 0 {
		o.Every = time.Second
	}
	return o
}

// Check returns what is wrong with the options.
func (o SaleOptions) Check() error {
	o = o.withDefaults()
	for _, field := range []struct {
		name        string
		value, most int
	}{
		{"units", o.Units, 1_000_000}, {"buyers", o.Buyers, 1_000_000}, {"concurrency", o.Concurrency, 10_000},
		{"apis", o.APIs, maxSaleAPIs}, {"skus", o.SKUs, maxSaleSKUs},
	} {
		if field.value < 1 || field.value > field.most {
			return fmt.Errorf("a sale has 1 to %d %s, not %d", field.most, field.name, field.value)
		}
	}
	if o.Units < o.SKUs {
		return fmt.Errorf("%d units cannot be spread over %d SKUs", o.Units, o.SKUs)
	}
	return checkChart(o.Chart)
}

// FlashSale runs one sale on a shop of its own. What the sale came to is in the report's figures, and more of it in its Sale. That
// the log contradicts what buyers were told is an error, and so is a log in which there was less than nothing of something.
func FlashSale(ctx context.Context, o Options, sale SaleOptions) (report Report, err error) {
	report.Figures = []Figure{}
	if err := sale.Check(); err != nil {
		return report, err
	}
	l, err := openLab(o.withDefaults())
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, l.close(context.WithoutCancel(ctx))) }()
	s, err := l.sell(ctx, sale)
	if s != nil {
		report.Figures, report.Sale = s.figures("flash-sale"), s.summary()
		if sale.Chart != "" {
			err = errors.Join(err, report.Sale.writeChart(sale.Chart))
		}
	}
	return report, err
}

// Times that bound a sale far from what it is expected to take.
const (
	saleTimeout    = 10 * time.Minute
	confirmTimeout = 90 * time.Second // behind the last order; an order that is not paid for in 60 s is cancelled
)

// saleOutcome is all that was measured of one sale.
type saleOutcome struct {
	SaleOptions
	*tally
	audit  audit
	memory []float64 // MiB, the peak of each api process
}

// sell runs a sale and checks the log. The outcome is nil where the sale did not come to its end.
func (l *lab) sell(ctx context.Context, o SaleOptions) (out *saleOutcome, err error) {
	o = o.withDefaults()
	s, err := l.shopOf(ctx, sampleShop)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, saleTimeout, fmt.Errorf("the sale did not end in %s", saleTimeout))
	defer cancel()
	apis, err := l.startAPIs(ctx, s, o.APIs)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, a := range apis {
			err = errors.Join(err, a.stop())
		}
	}()
	p, err := apis[0].offer(ctx, o.Units, o.SKUs)
	if err != nil {
		return nil, err
	}
	l.say("%s", o.describe())
	out = &saleOutcome{SaleOptions: o, tally: newTally(o.APIs)}
	if err := out.run(ctx, apis, p); err != nil {
		return nil, errors.Join(fmt.Errorf("bench: the sale: %w", err), context.Cause(ctx))
	}
	for _, a := range apis {
		out.memory = append(out.memory, a.memory.peak())
	}
	l.say("  checking the log")
	if out.audit, err = s.auditSale(ctx, p, out.tally); err != nil {
		return nil, err
	}
	return out, out.audit.err()
}

// describe says in a line what is sold to whom.
func (o SaleOptions) describe() string {
	return fmt.Sprintf("%s of %s, %s, %d at a time, %s", many(o.Units, "unit"), many(o.SKUs, "SKU"), many(o.Buyers, "buyer"), o.Concurrency, many(o.APIs, "api process"))
}

// many says how many there are of something.
func many(n int, what string) string {
	switch {
	case n == 1:
		return "1 " + what
	case strings.HasSuffix(what, "s"):
		return strconv.Itoa(n) + " " + what + "es"
	}
	return strconv.Itoa(n) + " " + what + "s"
}

// product is what is sold.
type product struct {
	slug string
	skus []string
	// units is how many there are of each SKU.
	units []int
}

// expected is how many of the buyers can have something, if the i-th wants the SKU i modulo their number.
func (p product) expected(buyers int) int {
	sum := 0
	for i, units := range p.units {
		sum += min(units, share(buyers, len(p.units), i))
	}
	return sum
}

// share is the i-th of n parts of a whole number that differ by one at most.
func share(whole, n, i int) int {
	part := whole / n
	if i < whole%n {
		part++
	}
	return part
}

// Limits of the API that an offer keeps to.
const (
	mostVariants = 100
	mostReceived = 50 // mutations in a document of 2,000 words and signs
)

// offer creates what is to be sold: one product, or more if there are more SKUs than a product may have. The slug is the first one's.
func (a *apiProcess) offer(ctx context.Context, units, skus int) (product, error) {
	mark := rand.Text()[:8]
	p := product{skus: make([]string, skus), units: make([]int, skus)}
	for i := range skus {
		p.skus[i], p.units[i] = fmt.Sprintf("SALE-%s-%04d", mark, i), share(units, skus, i)
	}
	for from := 0; from < skus; from += mostVariants {
		slug, err := a.createProduct(ctx, "Flash sale "+mark, p.skus[from:min(from+mostVariants, skus)])
		if err != nil {
			return p, err
		}
		if from == 0 {
			p.slug = slug
		}
	}
	position := ""
	for from := 0; from < skus; from += mostReceived {
		to := min(from+mostReceived, skus)
		var err error
		if position, err = a.receive(ctx, p.skus[from:to], p.units[from:to]); err != nil {
			return p, err
		}
	}
	return p, a.awaitProduct(ctx, p.slug, position)
}
