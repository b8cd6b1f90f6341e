package money

import "github.com/millrace/millrace/domain/rule"

// ErrTooLarge is the refusal of an amount that 64 bits of minor units cannot hold.
var ErrTooLarge = rule.New(rule.Invalid, "the amount is too large")

func errCurrency(code string) *rule.Error {
	return rule.New(rule.Invalid, "%q is not an active ISO 4217 currency code", code)
}

func errNotDecimal(s string) *rule.Error {
	return rule.New(rule.Invalid, "%q is not a decimal number such as 12.34", s)
}

func errDecimals(s string, c Currency) *rule.Error {
	return rule.New(rule.Invalid, "%q has more decimals than the %d of %s", s, c.Decimals(), c)
}

func errMixed(a, b Currency) *rule.Error {
	return rule.New(rule.Invalid, "amounts of %s and %s do not go together", a, b)
}
