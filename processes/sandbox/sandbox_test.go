package sandbox_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/millrace/millrace/processes/payments"
	"github.com/millrace/millrace/processes/sandbox"
)

func TestAuthorise(t *testing.T) {
	const (
		authorised = "authorised"
		declined   = "declined"
		failed     = "failed"
	)
	for _, test := range []struct {
		token   string
		attempt int
		want    string
	}{
		{"ok", 1, authorised},
		{"declined", 1, declined},
		{"flaky", 1, failed},
		{"flaky", 2, failed},
		{"flaky", 3, authorised},
		{"timeout", 1, failed},
		{"", 1, declined},
		{"4242 4242 4242 4242", 1, declined},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		reference, err := sandbox.Provider{}.Authorise(ctx, payments.AuthoriseRequest{Order: "X", Token: test.token, Attempt: test.attempt})
		cancel()
		got := failed
		if err == nil && reference != "" {
			got = authorised
		} else if d := (*payments.DeclinedError)(nil); errors.As(err, &d) {
			got = declined
		}
		if got != test.want {
			t.Errorf("%q, attempt %d: got %s (%v), want %s", test.token, test.attempt, got, err, test.want)
		}
	}
}
