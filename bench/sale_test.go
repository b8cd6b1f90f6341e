package bench

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestSaleOptions(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		options SaleOptions
		want    string // part of the error; empty: none
	}{
		"the defaults":      {},
		"everything":        {SaleOptions{Units: 20, Buyers: 60, Concurrency: 8, APIs: 2, SKUs: 3, Chart: "sale.png"}, ""},
		"no buyers":         {SaleOptions{Buyers: -1}, "1 to 1000000 buyers, not -1"},
		"too many apis":     {SaleOptions{APIs: 17}, "1 to 16 apis"},
		"more SKUs":         {SaleOptions{Units: 2, SKUs: 3}, "2 units cannot be spread over 3 SKUs"},
		"an unknown format": {SaleOptions{Chart: "dir/sale.gif"}, `not "sale.gif"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.options.Check()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestExpected(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		units        []int
		buyers, want int
	}{
		{[]int{100}, 1000, 100},
		{[]int{100}, 60, 60},
		{[]int{7, 7, 6}, 60, 20},
		{[]int{7, 7, 6}, 8, 8},
		{[]int{1, 9}, 10, 6}, // five want each
	} {
		if got := (product{units: c.units}).expected(c.buyers); got != c.want {
			t.Errorf("%d buyers of %v units can have %d, got %d", c.buyers, c.units, c.want, got)
		}
	}
}

// made is a sale of one second: two sold, one refused, one failed.
func made() *saleOutcome {
	s := &saleOutcome{
		SaleOptions: SaleOptions{Units: 2, Buyers: 4, Concurrency: 2, APIs: 2, SKUs: 1},
		tally:       newTally(2), audit: audit{units: []int{2}}, memory: []float64{50, 60},
	}
	s.began = time.Now().Add(-2 * time.Second)
	for _, p := range []purchase{
		{outcome: sold, api: 0, number: "A", cart: 10 * time.Millisecond, checkout: 20 * time.Millisecond, at: 100 * time.Millisecond},
		{outcome: sold, api: 1, number: "B", cart: 30 * time.Millisecond, checkout: 40 * time.Millisecond, at: 450 * time.Millisecond},
		{outcome: refused, api: 1, cart: 5 * time.Millisecond, checkout: 6 * time.Millisecond, at: 900 * time.Millisecond},
		{outcome: failed, api: 0, reason: "cart: lost", again: 3, at: time.Second},
	} {
		at := p.at
		s.bought(p)
		s.purchases[len(s.purchases)-1].at = at
	}
	s.over = time.Second
	s.confirms = []confirmation{{number: "A", at: 1600 * time.Millisecond, took: 1500 * time.Millisecond}}
	for at, took := range map[time.Duration]time.Duration{-200: 8, -900: 4, 500: 16, 1200: 99} { // milliseconds
		s.browsed(s.began.Add(at*time.Millisecond), took*time.Millisecond, nil)
	}
	s.browsed(s.began, time.Second, errors.New("nobody there"))
	return s
}

func TestFiguresOfASale(t *testing.T) {
	t.Parallel()
	got := make(map[string]Figure)
	for _, f := range made().figures("sale") {
		got[f.Name] = f
	}
	for name, want := range map[string]float64{
		"sale-sold": 2, "sale-refused": 1, "sale-failed": 1, "sale-oversold": 0, "sale-unconfirmed": 1, "sale-again": 3, "sale-time": 1, "sale-rate": 2,
		"sale-cart-p50": 10, "sale-cart-p99": 30, "sale-checkout-p99": 40, "sale-refusal-p50": 6, "sale-confirmation-p50": 1500,
		"sale-browsing-p99": 16, "sale-browsing-failed": 1, "sale-memory-api-2": 60, "sale-share-api-1": 50,
	} {
		if f, ok := got[name]; !ok || f.Value != want {
			t.Errorf("%s is %v (%t), want %v", name, f.Value, ok, want)
		}
	}
	if f := got["sale-browsing-p99"]; f.Baseline == nil || *f.Baseline != 8 {
		t.Errorf("browsing before is %v, want 8", f.Baseline)
	}
	for name, met := range map[string]bool{"sale-sold": true, "sale-failed": false, "sale-oversold": true, "sale-unconfirmed": false} {
		if f := got[name]; f.Met == nil || *f.Met != met {
			t.Errorf("%s is met: %v, want %t", name, f.Met, met)
		}
	}
}

func TestTimelineOfASale(t *testing.T) {
	t.Parallel()
	s := made().summary()
	if s.Interval != 0.05 {
		t.Errorf("moments are %v s long, want 0.05", s.Interval)
	}
	var all SaleMoment
	var pages int
	for i, m := range s.Timeline {
		if i > 0 && m.At <= s.Timeline[i-1].At {
			t.Errorf("the moment at %v follows that at %v", m.At, s.Timeline[i-1].At)
		}
		all.Sold, all.Refused, all.Failed, all.Confirmed = all.Sold+m.Sold, all.Refused+m.Refused, all.Failed+m.Failed, all.Confirmed+m.Confirmed
		if m.BrowsingP99 != nil {
			pages++
		}
		if m.Sold == 1 && m.At != 0.1 && m.At != 0.45 {
			t.Errorf("something was sold at %v", m.At)
		}
	}
	if all.Sold != 2 || all.Refused != 1 || all.Failed != 1 || all.Confirmed != 1 {
		t.Errorf("in all %+v", all)
	}
	// Of the time before, a quarter of the rest is shown; the page that failed is not.
	if first := s.Timeline[0].At; first != -0.4 || pages != 3 {
		t.Errorf("it begins at %v and shows %d pages, want -0.4 and 3", first, pages)
	}
	if len(s.Problems) != 2 {
		t.Errorf("the problems are %v", s.Problems)
	}
}

func TestProgressOfASale(t *testing.T) {
	t.Parallel()
	s := made()
	if p := newTally(1).progress(time.Now()); p != (SaleProgress{}) {
		t.Errorf("before it began it is %+v", p)
	}
	p := s.progress(s.began.Add(1200 * time.Millisecond))
	want := SaleProgress{
		Elapsed: 1200 * time.Millisecond, Sold: 2, Refused: 1, Failed: 1, Confirmed: 1, OrdersPerSecond: 1, P50: 6 * time.Millisecond, P99: 40 * time.Millisecond,
	}
	if p != want {
		t.Errorf("it is %+v, want %+v", p, want)
	}
}

func TestChartOfASale(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := made().summary()
	for name, read := range map[string]func(io.Reader) error{
		"sale.png": func(r io.Reader) error {
			_, err := png.Decode(r)
			return err
		},
		"sale.svg": func(r io.Reader) error {
			for d := xml.NewDecoder(r); ; {
				if _, err := d.Token(); errors.Is(err, io.EOF) {
					return nil
				} else if err != nil {
					return err
				}
			}
		},
	} {
		file := filepath.Join(dir, name)
		if err := s.writeChart(file); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := read(bytes.NewReader(content)); err != nil || len(content) < 2000 {
			t.Errorf("%s has %d bytes and is not readable: %v", name, len(content), err)
		}
		if name == "sale.svg" && !bytes.Contains(content, []byte("checkout p99")) {
			t.Error("the chart does not name its curves")
		}
	}
}

func TestHotSales(t *testing.T) {
	t.Parallel()
	sale := func(seconds int, shares ...int) *saleOutcome {
		s := &saleOutcome{SaleOptions: SaleOptions{APIs: len(shares)}, tally: newTally(len(shares))}
		s.over, s.shares, s.sums[sold] = time.Duration(seconds)*time.Second, shares, 0
		for _, n := range shares {
			s.sums[sold] += n
		}
		return s
	}
	h := hotSales{
		one: []*saleOutcome{sale(10, 9000), sale(10, 8000)}, spread: []*saleOutcome{sale(10, 10_000)},
		two: []*saleOutcome{sale(10, 3000, 2000), sale(10, 4000, 1000)},
	}
	h.two[0].sums[failed], h.one[0].audit.oversold = 2, 1
	for _, f := range h.figures() {
		want, met := 0.0, true
		switch f.Name {
		case "flash-sale-unconfirmed": // has no target
			continue
		case "flash-sale-rate":
			want = 850
		case "flash-sale-one-sku":
			want = 850
		case "flash-sale-two-apis":
			want, met = 500, false
		case "flash-sale-two-apis-least-share":
			want, met = 30, false
		case "flash-sale-failed":
			want, met = 2, false
		case "flash-sale-oversold":
			want, met = 1, false
		}
		if f.Value != want || f.Met == nil || *f.Met != met {
			t.Errorf("%s is %v and met: %v; want %v and %t", f.Name, f.Value, f.Met, want, met)
		}
	}
}

// A buyer asks again while there is no room, and not for anything else.
func TestInsist(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status, times int
		again         int
		ok            bool
	}{
		"at once":          {http.StatusOK, 0, 0, true},
		"after two pauses": {http.StatusServiceUnavailable, 2, 2, true},
		"another error":    {http.StatusTooManyRequests, 2, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var asked atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if int(asked.Add(1)) <= c.times {
					w.Header().Set("Retry-After", "0")
					w.WriteHeader(c.status)
					_, _ = io.WriteString(w, `{"errors":[{"message":"no","extensions":{"code":"OVERLOADED"}}]}`)
					return
				}
				_, _ = io.WriteString(w, `{"data":{"answer":42}}`)
			}))
			defer server.Close()
			a := &apiProcess{process: &process{graphql: server.URL}, client: server.Client()}
			var into struct{ Answer int }
			again, err := a.insist(t.Context(), anybody, "{ answer }", nil, &into)
			if again != c.again || (err == nil) != c.ok || c.ok && into.Answer != 42 {
				t.Errorf("asked again %d times, with %v and %d; want %d times, ok %t", again, err, into.Answer, c.again, c.ok)
			}
			if !c.ok && err.Error() != "HTTP 429, OVERLOADED: no" {
				t.Errorf("the error is %v", err)
			}
		})
	}
}

func TestBuyersLookLessOftenTheLongerTheyWait(t *testing.T) {
	t.Parallel()
	w := &orderWatch{tally: newTally(1)}
	w.add(openOrder{number: "A", sold: time.Second})
	if due, left := w.due(time.Second + confirmInterval - 1); len(due) != 0 || left != 1 {
		t.Fatalf("at once %d are due and %d left", len(due), left)
	}
	due, left := w.due(time.Second + confirmInterval)
	if len(due) != 1 || left != 0 {
		t.Fatalf("then %d are due and %d left", len(due), left)
	}
	if got := due[0].after(2 * time.Second).look; got != 2*time.Second+time.Second/3 {
		t.Errorf("after a second it is looked at again at %s", got)
	}
}
