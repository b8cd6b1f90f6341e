package projector

import (
	"context"
	"errors"
	"reflect"
	"slices"

	"github.com/millrace/millrace/internal/es"
)

// Changed is a state that [Fold] has to save.
type Changed[D any] struct {
	Key   string
	State D
	// New says that load did not find it, and save has not had it yet: there is no row of it.
	New bool
}

// Fold is an Apply for models whose rows are states: it loads the states of the batch's keys together, folds the
// events into them in order, and saves those that changed together.
//
// Key returns the key of an event's state, "" for an event without one. Load returns the states that exist; those
// missing begin as the zero D. Save writes the states by [Tx.Queue], so that a batch takes two round trips, or one where no
// state has to be loaded; in a rebuild ([Tx.Bulk]) those that are new are quickest written by [Tx.Copy].
//
// States are kept in memory: those of the last batches, so that the next ones need not load them, and in a rebuild those of many
// batches of one transaction, to be saved at its end. What Fold saves must therefore not be written in another way, nor, by the
// same Apply, read in another way, and save must not change it. A state that carries something for save alone, such as rows to
// be added, has a method Saved() D that returns it without. An Apply with several Folds gives each a save of its own.
func Fold[D any](
	ctx context.Context, tx *Tx, events []es.Event,
	key func(e *es.Event) string,
	load func(ctx context.Context, tx *Tx, keys []string) (map[string]D, error),
	fold func(state D, e *es.Event) (D, error),
	save func(ctx context.Context, tx *Tx, changed []Changed[D]) error,
) error {
	id := foldID{states: reflect.TypeFor[D](), save: reflect.ValueOf(save).Pointer()}
	if _, twice := tx.folded[id]; twice {
		return errors.New("projector: two Folds of one Apply share their save")
	}
	if tx.folded == nil {
		tx.folded = make(map[foldID]struct{})
	}
	tx.folded[id] = struct{}{}

	states, kept := make(map[string]*Changed[D]), (*keptStates[D])(nil)
	if deferred, ok := tx.folds[id].(*unsaved[D]); ok {
		states = deferred.states
	}
	if tx.kept != nil {
		kept = keptBy[D](tx.kept, id)
	}
	stateOf := make([]*Changed[D], len(events))
	keys := make([]string, 0, len(events))
	for i := range events {
		k := key(&events[i])
		if k == "" {
			continue
		}
		state, known := states[k]
		if !known {
			if state = kept.get(k); state == nil {
				state = &Changed[D]{Key: k, New: true}
				keys = append(keys, k)
			}
			states[k] = state
		}
		stateOf[i] = state
	}
	if len(keys) > 0 {
		found, err := load(ctx, tx, keys)
		if err != nil {
			return err
		}
		for k, state := range found {
			states[k].State, states[k].New = state, false
		}
	}
	if len(states) == 0 {
		return nil
	}
	for i, c := range stateOf {
		if c == nil {
			continue
		}
		var err error
		if c.State, err = fold(c.State, &events[i]); err != nil {
			return err
		}
	}
	u := &unsaved[D]{states: states, write: save}
	if tx.folds == nil {
		if err := save(ctx, tx, u.all()); err != nil {
			return err
		}
		kept.keep(states)
		return nil
	}
	u.write = func(ctx context.Context, tx *Tx, some []Changed[D]) error {
		if err := save(ctx, tx, some); err != nil {
			return err
		}
		return tx.flush(ctx)
	}
	tx.folds[id] = u
	return nil
}

// keptFolds are the states of earlier batches, by Fold.
type keptFolds map[foldID]any

// keptStates are those of one Fold: the recent ones, and those before, which are forgotten when there are keptMost recent ones
// again.
type keptStates[D any] struct{ recent, before map[string]*Changed[D] }

const keptMost = 2_000

func keptBy[D any](folds keptFolds, id foldID) *keptStates[D] {
	if kept, ok := folds[id].(*keptStates[D]); ok {
		return kept
	}
	kept := &keptStates[D]{recent: make(map[string]*Changed[D])}
	folds[id] = kept
	return kept
}

// get returns a kept state, nil if there is none; a nil receiver has none.
func (k *keptStates[D]) get(key string) *Changed[D] {
	if k == nil {
		return nil
	}
	if state, ok := k.recent[key]; ok {
		return state
	}
	return k.before[key]
}

// keep keeps states that have been saved, for as long as their batch and all before it are committed.
func (k *keptStates[D]) keep(states map[string]*Changed[D]) {
	if k == nil {
		return
	}
	for key, state := range states {
		state.New = false
		if carrier, ok := any(state.State).(interface{ Saved() D }); ok {
			state.State = carrier.Saved()
		}
		if _, known := k.recent[key]; !known && len(k.recent) >= keptMost {
			k.before, k.recent = k.recent, make(map[string]*Changed[D], keptMost)
		}
		k.recent[key] = state
	}
}

// savedTogether is how many deferred states one call of save gets: the arguments of its statements are built, sent and
// taken apart as a whole, and megabytes of them are slow.
const savedTogether = 500

// foldID tells the Folds of an Apply apart, by the type of their states and the code of their save.
type foldID struct {
	states reflect.Type
	save   uintptr
}

// deferredFold is what a Fold has left to be saved.
type deferredFold interface {
	size() int
	save(ctx context.Context, tx *Tx) error
}

type unsaved[D any] struct {
	states map[string]*Changed[D]
	write  func(ctx context.Context, tx *Tx, some []Changed[D]) error
}

func (u *unsaved[D]) size() int { return len(u.states) }

func (u *unsaved[D]) all() []Changed[D] {
	all := make([]Changed[D], 0, len(u.states))
	for _, c := range u.states {
		all = append(all, *c)
	}
	return all
}

func (u *unsaved[D]) save(ctx context.Context, tx *Tx) error {
	for some := range slices.Chunk(u.all(), savedTogether) {
		if err := u.write(ctx, tx, some); err != nil {
			return err
		}
	}
	return nil
}
