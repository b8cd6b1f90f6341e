package commands

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"

	"github.com/millrace/millrace/domain/rule"
	"github.com/millrace/millrace/internal/es"
)

// MaxKey is how many characters a [Key] may have.
const MaxKey = 255

// Key is what a client calls a request, so that a repetition of it is recognised. A use case that is executed in the context of a key
// has one effect, and answers a repetition with what it answered first. The key with another input, or another use case, is refused with
// [ErrKeyUsed]. A refusal leaves no trace of the key.
type Key struct {
	// Owner is whose key it is: the same text of somebody else is another key.
	Owner string
	// Text is what the client sent, 1 to MaxKey characters; others are refused with rule.Invalid at input, idempotencyKey.
	Text string
	// Place tells the commands of one request apart, from 0.
	Place int
}

type keyOfContext struct{}

// WithKey returns a context whose one command has its effect once for the key.
func WithKey(ctx context.Context, k Key) context.Context {
	return context.WithValue(ctx, keyOfContext{}, k)
}

// KeyFrom returns the key of the context, and whether there is one.
func KeyFrom(ctx context.Context) (Key, bool) {
	k, ok := ctx.Value(keyOfContext{}).(Key)
	return k, ok
}

// ErrKeyUsed is the refusal of a key that was used before for something else.
var ErrKeyUsed = rule.New(rule.Conflict, "the key was used before for another request").At("input", "idempotencyKey")

// hash returns a keyed hash of the key for some purpose.
func (k Key) hash(secret []byte, purpose ...string) []byte {
	return mac(secret, append(purpose, k.Owner, strconv.Itoa(k.Place), k.Text)...)
}

// idempotency names a request under the key of the context, nil without one. Both hashes are keyed, since the input is personal.
func (a *App) idempotency(ctx context.Context, operation string, input any) (*es.Idempotency, error) {
	key, ok := KeyFrom(ctx)
	if !ok {
		return nil, nil
	}
	if n := utf8.RuneCountInString(key.Text); n < 1 || n > MaxKey {
		return nil, rule.New(rule.Invalid, "has %d characters, 1 to %d are allowed", n, MaxKey).At("input", "idempotencyKey")
	}
	request, err := json.Marshal(input)
	if err != nil {
		return nil, fmt.Errorf("commands: hashing the input of %s: %w", operation, err)
	}
	return &es.Idempotency{
		Key:     es.Hash(key.hash(a.keys.idempotency, "key")),
		Request: es.Hash(mac(a.keys.idempotency, "request", operation, string(request))),
	}, nil
}

// shown is a state that a command's answer is made of: what its decision left, or, for a repetition, the state as it was then.
type shown[S any] struct {
	kind  es.Kind[S]
	name  string // of the stream
	state S
}

func newShown[S any](k es.Kind[S]) *shown[S] { return &shown[S]{kind: k} }

// set takes down what a decision left of a stream.
func (s *shown[S]) set(stream es.Stream[S], state S) { s.name, s.state = stream.Name(), state }

func (s *shown[S]) stream() string { return s.name }

// recall folds the stream as it was at a position.
func (s *shown[S]) recall(ctx context.Context, r es.Reader, stream string, position int64) error {
	if es.CategoryOf(stream) != s.kind.Name {
		return fmt.Errorf("commands: an idempotency key names %s where a %s is expected", stream, s.kind.Name)
	}
	state, version, err := es.LoadUpTo(ctx, r, s.kind.Stream(es.IDOf(stream)), position)
	switch {
	case err != nil: // there is an answer, and it cannot be told now
		return fmt.Errorf("commands: reading %s as of position %d: %w: %w", stream, position, es.ErrOutcomeUnknown, err)
	case version == 0:
		return fmt.Errorf("commands: the stream %s of an idempotency key is not in the log", stream)
	}
	s.name, s.state = stream, state
	return nil
}

// part is a [shown] of any kind.
type part interface {
	stream() string
	recall(ctx context.Context, r es.Reader, stream string, position int64) error
}

// execute runs the command of a use case and returns the position of its effect. Under a key of the context the input and the streams of
// the answer's parts, which Decide sets, are recorded with the effect; for a repetition the parts are what they were then.
func (a *App) execute(ctx context.Context, c es.Command, input any, answer ...part) (position int64, err error) {
	if c.Idempotency, err = a.idempotency(ctx, c.Name, input); err != nil {
		return 0, err
	}
	if c.Idempotency != nil {
		c.Decide = noting(c, answer)
	}
	outcome, err := a.executor.Execute(ctx, c)
	if conflict := (*es.IdempotencyConflictError)(nil); errors.As(err, &conflict) {
		return 0, ErrKeyUsed
	}
	if err != nil || !outcome.Replayed {
		return outcome.Position, err
	}
	if len(outcome.Streams) != len(answer) {
		return 0, fmt.Errorf("commands: an idempotency key of %s names %v", c.Name, outcome.Streams)
	}
	for i, p := range answer {
		if err := p.recall(ctx, a.reader, outcome.Streams[i], outcome.Position); err != nil {
			return 0, err
		}
	}
	return outcome.Position, nil
}

// dryRun returns what speaks against the command of a use case under the key of the context, as far as memory tells; see [es.Executor].
func (a *App) dryRun(ctx context.Context, c es.Command, input any) (err error) {
	if c.Idempotency, err = a.idempotency(ctx, c.Name, input); err != nil {
		return err
	}
	return a.executor.DryRun(ctx, c)
}

// noting returns the command's Decide with the streams of its answer noted for the record.
func noting(c es.Command, answer []part) func(*es.Decision) error {
	return func(d *es.Decision) error {
		if err := c.Decide(d); err != nil {
			return err
		}
		streams := make([]string, len(answer))
		for i, p := range answer {
			streams[i] = p.stream()
		}
		c.Idempotency.Streams = streams
		return nil
	}
}
