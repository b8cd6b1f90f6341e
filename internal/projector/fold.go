package projector

import (
	"context"
	"errors"
	"maps"
	"reflect"

	"github.com/millrace/millrace/internal/es"
)

// Fold is an Apply for models whose rows are states: it loads the states of the batch's keys together, folds the
// events into them in order, and saves those that changed together.
//
// Key returns the key of an event's state, "" for an event without one. Load returns the states that exist; those
// missing begin as the zero D. Save writes the states by [Tx.Queue], so that a batch takes two round trips. It
// gets the states as load and fold made them, and they are not used again afterwards.
//
// In a rebuild states stay in memory over many batches of one transaction, and are saved at its end: what is saved by
// Fold must not be read in another way by the same Apply. An Apply with several Folds gives each a save of its own.
func Fold[D any](
	ctx context.Context, tx *Tx, events []es.Event,
	key func(e *es.Event) string,
	load func(ctx context.Context, tx *Tx, keys []string) (map[string]D, error),
	fold func(state D, e *es.Event) (D, error),
	save func(ctx context.Context, tx *Tx, changed map[string]D) error,
) error {
	states, id := make(map[string]D), foldID{}
	if tx.folds != nil {
		id = foldID{states: reflect.TypeFor[D](), save: reflect.ValueOf(save).Pointer()}
		if _, twice := tx.folded[id]; twice {
			return errors.New("projector: two Folds of one Apply share their save")
		}
		if deferred, ok := tx.folds[id].(*unsaved[D]); ok {
			states = deferred.states
		}
	}
	keyOf := make([]string, len(events))
	keys := make([]string, 0, len(events))
	for i := range events {
		k := key(&events[i])
		keyOf[i] = k
		if k == "" {
			continue
		}
		if _, known := states[k]; !known {
			var zero D
			states[k] = zero
			keys = append(keys, k)
		}
	}
	if len(keys) > 0 {
		found, err := load(ctx, tx, keys)
		if err != nil {
			return err
		}
		maps.Copy(states, found)
	}
	if len(states) == 0 {
		return nil
	}
	for i := range events {
		if keyOf[i] == "" {
			continue
		}
		var err error
		if states[keyOf[i]], err = fold(states[keyOf[i]], &events[i]); err != nil {
			return err
		}
	}
	if tx.folds == nil {
		return save(ctx, tx, states)
	}
	if tx.folded == nil {
		tx.folded = make(map[foldID]struct{})
	}
	tx.folded[id] = struct{}{}
	tx.folds[id] = &unsaved[D]{states: states, write: func(ctx context.Context, some map[string]D) error {
		if err := save(ctx, tx, some); err != nil {
			return err
		}
		return tx.flush(ctx)
	}}
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
	save(ctx context.Context) error
}

type unsaved[D any] struct {
	states map[string]D
	write  func(ctx context.Context, some map[string]D) error
}

func (u *unsaved[D]) size() int { return len(u.states) }

func (u *unsaved[D]) save(ctx context.Context) error {
	some := make(map[string]D, min(len(u.states), savedTogether))
	for key, state := range u.states {
		if some[key] = state; len(some) < savedTogether {
			continue
		}
		if err := u.write(ctx, some); err != nil {
			return err
		}
		some = make(map[string]D, savedTogether)
	}
	if len(some) == 0 {
		return nil
	}
	return u.write(ctx, some)
}
