package commands

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/domain/money"
	"github.com/millrace/millrace/internal/es"
)

// Vault seals what is personal under the key of the person whom it is about, and opens it as long as that key exists.
type Vault interface {
	// Seal encrypts plaintext under the subject's key, which is made if there is none, and returns the key's id.
	Seal(ctx context.Context, subject string, plaintext []byte) (key string, box []byte, err error)
	// OpenAll decrypts boxes, each under the key with the id at its place. Of a key that is gone for ever the error has
	// a method Forgotten() bool that returns true.
	OpenAll(ctx context.Context, keys []string, boxes [][]byte) ([][]byte, []error)
	// KeyOf returns the id of the subject's key, "" if there is none.
	KeyOf(ctx context.Context, subject string) (key string, err error)
	// Forget deletes a key of the subject's, if it is there, for ever.
	Forget(ctx context.Context, subject, key string) error
}

// Dependencies are what an [App] is made of.
type Dependencies struct {
	Executor es.Executor
	// Reader reads the log that Executor appends to, without delay.
	Reader es.Reader
	Vault  Vault
	// Secret is the installation's secret key, of at least 32 bytes. Access tokens and keyed hashes derive from it.
	Secret []byte
	// Currency is the shop's, as fixed with the log.
	Currency money.Currency
	// PaymentDeadline is how long an order may wait for its payment.
	PaymentDeadline time.Duration
}

// App has a method for each use case. It is safe for concurrent use.
type App struct {
	executor        es.Executor
	reader          es.Reader
	vault           Vault
	currency        money.Currency
	paymentDeadline time.Duration
	keys            keys
}

// keys are derived from the installation's secret, one a purpose.
type keys struct{ access, subject, idempotency []byte }

const minSecret = 32

// New returns an App, or an error that says which dependency cannot be used.
func New(d Dependencies) (*App, error) {
	switch {
	case d.Executor == nil || d.Reader == nil || d.Vault == nil:
		return nil, errors.New("commands: an executor, a reader and a vault are needed")
	case len(d.Secret) < minSecret:
		return nil, fmt.Errorf("commands: the secret key has %d bytes, at least %d are needed", len(d.Secret), minSecret)
	case !d.Currency.Valid():
		return nil, fmt.Errorf("commands: the shop's currency %q is not an ISO 4217 code", d.Currency)
	case d.PaymentDeadline <= 0:
		return nil, fmt.Errorf("commands: the payment deadline must be positive, not %s", d.PaymentDeadline)
	}
	a := &App{
		executor: d.Executor, reader: d.Reader, vault: d.Vault, currency: d.Currency, paymentDeadline: d.PaymentDeadline,
	}
	for purpose, key := range map[string]*[]byte{
		"millrace access token": &a.keys.access,
		"millrace subject":      &a.keys.subject,
		"millrace idempotency":  &a.keys.idempotency,
	} {
		var err error
		if *key, err = hkdf.Key(sha256.New, d.Secret, nil, purpose, sha256.Size); err != nil {
			return nil, fmt.Errorf("commands: deriving the key for %s: %w", purpose, err)
		}
	}
	return a, nil
}

// Currency returns the shop's currency.
func (a *App) Currency() money.Currency { return a.currency }
