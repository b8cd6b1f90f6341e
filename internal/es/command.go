package es

import (
	"context"
	"crypto/sha256"
	"errors"
	"time"
)

// ErrNotLoaded is returned by [State] for a stream that is not in memory yet. A decision hands it on; the
// writer then reads the stream and decides again.
var ErrNotLoaded = errors.New("es: stream not loaded yet")

// ErrUnavailable is wrapped by errors that say that the log cannot take commands now, or that it, or what is made of it, cannot be
// read now. Whether a command had an effect is unknown only where the error also wraps [ErrOutcomeUnknown].
var ErrUnavailable = errors.New("the log is not available")

// ErrOutcomeUnknown is wrapped when a command may or may not have been committed.
var ErrOutcomeUnknown = errors.New("the outcome of the command is unknown")

// Command is a use case about to be decided.
type Command struct {
	// Name is for logs and metrics, for example "checkout".
	Name string
	// Streams are names of streams that Decide will ask for, as far as they are known beforehand. They
	// are read together; whatever is missing here is read when Decide asks for it.
	Streams []string
	// Decide looks at states and appends events. An error is a refusal: the command has no effect, and its
	// caller gets the error once the states that led to it are known to have been current.
	Decide func(*Decision) error
	// OccurredAt is when the facts happened; zero means now.
	OccurredAt time.Time
	// Idempotency, if not nil, makes the command have its effect once for a key.
	Idempotency *Idempotency
}

// Hash is a SHA-256 hash.
type Hash [sha256.Size]byte

// Idempotency names a request so that a repetition of it is recognised.
type Idempotency struct {
	// Key is a hash of the client's key and its scope.
	Key Hash
	// Request is a hash of all that the client asked for: another request under the same key is a conflict.
	Request Hash
	// Streams are recorded with the key, for the answer to be folded from again. Filled in by Decide.
	Streams []string
}

// IdempotencyConflictError says that a key was used before for another request.
type IdempotencyConflictError struct{}

func (*IdempotencyConflictError) Error() string {
	return "the idempotency key was used before for another request"
}

// Outcome is what a committed command left in the log.
type Outcome struct {
	// Position is that of the command's last event, or the head of the log at which it was found that there is
	// nothing to do.
	Position int64
	// Events is the number of events appended.
	Events int
	// Replayed is set when the command's idempotency key had been used before for the same request: nothing
	// was decided now. Streams and Position are those of the first time.
	Replayed bool
	// Streams are those recorded with the idempotency key; only where Replayed.
	Streams []string
}

// Executor decides commands and appends their events.
type Executor interface {
	// Execute decides the command and returns when its events are committed. It returns the error of Decide
	// for a refused command, an [IdempotencyConflictError], an error wrapping [ErrUnavailable], or that of ctx
	// (wrapping [ErrOutcomeUnknown]: the command may still be committed).
	Execute(ctx context.Context, c Command) (Outcome, error)
	// ExecuteAll decides the commands in their order, each all or nothing on its own, in as few commits as
	// possible. Errors, one for each command, are nil where it was committed.
	ExecuteAll(ctx context.Context, cs []Command) ([]Outcome, []error)
	// DryRun decides the command on the states in memory, reading those that are missing, and returns the error of Decide. Nothing is
	// appended, and nobody makes sure that the states are current: what comes of it may be acted on, but is no answer. Where memory has it that the
	// command's key was used, nothing is decided: the error is nil, or an [IdempotencyConflictError]. One wrapping [ErrUnavailable] says that the
	// states could not be had.
	DryRun(ctx context.Context, c Command) error
}

// Appended is a fact that a decision wants in the log.
type Appended struct {
	Stream  string
	Version int64
	Fact    any
}

// Versioned is the state of a stream at a version; version 0 is the empty stream.
type Versioned struct {
	State   any
	Version int64
}

// Decision is one run of a command's Decide.
type Decision struct {
	// Now is when the decision is taken, in UTC.
	Now time.Time

	occurredAt time.Time
	lookup     func(stream string) (Versioned, bool)
	changed    map[string]Versioned
	missing    []string
	presumed   []string
	certain    bool
	appended   []Appended
	err        error
}

