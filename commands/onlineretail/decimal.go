package onlineretail

import (
	"math/big"
	"strings"
)

// price is what one unit costs, exactly.
type price struct {
	// exact is the price in units of 10^-maxDecimals.
	exact *big.Int
	// minor is the price in minor units of the shop's currency, if whole is set.
	minor int64
	whole bool
}

const (
	// maxDigits is how many digits a price may have, before and behind its point together.
	maxDigits   = 18
	maxDecimals = maxDigits
)

// parsePrice reads a decimal number such as 2.1, -11062.06 or 25. ok is false for anything else.
func parsePrice(s string, currencyDecimals int) (p price, ok bool) {
	number, negative := strings.CutPrefix(s, "-")
	whole, fraction, point := strings.Cut(number, ".")
	if !isDigits(whole) || point && !isDigits(fraction) || len(whole)+len(fraction) > maxDigits {
		return price{}, false
	}
	mantissa, ok := new(big.Int).SetString(whole+fraction, 10)
	if !ok {
		return price{}, false
	}
	if negative {
		mantissa.Neg(mantissa)
	}
	p.exact = mantissa.Mul(mantissa, power10(maxDecimals-len(fraction)))
	minor, part := new(big.Int).QuoRem(p.exact, power10(maxDecimals-currencyDecimals), new(big.Int))
	if part.Sign() == 0 && minor.IsInt64() {
		p.minor, p.whole = minor.Int64(), true
	}
	return p, true
}

func power10(n int) *big.Int {
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(n)), nil)
}

func isDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return s != ""
}

// sum adds up quantities times prices, exactly.
type sum struct{ exact, quantity, product big.Int }

func (s *sum) add(quantity int64, p price) {
	s.exact.Add(&s.exact, s.product.Mul(s.quantity.SetInt64(quantity), p.exact))
}

// text returns the sum as a decimal number with as many decimals as it needs, but no fewer than asked for.
func (s *sum) text(decimals int) string {
	digits := new(big.Int).Abs(&s.exact).String()
	if missing := maxDecimals + 1 - len(digits); missing > 0 {
		digits = strings.Repeat("0", missing) + digits
	}
	whole, fraction := digits[:len(digits)-maxDecimals], digits[len(digits)-maxDecimals:]
	for len(fraction) > decimals && fraction[len(fraction)-1] == '0' {
		fraction = fraction[:len(fraction)-1]
	}
	sign := ""
	if s.exact.Sign() < 0 {
		sign = "-"
	}
	if fraction == "" {
		return sign + whole
	}
	return sign + whole + "." + fraction
}
