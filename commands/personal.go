package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/millrace/millrace/domain/personal"
)

// IsForgotten reports whether err says that the person whom sealed data is about has been forgotten.
func IsForgotten(err error) bool {
	var f interface{ Forgotten() bool }
	return errors.As(err, &f) && f.Forgotten()
}

// OpenContact returns an order's contact. See IsForgotten for its error.
func (a *App) OpenContact(ctx context.Context, sealed personal.Sealed) (Contact, error) {
	contacts, errs := a.OpenContacts(ctx, []personal.Sealed{sealed})
	return contacts[0], errs[0]
}

// OpenContacts is OpenContact for many orders, whose keys are read together. Both slices have a place for each.
func (a *App) OpenContacts(ctx context.Context, sealed []personal.Sealed) ([]Contact, []error) {
	contacts := make([]Contact, len(sealed))
	plain, errs := a.open(ctx, sealed)
	for i := range sealed {
		if errs[i] != nil {
			continue
		}
		if err := json.Unmarshal(plain[i], &contacts[i]); err != nil {
			errs[i] = errors.New("commands: a contact is not what was once written") // the cause might tell what is in it
		}
	}
	return contacts, errs
}

// OpenPaymentTokens returns what orders are paid with. Their keys are read together; both slices have a place for each. See IsForgotten for
// the errors.
func (a *App) OpenPaymentTokens(ctx context.Context, sealed []personal.Sealed) ([]string, []error) {
	tokens := make([]string, len(sealed))
	plain, errs := a.open(ctx, sealed)
	for i := range sealed {
		tokens[i] = string(plain[i])
	}
	return tokens, errs
}

func (a *App) open(ctx context.Context, sealed []personal.Sealed) ([][]byte, []error) {
	keys, boxes := make([]string, len(sealed)), make([][]byte, len(sealed))
	for i, s := range sealed {
		keys[i], boxes[i] = s.Key, s.Box
	}
	return a.vault.OpenAll(ctx, keys, boxes)
}

// seal returns plaintext sealed under the subject's key.
func (a *App) seal(ctx context.Context, subject string, plaintext []byte) (personal.Sealed, error) {
	key, box, err := a.vault.Seal(ctx, subject, plaintext)
	return personal.Sealed{Key: key, Box: box}, err
}

func (a *App) sealContact(ctx context.Context, subject string, c Contact) (personal.Sealed, error) {
	plain, err := json.Marshal(c)
	if err != nil {
		return personal.Sealed{}, fmt.Errorf("commands: writing a contact: %w", err)
	}
	return a.seal(ctx, subject, plain)
}
