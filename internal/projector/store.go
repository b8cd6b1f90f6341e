package projector

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/millrace/millrace/internal/es"
)

// store is where a generation of a projection is kept, with its checkpoints.
type store interface {
	name() string
	// load returns the marks of the partitions, in their order.
	load(ctx context.Context, partitions []int) ([]mark, error)
	// apply folds the events, of wanted types and decoded, and moves the marks of their partitions. It returns
	// errMoved when a mark is not where it was thought to be, a *faultError when the events are to blame, and
	// another error when the store is. In Redis other partitions may have been applied all the same: whoever gets
	// an error loads the checkpoints again.
	apply(ctx context.Context, moves []move, events []es.Event, bulk bool) error
}

// errMoved says that somebody else has moved a checkpoint, or that the store has lost it.
var errMoved = errors.New("the checkpoint is not where it was left")

// errGone says that the generation does not exist any more.
var errGone = errors.New("the generation has been dropped")

// faultError says that folding failed because of the events, not because of a server.
type faultError struct {
	err   error
	stack string // of a panic
}

func (e *faultError) Error() string { return e.err.Error() }
func (e *faultError) Unwrap() error { return e.err }

func isFault(err error) bool {
	_, ok := errors.AsType[*faultError](err)
	return ok
}

// guarded turns a panic of a projection's code into an error: a bug stops one partition, not the process.
func guarded(f func() error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = &faultError{err: fmt.Errorf("panic: %v", r), stack: string(debug.Stack())}
		}
	}()
	return f()
}
