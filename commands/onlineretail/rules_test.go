package onlineretail

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestRules(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		rows []string
		want []string // of each row: its class, or why it is rejected
	}{
		{"a sale", []string{"1 A MUG 2 2011-12-05T10:00:00 1.25 7 EIRE"}, []string{"sale"}},
		{"a sale to nobody known", []string{"1 A MUG 2 2011-12-05T10:00:00 1.25 _ EIRE"}, []string{"sale"}},
		{"free goods for a customer", []string{"1 A MUG 2 2011-12-05T10:00:00 0.00 7 EIRE"}, []string{"sale"}},
		{"a bad debt", []string{"A1 B Adjust 1 2011-12-05T10:00:00 11062.06 _ EIRE"}, []string{"sale"}},
		{"found goods", []string{"1 A found 2 2011-12-05T10:00:00 0 _ EIRE"}, []string{"correction"}},
		{"lost goods", []string{"1 A lost -2 2011-12-05T10:00:00 0.00 _ EIRE"}, []string{"correction"}},
		{"lost goods at a price", []string{"1 A lost -2 2011-12-05T10:00:00 1.00 7 EIRE"}, []string{"correction"}},
		{"no code", []string{"1 _ _ 2 2011-12-05T10:00:00 1.25 7 EIRE", "1 __ _ 2 2011-12-05T10:00:00 1.25 7 EIRE"},
			[]string{"no stock code", "no stock code"}},
		{"a note", []string{"1 _ check 2 2011-12-05T10:00:00 1.25 7 EIRE"}, []string{"a note without a stock code"}},
		{"a price below zero", []string{"A1 B Adjust 1 2011-12-05T10:00:00 -11062.06 _ EIRE"}, []string{"price below zero"}},
		{"a part of a penny", []string{"1 A MUG 2 2011-12-05T10:00:00 0.001 _ EIRE"}, []string{"price with more than 2 decimals"}},
		{"a price of three decimals and whole pence", []string{"1 A MUG 2 2011-12-05T10:00:00 2.100 _ EIRE"}, []string{"sale"}},
		{"the price is judged before the credit note", []string{"C1 A MUG -2 2011-12-05T10:00:00 0.001 _ EIRE"},
			[]string{"price with more than 2 decimals"}},
		{"no quantity", []string{"1 A MUG 0 2011-12-05T10:00:00 1.00 7 EIRE"}, []string{"quantity of zero"}},
		{"a quantity that no shop has", []string{"1 A MUG 1000000001 2011-12-05T10:00:00 1.00 7 EIRE", "1 A MUG -9223372036854775808 2011-12-05T10:00:00 1.00 7 EIRE"},
			[]string{"quantity too large", "quantity too large"}},
		{"a number that names no order", []string{"no/1 A MUG 1 2011-12-05T10:00:00 1.00 7 EIRE", "_ A MUG 1 2011-12-05T10:00:00 1.00 7 EIRE"},
			[]string{"invoice number that cannot name an order", "invoice number that cannot name an order"}},
		{"a code that names no SKU", []string{"1 " + strings.Repeat("A", 65) + " MUG 1 2011-12-05T10:00:00 1.00 7 EIRE"},
			[]string{"stock code that cannot be a SKU"}},
		{"a customer that is no number", []string{"1 A MUG 1 2011-12-05T10:00:00 1.00 " + strings.Repeat("7", 65) + " EIRE"},
			[]string{"customer number that is too long or not text"}},
		{"a country that is none", []string{"1 A MUG 1 2011-12-05T10:00:00 1.00 7 " + strings.Repeat("E", 101)},
			[]string{"country that is too long or not text"}},

		{"a return", []string{"1 A MUG 2 2011-12-05T10:00:00 1 7 EIRE", "C2 a _ -2 2011-12-05T10:00:00 9.99 7 EIRE"},
			[]string{"sale", "return: 2 of 1/1"}},
		{"a return of nobody", []string{"1 A MUG 2 2011-12-05T10:00:00 1 _ EIRE", "C2 A MUG -2 2011-12-05T10:00:00 1 _ EIRE"},
			[]string{"sale", "return without a customer"}},
		{"a return that takes", []string{"1 A MUG 2 2011-12-05T10:00:00 1 7 EIRE", "C2 A MUG 2 2011-12-05T10:00:00 1 7 EIRE"},
			[]string{"sale", "return of a quantity that is not below zero"}},
		{"a return before the sale", []string{"C2 A MUG -2 2011-12-05T10:00:00 1 7 EIRE", "1 A MUG 2 2011-12-05T10:00:00 1 7 EIRE"},
			[]string{"return of more than the customer had bought before", "sale"}},
		{"what another bought", []string{"1 A MUG 2 2011-12-05T10:00:00 1 8 EIRE", "C2 A MUG -2 2011-12-05T10:00:00 1 7 EIRE"},
			[]string{"sale", "return of more than the customer had bought before"}},
		{"another code", []string{"1 B MUG 2 2011-12-05T10:00:00 1 7 EIRE", "C2 A MUG -2 2011-12-05T10:00:00 1 7 EIRE"},
			[]string{"sale", "return of more than the customer had bought before"}},
		{"more than was bought, then as much", []string{
			"1 A MUG 2 2011-12-05T10:00:00 1 7 EIRE", "C2 A MUG -3 2011-12-05T10:00:00 1 7 EIRE", "C2 A MUG -2 2011-12-05T10:00:00 1 7 EIRE",
			"C3 A MUG -1 2011-12-05T10:00:00 1 7 EIRE"},
			[]string{"sale", "return of more than the customer had bought before", "return: 2 of 1/1", "return of more than the customer had bought before"}},
		{"the newest first, over several orders", []string{
			"1 A MUG 2 2011-12-05T10:00:00 1 7 EIRE", "2 B POT 1 2011-12-05T10:00:00 1 7 EIRE", "2 A MUG 3 2011-12-05T10:00:00 1 7 EIRE",
			"C3 A MUG -1 2011-12-05T10:00:00 1 7 EIRE", "4 A MUG 1 2011-12-05T10:00:00 1 7 EIRE", "C5 A MUG -5 2011-12-05T10:00:00 1 7 EIRE"},
			[]string{"sale", "sale", "sale", "return: 1 of 2/2", "sale", "return: 1 of 4/1, 2 of 2/2, 2 of 1/1"}},
		{"a return between the rows of its sale", []string{
			"1 A MUG 2 2011-12-05T10:00:00 1 7 EIRE", "C2 A MUG -2 2011-12-05T10:01:00 1 7 EIRE", "1 A MUG 2 2011-12-05T10:00:00 1 7 EIRE"},
			[]string{"sale", "return: 2 of 1/1", "sale"}},
		{"a sale of a later date in an earlier row", []string{"1 A MUG 2 2011-12-05T12:00:00 1 7 EIRE", "C2 A MUG -2 2011-12-05T10:00:00 1 7 EIRE"},
			[]string{"sale", "return of more than the customer had bought before"}},
		{"free goods come back", []string{"1 A MUG 2 2011-12-05T10:00:00 0 7 EIRE", "C2 A MUG -1 2011-12-05T10:00:00 1 7 EIRE"},
			[]string{"sale", "return: 1 of 1/1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			p := planned(t, lines(test.rows...))
			if got := verdicts(p); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

// verdicts says of each row what becomes of it.
func verdicts(p *plan) []string {
	s := p.sheet
	out := make([]string, len(s.rows))
	for i := range s.rows {
		switch r := &s.rows[i]; r.class {
		case sale:
			out[i] = "sale"
		case correction:
			out[i] = "correction"
		case giveBack:
			out[i] = "return"
		case rejected:
			out[i] = s.explain(r.why)
		}
	}
	for _, st := range p.steps {
		for i, l := range st.lines {
			var from []string
			for _, u := range l.From {
				from = append(from, fmt.Sprintf("%d of %s/%s", u.Quantity, u.Order, u.Line))
			}
			out[st.rows[i]] += ": " + strings.Join(from, ", ")
		}
	}
	return out
}

func TestOffers(t *testing.T) {
	t.Parallel()
	p := planned(t, lines(
		"1 a _WHITE_HEART_ 1 2011-12-05T10:00:00 2.55 7 EIRE",
		"1 A RED_HEART 1 2011-12-05T10:00:00 2.60 7 EIRE",
		"2 A RED_HEART 1 2011-12-05T10:00:00 0 7 EIRE",
		"2 A WHITE_HEART 1 2011-12-05T10:00:00 0 7 EIRE",
		"2 B _ 1 2011-12-05T10:00:00 0 7 EIRE",
		"3 A damages -9 2011-12-05T10:00:00 0 _ EIRE",
		"4 A WHITE_HEART -9 2011-12-05T10:00:00 9.99 7 EIRE",
	))
	titles, prices := p.sheet.offers()
	if want := []string{"WHITE HEART", "B"}; !reflect.DeepEqual(titles, want) {
		t.Errorf("got titles %q, want %q", titles, want)
	}
	if prices[0].Minor != 260 || prices[1].Minor != 0 {
		t.Errorf("got prices %v, want 2.60 and 0.00", prices)
	}
	if got, want := p.products, []product{{sku: 0, need: 22}, {sku: 1, need: 1}}; !reflect.DeepEqual(got, want) {
		t.Errorf("got products %v, want %v", got, want)
	}
}

func TestSums(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		prices []string
		by     int64
		want   string
	}{
		{[]string{}, 1, "0.00"},
		{[]string{"2.1"}, 1, "2.10"},
		{[]string{"0.001", "-0.001"}, 7, "0.00"},
		{[]string{"0.001"}, -7, "-0.007"},
		{[]string{"999999999999999999", "0.99999999999999999"}, 9223372036854775807, "9223372036854775806999999999999999907.76627963145224193"},
		{[]string{"-11062.06"}, 1, "-11062.06"},
	} {
		var s sum
		for _, written := range test.prices {
			p, ok := parsePrice(written, 2)
			if !ok {
				t.Fatalf("%q is refused", written)
			}
			s.add(test.by, p)
		}
		if got := s.text(2); got != test.want {
			t.Errorf("%v times %d: got %s, want %s", test.prices, test.by, got, test.want)
		}
	}
	for _, bad := range []string{"", "-", ".5", "5.", "1,5", "1e3", "+1", "--1", " 1", "1234567890123456789", "NaN"} {
		if _, ok := parsePrice(bad, 2); ok {
			t.Errorf("%q is a price", bad)
		}
	}
}
