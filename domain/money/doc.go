// Package money counts money in whole minor units of one currency, exactly.
//
// An amount is an int64 of the currency's smallest unit (pence, yen, fils) beside its ISO 4217 code. No operation
// rounds: amounts with more decimals than the currency has are refused on the way in, and there is nothing to divide by.
// An operation whose result does not fit, or whose operands are of two currencies, is an error and has no result.
package money
