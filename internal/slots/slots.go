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
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/es"
)

const (
	// timeout bounds one round trip: whoever asks has another way.
	timeout = 100 * time.Millisecond
	// leftAlone is how long Redis is not asked after it did not answer.
	leftAlone = time.Second
)

// KeyBytes is the length of a key, a hash.
const KeyBytes = 32

// Options describe a table. All but Logger are needed.
type Options struct {
	Redis redis.UniversalClient
	// Info names the log: tables of different logs, and epochs, have nothing to do with one another.
	Info es.Log
	// Name tells the tables of a log apart.
	Name string
	// Bytes bounds the memory of all values together, and ValueBytes the length of one.
	Bytes, ValueBytes int
	// TTL is how long a value is there at most.
	TTL time.Duration
	// Logger is nil for slog.Default.
	Logger *slog.Logger
}

// Table is a table in Redis.
type Table struct {
	o         Options
	prefix    string
	places    uint64
	downUntil atomic.Int64 // Unix nanoseconds
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
		o: o, prefix: fmt.Sprintf("mr:%s.%d:%s.", id, o.Info.Epoch, o.Name), places: uint64(o.Bytes / o.ValueBytes),
	}, nil
}

// place is the name of a key's place.
func (t *Table) place(key [KeyBytes]byte) string {
	return fmt.Sprintf("%s%d", t.prefix, binary.BigEndian.Uint64(key[:8])%t.places)
}

// Get returns what was put under a key if it is still there and Redis says so at once.
func (t *Table) Get(ctx context.Context, key [KeyBytes]byte) ([]byte, bool) {
	if t.down() {
		return nil, false
	}
	asking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	value, err := t.o.Redis.Get(asking, t.place(key)).Bytes()
	if err != nil {
		t.failed(ctx, err)
		return nil, false
	}
	return bytes.CutPrefix(value, key[:])
}

// Put puts a value under a key, unless it is too long or Redis cannot take it at once.
func (t *Table) Put(ctx context.Context, key [KeyBytes]byte, value []byte) {
	if len(value) > t.o.ValueBytes || t.down() {
		return
	}
	asking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := t.o.Redis.Set(asking, t.place(key), append(key[:], value...), t.o.TTL).Err(); err != nil {
		t.failed(ctx, err)
	}
}

func (t *Table) down() bool { return time.Now().UnixNano() < t.downUntil.Load() }

func (t *Table) failed(ctx context.Context, err error) {
	if errors.Is(err, redis.Nil) || ctx.Err() != nil {
		return
	}
	t.downUntil.Store(time.Now().Add(leftAlone).UnixNano())
	t.o.Logger.WarnContext(ctx, "Redis cannot be asked for what processes share", "table", t.o.Name, "error", err)
}
