package payment

import (
	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/domain/rule"
)

const maxReason = 500

// Rules of a payment.
var (
	// ErrAuthorised is the refusal of a second authorisation for one payment.
	ErrAuthorised = rule.New(rule.Conflict, "the payment has another authorisation already")
	// ErrNotAuthorised is the refusal to move money that the provider does not keep for the shop.
	ErrNotAuthorised = rule.New(rule.NotAllowed, "the payment is not authorised")
	// ErrNotCaptured is the refusal to give back money that the shop never had.
	ErrNotCaptured = rule.New(rule.NotAllowed, "the payment is not captured")

	errNoOrder = rule.New(rule.Invalid, "a payment needs an order")
	errAmount  = rule.New(rule.Invalid, "an amount of a payment must not be negative").At("amount")
)

func errStatus(step string, s Status) *rule.Error {
	return rule.New(rule.NotAllowed, "a payment that is %s cannot be %s", s, step)
}

func errCurrency(got, want money.Currency) *rule.Error {
	return rule.New(rule.Invalid, "the payment is in %s, not %s", want, got).At("amount")
}

func errTooMuch(step string, wanted, had money.Money) *rule.Error {
	return rule.New(rule.NotAllowed, "%s cannot be %s of %s", wanted, step, had).At("amount")
}

func errRecaptured(wanted, was money.Money) *rule.Error {
	return rule.New(rule.NotAllowed, "%s was captured, and %s cannot be too", was, wanted).At("amount")
}
