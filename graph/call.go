package graph

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"

	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/millrace/millrace/internal/es"
)

// call is what one operation knows beside its own document: who asks, what it has read, what it has done.
type call struct {
	staff       bool
	correlation string
	// name is the operation's name or its root fields, for logs.
	name string

	// mutations is how many mutations it has.
	mutations int
	// keyed says that the request came with an idempotency key, repeatable that each of its mutations has one.
	keyed, repeatable bool
	// asOf is the position of the last mutation's effect if it had a key: its answer shows what was known then. 0 means now.
	asOf int64

	loaders loaders

	// background holds the goroutines of a subscription; the transport waits for them.
	background sync.WaitGroup

	mu       sync.Mutex
	position int64
	// done and refused count mutation fields: refused are those that had no effect because the log was away.
	// conflicts are those whose key belongs to something else.
	done, refused, conflicts int
	failure                  *gqlerror.Error
}

type callKey struct{}

func withCall(ctx context.Context, c *call) context.Context {
	return context.WithValue(ctx, callKey{}, c)
}

// callFrom returns the call of the context. Outside of one, in errors before any operation, it is an empty one.
func callFrom(ctx context.Context) *call {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c
	}
	return &call{correlation: newCorrelation()}
}

func newCorrelation() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// effect notes the position of a mutation's effect.
func (c *call) effect(position int64) *int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
	c.position = max(c.position, position)
	return &position
}

// outcome notes how a mutation that had no effect ended.
func (c *call) outcome(refused bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
	if refused {
		c.refused++
	}
}

// conflict notes a mutation that was refused for its key.
func (c *call) conflict() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.done++
	c.conflicts++
}

// onlyConflicts reports whether every field of a mutation was refused for its key.
func (c *call) onlyConflicts() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done > 0 && c.done == c.conflicts
}

// reached returns the highest position of an effect, 0 for none.
func (c *call) reached() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.position
}

// nothingRan reports whether every field of a mutation was refused because the log was away.
func (c *call) nothingRan() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.done > 0 && c.done == c.refused
}

// fail ends a subscription with an error; the first one counts.
func (c *call) fail(err *gqlerror.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.failure == nil {
		c.failure = err
	}
}

// failed returns what a subscription ended with, nil for a plain end.
func (c *call) failed() *gqlerror.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failure
}

// staffOnly refuses guests.
func staffOnly(ctx context.Context) error {
	if !callFrom(ctx).staff {
		return errForbidden
	}
	return nil
}

// metadata is what events remember of who asked.
func (id identity) metadata() es.Metadata {
	m := es.Metadata{Correlation: id.correlation, Actor: "guest", Trace: id.trace}
	if id.staff {
		m.Actor = "staff"
	}
	return m
}
