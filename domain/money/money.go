package money

import (
	"math"
	"strconv"
	"strings"
)

// Money is an exact amount of one currency. It has no smaller parts than the currency's minor unit.
//
// As JSON it is {"minor":1234,"currency":"GBP"}. Struct fields of this type must not be marked omitzero: an amount of
// nothing would lose its currency.
type Money struct {
	// Minor counts the currency's smallest units: pence for GBP, yen for JPY.
	Minor    int64    `json:"minor"`
	Currency Currency `json:"currency"`
}

// Zero returns no money of the currency c.
func Zero(c Currency) Money { return Money{Currency: c} }

// Parse reads a decimal number such as 12.34, 12 or -0.5 as an amount of c. It is exact: a number with more decimals
// than c has, with an exponent, with blanks or separators, or with no digit on either side of its point is refused, as is
// one that does not fit. Its errors are rule.Invalid, without a field.
func Parse(s string, c Currency) (Money, error) {
	if !c.Valid() {
		return Money{}, errCurrency(string(c))
	}
	number, negative := strings.CutPrefix(s, "-")
	whole, fraction, point := strings.Cut(number, ".")
	if !digits(whole) || point && !digits(fraction) {
		return Money{}, errNotDecimal(clip(s))
	}
	if len(fraction) > c.Decimals() {
		return Money{}, errDecimals(clip(s), c)
	}
	units := whole + fraction + strings.Repeat("0", c.Decimals()-len(fraction))
	if negative {
		units = "-" + units
	}
	minor, err := strconv.ParseInt(units, 10, 64)
	if err != nil {
		return Money{}, ErrTooLarge
	}
	return Money{Minor: minor, Currency: c}, nil
}

// clip keeps what people typed short enough to be repeated to them.
func clip(s string) string {
	const most = 40
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// Amount returns the amount as a decimal number with exactly the currency's number of decimals, as Parse reads it.
func (m Money) Amount() string {
	sign, magnitude := "", uint64(m.Minor)
	if m.Minor < 0 {
		sign, magnitude = "-", -magnitude
	}
	s, d := strconv.FormatUint(magnitude, 10), m.Currency.Decimals()
	if d == 0 {
		return sign + s
	}
	if len(s) <= d {
		s = strings.Repeat("0", d-len(s)+1) + s
	}
	return sign + s[:len(s)-d] + "." + s[len(s)-d:]
}

// String returns the amount and the currency for people, such as 12.34 GBP.
func (m Money) String() string { return m.Amount() + " " + string(m.Currency) }

// Add returns m and o together.
func (m Money) Add(o Money) (Money, error) {
	if m.Currency != o.Currency {
		return Money{}, errMixed(m.Currency, o.Currency)
	}
	sum := m.Minor + o.Minor
	if (sum > m.Minor) != (o.Minor > 0) {
		return Money{}, ErrTooLarge
	}
	return Money{Minor: sum, Currency: m.Currency}, nil
}

// Sub returns what is left of m without o, which may be less than nothing.
func (m Money) Sub(o Money) (Money, error) {
	if m.Currency != o.Currency {
		return Money{}, errMixed(m.Currency, o.Currency)
	}
	rest := m.Minor - o.Minor
	if (rest < m.Minor) != (o.Minor > 0) {
		return Money{}, ErrTooLarge
	}
	return Money{Minor: rest, Currency: m.Currency}, nil
}

// Times returns n times m.
func (m Money) Times(n int) (Money, error) {
	k := int64(n)
	product := m.Minor * k
	if m.Minor != 0 && (product/m.Minor != k || m.Minor == -1 && k == math.MinInt64) {
		return Money{}, ErrTooLarge
	}
	return Money{Minor: product, Currency: m.Currency}, nil
}

// Less reports whether m is less than o. Amounts of two currencies cannot be compared, which is an error.
func (m Money) Less(o Money) (bool, error) {
	if m.Currency != o.Currency {
		return false, errMixed(m.Currency, o.Currency)
	}
	return m.Minor < o.Minor, nil
}

// IsZero reports whether the amount is nothing, of whatever currency.
func (m Money) IsZero() bool { return m.Minor == 0 }

// IsNegative reports whether the amount is less than nothing.
func (m Money) IsNegative() bool { return m.Minor < 0 }
