// Package sandbox is a payment provider that moves no money, and answers as the payment token says.
//
//	ok        is authorised
//	declined  is declined
//	flaky     fails twice, then is authorised
//	timeout   is never answered
//
// Any other token is declined.
package sandbox

import (
	"context"
	"errors"

	"github.com/millrace/millrace/processes/payments"
)

// Provider implements payments.Provider. It has no state: equal requests are answered alike.
type Provider struct{}

var errFlaky = errors.New("sandbox: the token flaky fails twice")

// Authorise answers as the token says.
func (Provider) Authorise(ctx context.Context, r payments.AuthoriseRequest) (string, error) {
	const failures = 2
	switch r.Token {
	case "ok":
	case "flaky":
		if r.Attempt <= failures {
			return "", errFlaky
		}
	case "timeout":
		<-ctx.Done()
		return "", context.Cause(ctx)
	case "declined":
		return "", &payments.DeclinedError{Reason: "declined by the sandbox"}
	default:
		return "", &payments.DeclinedError{Reason: "the sandbox does not know the token"}
	}
	return "sandbox-" + r.Order, nil
}

// Capture does nothing.
func (Provider) Capture(context.Context, payments.CaptureRequest) error { return nil }

// Void does nothing.
func (Provider) Void(context.Context, payments.VoidRequest) error { return nil }

// Refund does nothing.
func (Provider) Refund(context.Context, payments.RefundRequest) error { return nil }
