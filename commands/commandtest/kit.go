// Package commandtest tests use cases as given / when / then: given events, when a command is executed, then these
// events, or a refusal.
//
// A [Kit] is no log: it has one caller, keeps everything in memory and loses it. It takes decisions on the kit's own
// terms, which are harder than the log's: each is run on states that are not loaded yet, and then twice, and has to come
// to the same end; and every event goes through its stored form before it is folded.
//
// Package internal/projector/projectortest does the same for projections, which can be given what commands have appended here.
package commandtest

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/internal/es"
)

// Entry is an event in its stream.
type Entry struct {
	Stream string
	Fact   any
}

// Kit is the past that commands of one test are decided on.
type Kit struct {
	// App is made with the kit as its executor, reader and vault; its currency is GBP, its payment deadline a minute.
	App *commands.App
	// Now is when decisions are taken.
	Now time.Time

	tb         testing.TB
	codec      *es.Codec
	categories map[string]*es.Category
	mu         sync.Mutex
	events     []es.Event
	states     map[string]es.Versioned
	keys       map[es.Hash]keyRecord
	subjects   map[string]string // and the ids of their keys, as a vault has them
	made       int               // keys, ever
	seen       int
	sealer     cipher.AEAD
}

type keyRecord struct {
	request  es.Hash
	streams  []string
	position int64
}

// Deadline is the payment deadline of the kit's App.
const Deadline = time.Minute

// New returns a kit without a past.
func New(tb testing.TB) *Kit {
	tb.Helper()
	k := &Kit{
		Now: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), tb: tb, codec: commands.Codec(),
		categories: map[string]*es.Category{}, states: map[string]es.Versioned{}, keys: map[es.Hash]keyRecord{}, subjects: map[string]string{},
	}
	for _, c := range commands.Categories() {
		k.categories[c.Name] = c
	}
	block, err := aes.NewCipher(make([]byte, 32))
	if err == nil {
		k.sealer, err = cipher.NewGCMWithRandomNonce(block)
	}
	if err == nil {
		k.App, err = commands.New(commands.Dependencies{
			Executor: k, Reader: k, Vault: k, Secret: make([]byte, 32), Currency: "GBP", PaymentDeadline: Deadline,
		})
	}
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// Given adds facts to a stream.
func (k *Kit) Given(stream string, facts ...any) {
	k.tb.Helper()
	k.mu.Lock()
	defer k.mu.Unlock()
	appended := make([]es.Appended, len(facts))
	for i, f := range facts {
		appended[i] = es.Appended{Stream: stream, Version: k.states[stream].Version + int64(i) + 1, Fact: f}
	}
	k.append(appended, k.Now)
	k.seen = len(k.events)
}

// Then fails the test unless exactly these events were appended since Given or Then was last called.
func (k *Kit) Then(want ...Entry) {
	k.tb.Helper()
	got := k.Fresh()
	if !reflect.DeepEqual(got, append([]Entry{}, want...)) {
		k.tb.Fatalf("got events\n%s\nwant\n%s", list(got), list(want))
	}
}

// Fresh returns the events that were appended since Given, Then or Fresh was last called.
func (k *Kit) Fresh() []Entry {
	k.mu.Lock()
	defer k.mu.Unlock()
	fresh := make([]Entry, 0, len(k.events)-k.seen)
	for _, e := range k.events[k.seen:] {
		fresh = append(fresh, Entry{Stream: e.Stream, Fact: e.Fact})
	}
	k.seen = len(k.events)
	return fresh
}

func list(entries []Entry) (s string) {
	for _, e := range entries {
		s += fmt.Sprintf("  %s: %T%+v\n", e.Stream, e.Fact, e.Fact)
	}
	return s
}

// Execute implements es.Executor.
func (k *Kit) Execute(ctx context.Context, c es.Command) (es.Outcome, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return es.Outcome{}, err
	}
	if id := c.Idempotency; id != nil {
		if known, used := k.keys[id.Key]; used {
			if known.request != id.Request {
				return es.Outcome{}, fmt.Errorf("commandtest: %s: %w", c.Name, &es.IdempotencyConflictError{})
			}
			return es.Outcome{Position: known.position, Replayed: true, Streams: known.streams}, nil
		}
	}
	d, err := k.decide(c)
	if err != nil {
		return es.Outcome{}, fmt.Errorf("commandtest: %s: %w", c.Name, err)
	}
	k.append(d.Appended(), d.OccurredAt())
	position := int64(len(k.events))
	if id := c.Idempotency; id != nil {
		k.keys[id.Key] = keyRecord{request: id.Request, streams: id.Streams, position: position}
	}
	return es.Outcome{Position: position, Events: len(d.Appended())}, nil
}

// DryRun implements es.Executor.
func (k *Kit) DryRun(_ context.Context, c es.Command) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if id := c.Idempotency; id != nil {
		switch known, used := k.keys[id.Key]; {
		case used && known.request != id.Request:
			return &es.IdempotencyConflictError{}
		case used:
			return nil
		}
	}
	_, err := k.decide(c)
	return err
}

// ForgetKeys forgets all idempotency keys, as the log does some time after they were used.
func (k *Kit) ForgetKeys() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.keys)
}

// ExecuteAll implements es.Executor.
func (k *Kit) ExecuteAll(ctx context.Context, cs []es.Command) ([]es.Outcome, []error) {
	outcomes, errs := make([]es.Outcome, len(cs)), make([]error, len(cs))
	for i, c := range cs {
		outcomes[i], errs[i] = k.Execute(ctx, c)
	}
	return outcomes, errs
}

