// Package vault encrypts what is about a person under a key of that person's own, so that deleting the key is forgetting
// the person, wherever the encrypted data has gone.
//
// # Keys
//
// A subject's key is 256 random bits, made when something is first sealed for the subject, and kept in the table
// subject_keys, wrapped by a master key that derives from the installation's secret and is in no database. Data and
// wrapped keys are encrypted by AES-256-GCM with random nonces; the key's id is authenticated with both, so that neither
// can be passed off as another's.
//
// # Forgetting
//
// Unwrapped keys are cached for [Options.TTL]: for so long after a key was deleted another process may still open, and
// seal, what nobody will be able to open then.
//
// # Cost
//
// Subjects without a key that are waiting at the same time get their keys in one commit: whoever finds no commit under
// way makes it for all who are waiting.
package vault

import (
	"cmp"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/jackc/pgx/v5/pgxpool"
)

// ErrForgotten says that the key of what was to be opened has been deleted. It has the method Forgotten() bool, for those
// who do not import this package.
var ErrForgotten error = forgotten{}

type forgotten struct{}

func (forgotten) Error() string   { return "vault: the key has been deleted: the person is forgotten" }
func (forgotten) Forgotten() bool { return true }

// errDamaged says that a box does not open with its key.
var errDamaged = errors.New("vault: the sealed data is damaged, or was sealed under another secret key")

// Options are the parts and limits of a Vault.
type Options struct {
	// Pool is the primary's.
	Pool *pgxpool.Pool
	// OpenPool is where keys are looked for that open, also the primary's: readers do not hold up whoever seals. Nil means Pool.
	OpenPool *pgxpool.Pool
	// Secret is the installation's secret key, of at least 32 bytes.
	Secret []byte
	// CachedKeys bounds the unwrapped keys in memory; 0 means 20,000.
	CachedKeys int
	// TTL is how long a key may be used without asking whether it still exists; 0 means 10 s.
	TTL time.Duration
}

// Vault seals and opens. It is safe for concurrent use.
type Vault struct {
	pool     *pgxpool.Pool
	openPool *pgxpool.Pool
	master   cipher.AEAD
	ttl      time.Duration

	byID      *lru.Cache[string, *key]
	bySubject *lru.Cache[string, *key]

	turn    chan struct{} // held by whoever makes keys
	mu      sync.Mutex
	waiting map[string]*making // by subject; the next to be made
}

// key is an unwrapped key, as it was in the table at a time.
type key struct {
	id      string
	subject string
	aead    cipher.AEAD
	seen    time.Time
}

// making is a key that somebody waits for.
type making struct {
	done chan struct{} // closed once key or err is set
	key  *key
	err  error
}

const (
	minSecret  = 32
	keyBytes   = 32
	idBytes    = 16
	boxVersion = 1
	timeout    = 5 * time.Second // of a look for keys, or of making some
)

// New returns a vault, or an error that says which option cannot be used.
func New(o Options) (*Vault, error) {
	if o.Pool == nil {
		return nil, errors.New("vault: a connection pool is needed")
	}
	if len(o.Secret) < minSecret {
		return nil, fmt.Errorf("vault: the secret key has %d bytes, at least %d are needed", len(o.Secret), minSecret)
	}
	if o.CachedKeys == 0 {
		o.CachedKeys = 20_000
	}
	if o.TTL == 0 {
		o.TTL = 10 * time.Second
	}
	secret, err := hkdf.Key(sha256.New, o.Secret, nil, "millrace master key", keyBytes)
	if err != nil {
		return nil, fmt.Errorf("vault: deriving the master key: %w", err)
	}
	v := &Vault{pool: o.Pool, openPool: cmp.Or(o.OpenPool, o.Pool), ttl: o.TTL, turn: make(chan struct{}, 1), waiting: map[string]*making{}}
	if v.master, err = newAEAD(secret); err != nil {
		return nil, err
	}
	if v.byID, err = lru.New[string, *key](o.CachedKeys); err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	if v.bySubject, err = lru.New[string, *key](o.CachedKeys); err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	return v, nil
}

func newAEAD(secret []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(secret)
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	return aead, nil
}

