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
	// New says that load did not find it: there is no row of it yet.
	New bool
}

// Fold is an Apply for models whose rows are states: it loads the states of the batch's keys together, folds the
// events into them in order, and saves those that changed together.
//
// Key returns the key of an event's state, "" for an event without one. Load returns the states that exist; those
// missing begin as the zero D. Save writes the states by [Tx.Queue], so that a batch takes two round trips; in a rebuild
// ([Tx.Bulk]) those that are new are quickest written by [Tx.Copy]. It gets the states as load and fold made them, and they
// are not used again afterwards.
//
// In a rebuild states stay in memory over many batches of one transaction, and are saved at its end: what is saved by
// Fold must not be read in another way by the same Apply. An Apply with several Folds gives each a save of its own.
func Fold[D any](
	ctx context.Context, tx *Tx, events []es.Event,
	key func(e *es.Event) string,
	load func(ctx context.Context, tx *Tx, keys []string) (map[string]D, error),
	fold func(state D, e *es.Event) (D, error),
	save func(ctx context.Context, tx *Tx, changed []Changed[D]) error,
) error {
	states, id := make(map[string]*Changed[D]), foldID{}
	if tx.folds != nil {
		id = foldID{states: reflect.TypeFor[D](), save: reflect.ValueOf(save).Pointer()}
		if _, twice := tx.folded[id]; twice {
			return errors.New("projector: two Folds of one Apply share their save")
		}
		if deferred, ok := tx.folds[id].(*unsaved[D]); ok {
			states = deferred.states
		}
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
			state = &Changed[D]{Key: k, New: true}
			states[k] = state
			keys = append(keys, k)
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
		return save(ctx, tx, u.all())
	}
	if tx.folded == nil {
		tx.folded = make(map[foldID]struct{})
	}
	tx.folded[id] = struct{}{}
	u.write = func(ctx context.Context, tx *Tx, some []Changed[D]) error {
		if err := save(ctx, tx, some); err != nil {
			return err
		}
		return tx.flush(ctx)
	}
	tx.folds[id] = u
	return nil
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
