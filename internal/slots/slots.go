// Package slots is a table in Redis of a fixed size: every key has one place, which others share, and what was put there last is
// what is there.
//
// It takes no more memory than it was given, whatever is put into it, and it needs no bookkeeping. Nothing may depend on
// what is in it.
package slots

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/breaker"
	"github.com/millrace/millrace/internal/es"
)

// timeout bounds one round trip: whoever asks has another way.
const timeout = 100 * time.Millisecond

// KeyBytes is the length of a key, a hash.
const KeyBytes = 32

// Options describe a table. All but Logger are needed.
type Options struct {
	Redis redis.UniversalClient
	// Info names the log: tables of different logs, and epochs, have nothing to do with one another.
	Info es.Log
	// Name tells the tables of a log apart.
	Name string
	// Variant tells apart what differs from release to release; "" for what does not.
	Variant string
	// Bytes bounds the memory of all values together, and ValueBytes the length of one.
	Bytes, ValueBytes int
	// TTL is how long a value is there at most.
	TTL time.Duration
	// Logger is nil for slog.Default.
	Logger *slog.Logger
	// Metrics registers the metrics of the table's breaker; nil keeps them out of sight.
	Metrics prometheus.Registerer
}

// Table is a table in Redis.
type Table struct {
	o       Options
	prefix  string
	places  uint64
	breaker *breaker.Breaker
}

// New returns the table that the options describe.
func New(o Options) (*Table, error) {
	if o.Redis == nil || o.Name == "" || o.ValueBytes < 1 || o.Bytes < o.ValueBytes || o.TTL <= 0 {
		return nil, errors.New("slots: Redis, Name, Bytes, ValueBytes and TTL are needed")
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	id := o.Info.ID[:min(len(o.Info.ID), 8)]
	return &Table{
		o: o, prefix: fmt.Sprintf("mr:%s.%d:%s%s.", id, o.Info.Epoch, o.Name, o.Variant), places: uint64(o.Bytes / o.ValueBytes),
		breaker: breaker.New(breaker.Options{Name: "redis " + o.Name, Logger: o.Logger, Metrics: o.Metrics}),
	}, nil
}

// place is the name of a key's place.
func (t *Table) place(key [KeyBytes]byte) string {
	return fmt.Sprintf("%s%d", t.prefix, binary.BigEndian.Uint64(key[:8])%t.places)
}

// Get returns what was put under a key if it is still there and Redis says so at once.
func (t *Table) Get(ctx context.Context, key [KeyBytes]byte) ([]byte, bool) {
	if !t.breaker.Allow() {
		return nil, false
	}
	asking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	value, err := t.o.Redis.Get(asking, t.place(key)).Bytes()
	t.ended(ctx, err)
	if err != nil {
		return nil, false
	}
	return bytes.CutPrefix(value, key[:])
}

// Put puts a value under a key, unless it is too long or Redis cannot take it at once.
func (t *Table) Put(ctx context.Context, key [KeyBytes]byte, value []byte) {
	if len(value) > t.o.ValueBytes || !t.breaker.Allow() {
		return
	}
	asking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	t.ended(ctx, t.o.Redis.Set(asking, t.place(key), append(key[:], value...), t.o.TTL).Err())
}

// LeftAlone names the table while Redis is not asked for it, because it did not answer.
func (t *Table) LeftAlone() []string { return t.breaker.LeftAlone() }

// ended tells the breaker how a call has ended.
func (t *Table) ended(ctx context.Context, err error) {
	switch {
	case err == nil, errors.Is(err, redis.Nil):
		t.breaker.Succeeded()
	case ctx.Err() != nil:
		t.breaker.Abandoned()
	default:
		t.breaker.Failed()
		t.o.Logger.WarnContext(ctx, "Redis cannot be asked for what processes share", "table", t.o.Name, "error", err)
	}
}