// decide runs the command on nothing loaded, then on what it asked for and what it presumed wrongly, until it lacks nothing, and then once more, with
// what it presumed.
func (k *Kit) decide(c es.Command) (*es.Decision, error) {
	loaded := map[string]bool{}
	run := func() (*es.Decision, error) {
		d := es.NewDecision(k.Now, c.OccurredAt, func(stream string) (es.Versioned, bool) { return k.state(stream), loaded[stream] })
		return d, c.Decide(d)
	}
	for range 100 {
		d, err := run()
		if missing := d.Missing(); len(missing) > 0 {
			if err != nil && !errors.Is(err, es.ErrNotLoaded) {
				k.tb.Errorf("%s hides that it lacks %v behind %v", c.Name, missing, err)
			}
			for _, stream := range missing {
				loaded[stream] = true
			}
			continue
		}
		begun := false
		for _, stream := range d.Presumptions() {
			loaded[stream] = true
			begun = begun || k.state(stream).Version > 0
		}
		if begun {
			continue
		}
		again, errAgain := run()
		if (err == nil) != (errAgain == nil) || err == nil && !reflect.DeepEqual(d.Appended(), again.Appended()) {
			k.tb.Errorf("%s is decided in two ways on the same states:\n%v, %v\n%v, %v", c.Name, d.Appended(), err, again.Appended(), errAgain)
		}
		if err := again.Err(); err != nil {
			k.tb.Errorf("%s: %v", c.Name, err)
		}
		return again, errAgain
	}
	return nil, errors.New("the decision asks for ever more streams")
}

func (k *Kit) state(stream string) es.Versioned {
	if v, ok := k.states[stream]; ok {
		return v
	}
	c, ok := k.categories[es.CategoryOf(stream)]
	if !ok {
		k.tb.Errorf("%s is of no kind that exists", stream)
		return es.Versioned{}
	}
	return es.Versioned{State: c.Zero()}
}

// append records facts as the log would: as JSON.
func (k *Kit) append(facts []es.Appended, occurredAt time.Time) {
	k.tb.Helper()
	for _, a := range facts {
		name, data, err := k.codec.Encode(a.Fact)
		if err != nil {
			k.tb.Fatal(err)
		}
		before := k.state(a.Stream)
		if a.Version != before.Version+1 {
			k.tb.Fatalf("%s is appended to %s as version %d, behind version %d", name, a.Stream, a.Version, before.Version)
		}
		e := es.Event{
			Position: int64(len(k.events)) + 1, Stream: a.Stream, Version: a.Version, Type: name, Data: data,
			OccurredAt: occurredAt, RecordedAt: k.Now,
		}
		if err := k.codec.Decode(&e); err != nil {
			k.tb.Fatal(err)
		}
		state, err := k.categories[es.CategoryOf(a.Stream)].Fold(before.State, e.Fact, occurredAt)
		if err != nil {
			k.tb.Fatal(err)
		}
		k.states[a.Stream] = es.Versioned{State: state, Version: a.Version}
		k.events = append(k.events, e)
	}
}

// Head implements es.Reader.
func (k *Kit) Head(context.Context) (int64, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return int64(len(k.events)), nil
}

// ReadAll implements es.Reader.
func (k *Kit) ReadAll(_ context.Context, after int64, limit int) ([]es.Event, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	from := min(int(after), len(k.events))
	return slices.Clone(k.events[from:min(from+limit, len(k.events))]), nil
}

// ReadStream implements es.Reader.
func (k *Kit) ReadStream(_ context.Context, stream string, afterVersion int64, limit int) ([]es.Event, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var found []es.Event
	for _, e := range k.events {
		if e.Stream == stream && e.Version > afterVersion && len(found) < limit {
			found = append(found, e)
		}
	}
	return found, nil
}

// Seal implements commands.Vault.
func (k *Kit) Seal(_ context.Context, subject string, plaintext []byte) (string, []byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	key, known := k.subjects[subject]
	if !known {
		k.made++
		key = fmt.Sprint("key ", k.made)
		k.subjects[subject] = key
	}
	return key, k.sealer.Seal(nil, nil, plaintext, []byte(key)), nil
}

// OpenAll implements commands.Vault.
func (k *Kit) OpenAll(_ context.Context, keys []string, boxes [][]byte) ([][]byte, []error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	there := slices.Collect(maps.Values(k.subjects))
	plain, errs := make([][]byte, len(boxes)), make([]error, len(boxes))
	for i := range boxes {
		if !slices.Contains(there, keys[i]) {
			errs[i] = forgotten{}
			continue
		}
		plain[i], errs[i] = k.sealer.Open(nil, nil, boxes[i], []byte(keys[i]))
	}
	return plain, errs
}

// forgotten says that a key has been deleted.
type forgotten struct{}

func (forgotten) Error() string   { return "the key has been deleted" }
func (forgotten) Forgotten() bool { return true }

// KeyOf implements commands.Vault.
func (k *Kit) KeyOf(_ context.Context, subject string) (string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.subjects[subject], nil
}

// Forget implements commands.Vault.
func (k *Kit) Forget(_ context.Context, subject, key string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.subjects[subject] == key {
		delete(k.subjects, subject)
	}
	return nil
}

// State returns the state of a stream.
func State[S any](k *Kit, stream es.Stream[S]) S {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state(stream.Name()).State.(S)
}

// Log returns every event, as the log holds it.
func (k *Kit) Log() []es.Event {
	k.mu.Lock()
	defer k.mu.Unlock()
	return slices.Clone(k.events)
}