// Seal encrypts plaintext under the subject's key, which is made if there is none, and returns the key's id with the
// box. An error wraps es.ErrUnavailable when the key cannot be had now. The subject must not be personal itself: it is stored as it is.
func (v *Vault) Seal(ctx context.Context, subject string, plaintext []byte) (keyID string, box []byte, err error) {
	k, ok := v.cached(v.bySubject, subject)
	if !ok {
		if k, err = v.keyFor(ctx, subject); err != nil {
			return "", nil, err
		}
	}
	return k.id, encrypt(k.aead, plaintext, k.id), nil
}

// Open decrypts what Seal returned. It returns ErrForgotten when the key is gone for ever.
func (v *Vault) Open(ctx context.Context, keyID string, box []byte) ([]byte, error) {
	plain, errs := v.OpenAll(ctx, []string{keyID}, [][]byte{box})
	return plain[0], errs[0]
}

// OpenAll is Open for many, with at most one query. Both slices have a place for each box.
func (v *Vault) OpenAll(ctx context.Context, keyIDs []string, boxes [][]byte) ([][]byte, []error) {
	plain, errs := make([][]byte, len(boxes)), make([]error, len(boxes))
	keys := make(map[string]*key, len(keyIDs))
	var missing []string
	for _, id := range keyIDs {
		if _, asked := keys[id]; asked {
			continue
		}
		k, ok := v.cached(v.byID, id)
		keys[id] = k
		if !ok {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		bounded, cancel := context.WithTimeout(ctx, timeout)
		found, err := v.read(bounded, v.openPool, `SELECT id, subject, wrapped FROM subject_keys WHERE id = ANY ($1)`, missing)
		cancel()
		if err != nil {
			for i := range errs {
				errs[i] = err
			}
			return plain, errs
		}
		for _, k := range found {
			keys[k.id] = k
		}
	}
	for i, id := range keyIDs {
		if k := keys[id]; k == nil {
			errs[i] = ErrForgotten
		} else {
			plain[i], errs[i] = decrypt(k.aead, boxes[i], id)
		}
	}
	return plain, errs
}

// KeyOf returns the id of the subject's key, "" if there is none.
func (v *Vault) KeyOf(ctx context.Context, subject string) (keyID string, err error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := v.pool.QueryRow(ctx, `SELECT coalesce((SELECT id FROM subject_keys WHERE subject = $1), '')`, subject).Scan(&keyID); err != nil {
		return "", fmt.Errorf("vault: looking for a key: %w", classified(err))
	}
	return keyID, nil
}

// Forget deletes a key of the subject's, if it is there, for ever.
func (v *Vault) Forget(ctx context.Context, subject, keyID string) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if _, err := v.pool.Exec(ctx, `DELETE FROM subject_keys WHERE subject = $1 AND id = $2`, subject, keyID); err != nil {
		return fmt.Errorf("vault: deleting a key: %w", classified(err))
	}
	v.byID.Remove(keyID)
	if k, ok := v.bySubject.Peek(subject); ok && k.id == keyID {
		v.bySubject.Remove(subject)
	}
	return nil
}

func (v *Vault) cached(by *lru.Cache[string, *key], name string) (*key, bool) {
	k, ok := by.Get(name)
	if !ok || time.Since(k.seen) > v.ttl {
		return nil, false
	}
	return k, true
}

func (v *Vault) remember(k *key) {
	v.byID.Add(k.id, k)
	v.bySubject.Add(k.subject, k)
}

// encrypt returns version, nonce and ciphertext.
func encrypt(aead cipher.AEAD, plaintext []byte, id string) []byte {
	box := make([]byte, 1, 1+len(plaintext)+aead.Overhead())
	box[0] = boxVersion
	return aead.Seal(box, nil, plaintext, []byte(id))
}

func decrypt(aead cipher.AEAD, box []byte, id string) ([]byte, error) {
	if len(box) == 0 || box[0] != boxVersion {
		return nil, errDamaged
	}
	plain, err := aead.Open(nil, nil, box[1:], []byte(id))
	if err != nil {
		return nil, errDamaged // the cause would say no more
	}
	return plain, nil
}

func newKey() (id string, secret []byte) {
	b := make([]byte, idBytes+keyBytes)
	rand.Read(b) // never fails
	return hex.EncodeToString(b[:idBytes]), b[idBytes:]
}
