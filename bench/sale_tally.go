package bench

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"
)

// tally is what has been measured of a sale so far. Times are those since the sale began, below zero before it.
type tally struct {
	mu        sync.Mutex
	began     time.Time // zero: it has not
	over      time.Duration
	purchases []purchase
	shares    []int // orders that each api process has sold
	confirms  []confirmation
	pages     []page
	reasons   map[string]int // why purchases failed, payments did not come, or something could not be seen
	again     int            // requests of buyers that were sent again
	sums      [3]int         // purchases by outcome
}

type confirmation struct {
	number   string
	at, took time.Duration
}

// page is one look at a page.
type page struct {
	due    time.Time
	took   time.Duration
	failed bool
}

func newTally(apis int) *tally {
	return &tally{shares: make([]int, apis), over: never, reasons: make(map[string]int)}
}

func (t *tally) open() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.began = time.Now()
}

// now is the time since the sale began.
func (t *tally) now() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return time.Since(t.began)
}

// close says that the last buyer has an answer.
func (t *tally) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = time.Since(t.began)
}

func (t *tally) bought(p purchase) (at time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p.at = time.Since(t.began)
	t.purchases = append(t.purchases, p)
	t.sums[p.outcome]++
	t.again += p.again
	switch p.outcome {
	case sold:
		t.shares[p.api]++
	case failed:
		t.reasons[p.reason]++
	case refused:
	}
	return p.at
}

func (t *tally) confirmed(o openOrder) {
	t.mu.Lock()
	defer t.mu.Unlock()
	at := time.Since(t.began)
	t.confirms = append(t.confirms, confirmation{number: o.number, at: at, took: at - o.sold})
}

func (t *tally) cancelled() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reasons["payment: the order was cancelled"]++
}

// unseen notes that orders could not be looked at. They will be again.
func (t *tally) unseen(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reasons["looking for confirmed orders: "+err.Error()]++
}

func (t *tally) browsed(due time.Time, took time.Duration, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pages = append(t.pages, page{due: due, took: took, failed: err != nil})
	if err != nil {
		t.reasons["browsing: "+err.Error()]++
	}
}

// SaleProgress is how a sale goes.
type SaleProgress struct {
	// Elapsed is the time since the first request.
	Elapsed time.Duration
	// Sold, Refused and Failed are the buyers with an answer, and Confirmed those whose payment has come.
	Sold, Refused, Failed, Confirmed int
	// OrdersPerSecond are the orders of the last second, and P50 and P99 how long its checkouts took, refusals too.
	OrdersPerSecond float64
	P50, P99        time.Duration
}

func (t *tally) progress(now time.Time) SaleProgress {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.began.IsZero() {
		return SaleProgress{}
	}
	p := SaleProgress{
		Elapsed: now.Sub(t.began), Sold: t.sums[sold], Refused: t.sums[refused], Failed: t.sums[failed], Confirmed: len(t.confirms),
	}
	window := min(time.Second, p.Elapsed)
	var took []time.Duration
	for _, b := range slices.Backward(t.purchases) {
		if b.at < p.Elapsed-window {
			break
		}
		if b.outcome == sold {
			p.OrdersPerSecond++
		}
		if b.checkout > 0 {
			took = append(took, b.checkout)
		}
	}
	p.OrdersPerSecond /= max(window.Seconds(), time.Millisecond.Seconds())
	p.P50, p.P99 = percentile(took, 50), percentile(took, 99)
	return p
}

// steps returns how long the steps of the purchases took.
func (t *tally) steps() (cart, checkout, refusal, confirmed []time.Duration) {
	for _, p := range t.purchases {
		if p.cart > 0 {
			cart = append(cart, p.cart)
		}
		switch p.outcome {
		case sold:
			checkout = append(checkout, p.checkout)
		case refused:
			refusal = append(refusal, p.checkout)
		case failed:
		}
	}
	for _, c := range t.confirms {
		confirmed = append(confirmed, c.took)
	}
	return cart, checkout, refusal, confirmed
}