// NewDecision returns a run of a command on the states that lookup finds. It is for those who execute
// commands: the writer, and tests of decisions.
func NewDecision(now, occurredAt time.Time, lookup func(string) (Versioned, bool)) *Decision {
	if occurredAt.IsZero() {
		occurredAt = now
	}
	return &Decision{Now: now, occurredAt: occurredAt, lookup: lookup}
}

// OccurredAt is the time that the command's events will carry.
func (d *Decision) OccurredAt() time.Time { return d.occurredAt }

// Missing returns the streams that were asked for and are not loaded.
func (d *Decision) Missing() []string { return d.missing }

// PresumeNothing has [Presumed] ask for streams as [State] does. It is called before Decide.
func (d *Decision) PresumeNothing() { d.certain = true }

// Presumptions returns the streams that were taken for empty without being read: the decision may only stand if they are.
func (d *Decision) Presumptions() []string { return d.presumed }

// Appended returns what the decision wants in the log, in order.
func (d *Decision) Appended() []Appended { return d.appended }

// Changed returns the states of the streams that the decision appended to, minted or presumed, as they are after it.
func (d *Decision) Changed() map[string]Versioned { return d.changed }

// Err returns what made the decision impossible to take, apart from Decide's own error: a fact that its
// stream's kind does not know.
func (d *Decision) Err() error { return d.err }

func (d *Decision) find(stream string) (Versioned, bool) {
	if v, ok := d.changed[stream]; ok {
		return v, true
	}
	return d.lookup(stream)
}

// Need reports by ErrNotLoaded whether any of the streams is not in memory, so that all of them are read
// together. Decisions that find out in the middle which streams they need call it before State.
func (d *Decision) Need(streams ...string) error {
	before := len(d.missing)
	for _, s := range streams {
		if _, ok := d.find(s); !ok {
			d.missing = append(d.missing, s)
		}
	}
	if len(d.missing) > before {
		return ErrNotLoaded
	}
	return nil
}

// State returns the present state of a stream, with what this decision has appended to it so far. It
// returns ErrNotLoaded when the stream has to be read first.
func State[S any](d *Decision, s Stream[S]) (S, error) {
	v, ok := d.find(s.name)
	if !ok {
		d.missing = append(d.missing, s.name)
		var zero S
		return zero, ErrNotLoaded
	}
	return v.State.(S), nil
}

// Minted returns the state of a stream whose id this very command has just drawn from at least 128 random
// bits: it is known to be empty without being read.
func Minted[S any](d *Decision, s Stream[S]) S {
	if v, ok := d.find(s.name); ok {
		return v.State.(S)
	}
	if d.changed == nil {
		d.changed = make(map[string]Versioned, 4)
	}
	d.changed[s.name] = Versioned{State: s.kind.zero}
	return s.kind.zero.(S)
}

// Presumed returns the state of a stream that very probably is new: its id was drawn from fewer random bits than [Minted] asks for, or
// follows from something that is used once. Where it is not in memory it is taken for empty without being read. The log finds out when it is
// appended to, and the command is decided again, on what stands there; for a stream that often exists that costs more than [State].
func Presumed[S any](d *Decision, s Stream[S]) (S, error) {
	if _, ok := d.find(s.name); !ok && !d.certain {
		d.presumed = append(d.presumed, s.name)
		return Minted(d, s), nil
	}
	return State(d, s)
}

// Append adds facts to a stream whose state the decision has asked for, and returns the state after them.
func Append[S, E any](d *Decision, s Stream[S], facts ...E) S {
	v, ok := d.find(s.name)
	if !ok {
		d.missing = append(d.missing, s.name)
		var zero S
		return zero
	}
	for _, f := range facts {
		state, err := s.kind.Fold(v.State, any(f), d.occurredAt)
		if err != nil {
			d.err = errors.Join(d.err, err)
			break
		}
		v = Versioned{State: state, Version: v.Version + 1}
		d.appended = append(d.appended, Appended{Stream: s.name, Version: v.Version, Fact: f})
	}
	if len(facts) > 0 {
		if d.changed == nil {
			d.changed = make(map[string]Versioned, 4)
		}
		d.changed[s.name] = v
	}
	return v.State.(S)
}
