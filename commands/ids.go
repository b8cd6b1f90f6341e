package commands

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"strings"
)

var lower32 = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// idBytes is the length of ids that nobody can guess and no two of which are ever equal.
const idBytes = 16

// newID returns 128 random bits as 26 lower-case letters and digits.
func newID() string {
	var b [idBytes]byte
	rand.Read(b[:]) // never fails
	return lower32.EncodeToString(b[:])
}

// isID reports whether s may have come from newID.
func isID(s string) bool {
	b, err := lower32.DecodeString(s)
	return err == nil && len(b) == idBytes
}

// CartRef returns the name by which a cart's stream and read model know it: a hash of its id, which is a secret.
func CartRef(cartID string) string {
	h := sha256.Sum256([]byte("millrace cart " + cartID))
	return lower32.EncodeToString(h[:idBytes])
}

// crockford has no letters that are mistaken for digits.
var crockford = base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").WithPadding(base32.NoPadding)

// newOrderNumber returns eight characters that people can read to each other.
func newOrderNumber() string {
	var b [5]byte
	rand.Read(b[:]) // never fails
	return crockford.EncodeToString(b[:])
}

const maxOrderID = 64

// isOrderID reports whether an order may have that id: the number of an order placed here or of an imported invoice.
func isOrderID(s string) bool {
	return s != "" && len(s) <= maxOrderID && !strings.ContainsFunc(s, func(r rune) bool {
		return (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z') && r != '-' && r != '_'
	})
}

// AccessToken returns the token with which a guest may see and cancel an order. It is computed, and stored nowhere.
func (a *App) AccessToken(orderID string) string {
	return base64.RawURLEncoding.EncodeToString(mac(a.keys.access, orderID))
}

// MayAccess reports whether token is the order's. How long it takes tells nothing about the right one.
func (a *App) MayAccess(orderID, token string) bool {
	return subtle.ConstantTimeCompare([]byte(a.AccessToken(orderID)), []byte(token)) == 1
}

// SubjectOf returns the keyed hash by which the log knows the person with that e-mail address, in whatever case it is
// written.
func (a *App) SubjectOf(email string) string {
	return hex.EncodeToString(mac(a.keys.subject, strings.ToLower(strings.TrimSpace(email)))[:idBytes])
}

func mac(key []byte, parts ...string) []byte {
	h := hmac.New(sha256.New, key)
	for i, p := range parts {
		if i > 0 {
			h.Write([]byte{0})
		}
		h.Write([]byte(p))
	}
	return h.Sum(nil)
}