// browsing returns how long pages took before the sale and during it, and how many failed.
func (t *tally) browsing() (before, during []time.Duration, failures int) {
	for _, p := range t.pages {
		at := p.due.Sub(t.began)
		switch {
		case p.failed:
			failures++
		case at < 0:
			before = append(before, p.took)
		case at < t.over:
			during = append(during, p.took)
		}
	}
	return before, during, failures
}

// rate is the orders per second, the cart included, over the time from the first request to the last answer.
func (t *tally) rate() float64 { return float64(t.sums[sold]) / t.over.Seconds() }

// SaleMoment is what a short time of a sale was like.
type SaleMoment struct {
	// At is when it began, in seconds since the first request; below zero before.
	At float64 `json:"at"`
	// Sold, Refused, Failed and Confirmed count what happened in it.
	Sold      int `json:"sold"`
	Refused   int `json:"refused"`
	Failed    int `json:"failed"`
	Confirmed int `json:"confirmed"`
	// CheckoutP50 and the others are milliseconds; null where there was nothing to be measured.
	CheckoutP50 *float64 `json:"checkoutP50"`
	CheckoutP99 *float64 `json:"checkoutP99"`
	BrowsingP99 *float64 `json:"browsingP99"`
}

// intervals are the lengths that moments may have.
var intervals = []time.Duration{
	20 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second,
	5 * time.Second, 10 * time.Second, 30 * time.Second,
}

const mostMoments = 60

// timeline cuts a sale into moments of one length, 60 or somewhat fewer from the beginning to the last confirmation, and as much of the time
// before as makes a quarter of it.
func (t *tally) timeline() (interval time.Duration, moments []SaleMoment) {
	end := t.over
	for _, c := range t.confirms {
		end = max(end, c.at)
	}
	interval = intervals[len(intervals)-1]
	for _, i := range intervals {
		if end/i < mostMoments {
			interval = i
			break
		}
	}
	before := time.Duration(0)
	for _, p := range t.pages {
		before = max(before, t.began.Sub(p.due))
	}
	first := -int(min(before, end/4) / interval)
	moments = make([]SaleMoment, int(end/interval)-first+1)
	checkouts, pages := make([][]time.Duration, len(moments)), make([][]time.Duration, len(moments))
	// Nothing lies behind the end, but pages may before the first moment.
	moment := func(at time.Duration) int { return int((at + time.Duration(-first)*interval) / interval) }
	for _, p := range t.purchases {
		m := moment(p.at)
		switch p.outcome {
		case sold:
			moments[m].Sold++
		case refused:
			moments[m].Refused++
		case failed:
			moments[m].Failed++
		}
		if p.checkout > 0 {
			checkouts[m] = append(checkouts[m], p.checkout)
		}
	}
	for _, c := range t.confirms {
		moments[moment(c.at)].Confirmed++
	}
	for _, p := range t.pages {
		at := p.due.Sub(t.began) + time.Duration(-first)*interval
		if at >= 0 && int(at/interval) < len(pages) && !p.failed {
			pages[int(at/interval)] = append(pages[int(at/interval)], p.took)
		}
	}
	for i := range moments {
		moments[i].At = (time.Duration(first+i) * interval).Seconds()
		moments[i].CheckoutP50, moments[i].CheckoutP99 = measuredMilliseconds(checkouts[i], 50), measuredMilliseconds(checkouts[i], 99)
		moments[i].BrowsingP99 = measuredMilliseconds(pages[i], 99)
	}
	return interval, moments
}

func measuredMilliseconds(sample []time.Duration, p float64) *float64 {
	if len(sample) == 0 {
		return nil
	}
	ms := milliseconds(percentile(sample, p))
	return &ms
}

