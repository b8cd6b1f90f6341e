package money_test

import (
	"encoding/json"
	"errors"
	"math"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/rule"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in       string
		currency money.Currency
		minor    int64
		amount   string
	}{
		{"12.34", "GBP", 1234, "12.34"},
		{"12", "GBP", 1200, "12.00"},
		{"12.5", "GBP", 1250, "12.50"},
		{"0.01", "GBP", 1, "0.01"},
		{"007.00", "GBP", 700, "7.00"},
		{"-0.5", "GBP", -50, "-0.50"},
		{"-0.00", "GBP", 0, "0.00"},
		{"-11062.06", "GBP", -1106206, "-11062.06"},
		{"1500", "JPY", 1500, "1500"},
		{"-3", "JPY", -3, "-3"},
		{"1.234", "KWD", 1234, "1.234"},
		{"0.0001", "CLF", 1, "0.0001"},
		{"92233720368547758.07", "GBP", math.MaxInt64, "92233720368547758.07"},
		{"-92233720368547758.08", "GBP", math.MinInt64, "-92233720368547758.08"},
		{"-9223372036854775808", "JPY", math.MinInt64, "-9223372036854775808"},
	} {
		m, err := money.Parse(c.in, c.currency)
		if err != nil || m != (money.Money{Minor: c.minor, Currency: c.currency}) {
			t.Errorf("Parse(%q, %s) is %+v, %v; want %d", c.in, c.currency, m, err, c.minor)
		}
		if got := m.Amount(); got != c.amount {
			t.Errorf("%q in %s is written as %q, want %q", c.in, c.currency, got, c.amount)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in       string
		currency money.Currency
	}{
		{"", "GBP"}, {"-", "GBP"}, {".", "GBP"}, {"1.", "GBP"}, {".5", "GBP"}, {"+1", "GBP"}, {"--1", "GBP"},
		{" 1", "GBP"}, {"1 ", "GBP"}, {"1 000", "GBP"}, {"1,000.00", "GBP"}, {"1.2.3", "GBP"}, {"1e3", "GBP"},
		{"0x10", "GBP"}, {"NaN", "GBP"}, {"Inf", "GBP"}, {"1_000", "GBP"}, {"١٢", "GBP"}, {"£5", "GBP"}, {"1\x00", "GBP"},
		{"12.345", "GBP"}, {"12.340", "GBP"}, {"1.0", "JPY"}, {"1.2345", "KWD"},
		{"92233720368547758.08", "GBP"}, {"-92233720368547758.09", "GBP"}, {"9223372036854775808", "JPY"},
		{"1", ""}, {"1", "gbp"}, {"1", "XXX"}, {"1", "DEM"},
	} {
		if m, err := money.Parse(c.in, c.currency); rule.CodeOf(err) != rule.Invalid {
			t.Errorf("Parse(%q, %q) is %+v, %v", c.in, c.currency, m, err)
		}
	}
}

func TestCurrency(t *testing.T) {
	t.Parallel()
	for c, decimals := range map[money.Currency]int{"GBP": 2, "EUR": 2, "USD": 2, "JPY": 0, "KRW": 0, "KWD": 3, "BHD": 3, "UYW": 4} {
		if got, err := money.ParseCurrency(string(c)); got != c || err != nil || c.Decimals() != decimals {
			t.Errorf("%s: %q, %v, %d decimals; want %d", c, got, err, c.Decimals(), decimals)
		}
	}
	for _, s := range []string{"", "gbp", "GBP ", "XAU", "XTS", "XXX", "HRK", "ZZZ"} {
		if c, err := money.ParseCurrency(s); err == nil {
			t.Errorf("%q is %q", s, c)
		}
	}
}

func TestStoredForm(t *testing.T) {
	t.Parallel()
	const form = `{"minor":-1234,"currency":"GBP"}`
	var m money.Money
	if err := json.Unmarshal([]byte(form), &m); err != nil {
		t.Fatal(err)
	}
	if b, err := json.Marshal(m); err != nil || string(b) != form {
		t.Errorf("%s comes back as %s, %v", form, b, err)
	}
}

func TestCurrenciesDoNotMix(t *testing.T) {
	t.Parallel()
	pound, yen := money.Money{Minor: 100, Currency: "GBP"}, money.Money{Minor: 100, Currency: "JPY"}
	if _, err := pound.Add(yen); err == nil {
		t.Error("pounds and yen were added")
	}
	if _, err := pound.Sub(yen); err == nil {
		t.Error("yen were taken from pounds")
	}
	if _, err := pound.Less(yen); err == nil {
		t.Error("pounds and yen were compared")
	}
}

func amounts() *rapid.Generator[money.Money] {
	return rapid.Custom(func(t *rapid.T) money.Money {
		return money.Money{
			Minor: rapid.OneOf(rapid.Int64(), rapid.Int64Range(-1000, 1000),
				rapid.SampledFrom([]int64{math.MinInt64, math.MinInt64 + 1, math.MaxInt64})).Draw(t, "minor"),
			Currency: rapid.SampledFrom([]money.Currency{"GBP", "JPY", "KWD", "CLF"}).Draw(t, "currency"),
		}
	})
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := amounts().Draw(t, "m")
		if got, err := money.Parse(m.Amount(), m.Currency); got != m || err != nil {
			t.Fatalf("%+v is written as %q and read as %+v, %v", m, m.Amount(), got, err)
		}
	})
}

func TestParseAcceptsOnlyWhatItWrites(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`-?[0-9]{0,20}(\.[0-9]{0,3})?|.{0,5}`).Draw(t, "s")
		m, err := money.Parse(s, "GBP")
		if err != nil {
			return
		}
		want, ok := new(big.Rat).SetString(s)
		got, _ := new(big.Rat).SetString(m.Amount())
		if !ok || want.Cmp(got) != 0 {
			t.Fatalf("%q is read as %s", s, m.Amount())
		}
	})
}

// TestArithmetic compares every operation with the same one on numbers without limit.
func TestArithmetic(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m, o := amounts().Draw(t, "m"), amounts().Draw(t, "o")
		o.Currency = m.Currency
		n := rapid.OneOf(rapid.Int(), rapid.IntRange(-5, 5), rapid.Just(math.MinInt)).Draw(t, "n")
		check := func(what string, got money.Money, err error, want *big.Int) {
			if !want.IsInt64() {
				if !errors.Is(err, money.ErrTooLarge) {
					t.Fatalf("%s of %v, %v, %d is %v, %v; it is too large", what, m, o, n, got, err)
				}
				return
			}
			if err != nil || got != (money.Money{Minor: want.Int64(), Currency: m.Currency}) {
				t.Fatalf("%s of %v, %v, %d is %v, %v; want %v", what, m, o, n, got, err, want)
			}
		}
		a, b := big.NewInt(m.Minor), big.NewInt(o.Minor)
		sum, err := m.Add(o)
		check("sum", sum, err, new(big.Int).Add(a, b))
		again, err := o.Add(m)
		check("sum the other way round", again, err, new(big.Int).Add(a, b))
		rest, err := m.Sub(o)
		check("difference", rest, err, new(big.Int).Sub(a, b))
		product, err := m.Times(n)
		check("product", product, err, new(big.Int).Mul(a, big.NewInt(int64(n))))
		if less, err := m.Less(o); err != nil || less != (a.Cmp(b) < 0) {
			t.Fatalf("%v less than %v: %v, %v", m, o, less, err)
		}
		if m.IsZero() != (a.Sign() == 0) || m.IsNegative() != (a.Sign() < 0) {
			t.Fatalf("the sign of %v is wrong", m)
		}
	})
}