// Sale is what a sale came to, beside its figures.
type Sale struct {
	Units       int `json:"units"`
	Buyers      int `json:"buyers"`
	Concurrency int `json:"concurrency"`
	APIs        int `json:"apis"`
	SKUs        int `json:"skus"`
	// Problems say what went wrong, and how often: why purchases failed, say. The most frequent first; the ten most frequent at most.
	Problems []SaleProblem `json:"problems"`
	// Violations are what the log contradicts.
	Violations []string `json:"violations"`
	// Interval is the length of each moment of the timeline, in seconds.
	Interval float64      `json:"interval"`
	Timeline []SaleMoment `json:"timeline"`
}

// SaleProblem is one thing that went wrong.
type SaleProblem struct {
	Reason string `json:"reason"`
	Count  int    `json:"count"`
}

const mostProblems = 10

func (s *saleOutcome) summary() *Sale {
	sum := &Sale{
		Units: s.Units, Buyers: s.Buyers, Concurrency: s.Concurrency, APIs: s.APIs, SKUs: s.SKUs,
		Problems: []SaleProblem{}, Violations: append([]string{}, s.audit.violations...),
	}
	for reason, n := range s.reasons {
		sum.Problems = append(sum.Problems, SaleProblem{reason, n})
	}
	slices.SortFunc(sum.Problems, func(a, b SaleProblem) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason))
	})
	sum.Problems = sum.Problems[:min(mostProblems, len(sum.Problems))]
	interval, moments := s.timeline()
	sum.Interval, sum.Timeline = interval.Seconds(), moments
	return sum
}

// figures returns what a sale is judged by. Only what must be so in every sale has a target.
func (s *saleOutcome) figures(name string) []Figure {
	cart, checkout, refusal, confirmed := s.steps()
	before, during, pageFailures := s.browsing()
	count := func(what string, n int) Figure { return newFigure(name+"-"+what, float64(n), "buyers", Lower) }
	expected := product{units: s.audit.units}.expected(s.Buyers)
	figures := []Figure{
		newFigure(name+"-sold", float64(s.sums[sold]), "buyers", Higher).aiming(float64(expected)),
		count("refused", s.sums[refused]),
		count("failed", s.sums[failed]).aiming(0),
		newFigure(name+"-oversold", float64(s.audit.oversold), "units", Lower).aiming(0),
		count("unconfirmed", s.sums[sold]-len(s.confirms)).aiming(0),
		newFigure(name+"-again", float64(s.again), "requests", Lower),
		newFigure(name+"-time", s.over.Seconds(), "s", Lower),
		newFigure(name+"-rate", s.rate(), "orders/s", Higher),
	}
	for _, step := range []struct {
		name string
		took []time.Duration
	}{{"cart", cart}, {"checkout", checkout}, {"refusal", refusal}, {"confirmation", confirmed}} {
		if len(step.took) == 0 {
			continue // nobody got there
		}
		figures = append(figures,
			newFigure(name+"-"+step.name+"-p50", milliseconds(percentile(step.took, 50)), "ms", Lower),
			newFigure(name+"-"+step.name+"-p99", milliseconds(percentile(step.took, 99)), "ms", Lower))
	}
	figures = append(figures,
		newFigure(name+"-browsing-p99", milliseconds(percentile(during, 99)), "ms", Lower).against(milliseconds(percentile(before, 99))),
		newFigure(name+"-browsing-failed", float64(pageFailures), "pages", Lower))
	for i := range s.APIs {
		figures = append(figures,
			newFigure(fmt.Sprintf("%s-memory-api-%d", name, i+1), s.memory[i], "MiB", Lower),
			newFigure(fmt.Sprintf("%s-share-api-%d", name, i+1), s.shareOf(i), "% of the sold", Higher))
	}
	return figures
}

// shareOf is which part of the orders an api process has sold, in percent.
func (s *saleOutcome) shareOf(api int) float64 {
	return 100 * float64(s.shares[api]) / float64(max(1, s.sums[sold]))
}
