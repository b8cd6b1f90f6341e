package graph

import (
	"context"
	"errors"
	"sync"
)

// batchSize is how many keys a reader is given at once.
const batchSize = 500

// loader reads values by key for one operation, each once and many together.
//
// Lists are resolved by one goroutine, element after element, so that waiting a moment for more keys to come, as loaders
// do, would find none: each element would be a query of its own. Here whoever makes the objects announces what
// they may need, which costs nothing, and the first that really needs one of them has all read together.
type loader[K comparable, V any] struct {
	fetch func(ctx context.Context, keys []K) ([]V, error)

	mu        sync.Mutex
	announced []K // since the last reading; keys may stand there twice
	loaded    map[K]loaded[V]
}

type loaded[V any] struct {
	value V
	err   error
}

// errUnread is what there is of a key whose reading was broken off.
var errUnread = errors.New("graph: it was not read to the end")

// announce says that keys may be needed.
func (l *loader[K, V]) announce(keys ...K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.announced = append(l.announced, keys...)
}

// prime gives the value of a key that is known already.
func (l *loader[K, V]) prime(key K, value V) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keep(key, loaded[V]{value: value})
}

func (l *loader[K, V]) keep(key K, value loaded[V]) {
	if l.loaded == nil {
		l.loaded = make(map[K]loaded[V], len(l.announced)+1)
	}
	l.loaded[key] = value
}

// load returns the value of a key, and reads it together with all keys that were announced if it is not there yet.
func (l *loader[K, V]) load(ctx context.Context, key K) (V, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.loaded[key]; !known {
		l.read(ctx, key)
	}
	found := l.loaded[key]
	return found.value, found.err
}

// read reads the key, and what was announced and has not been read.
func (l *loader[K, V]) read(ctx context.Context, key K) {
	keys := make([]K, 0, len(l.announced)+1)
	for _, k := range append(l.announced, key) {
		if _, known := l.loaded[k]; !known {
			keys = append(keys, k)
			l.keep(k, loaded[V]{err: errUnread}) // it may have been announced twice
		}
	}
	l.announced = nil
	for len(keys) > 0 {
		batch := keys[:min(len(keys), batchSize)]
		keys = keys[len(batch):]
		values, err := l.fetch(ctx, batch)
		for i, k := range batch {
			if err != nil {
				l.keep(k, loaded[V]{err: err})
			} else {
				l.keep(k, loaded[V]{value: values[i]})
			}
		}
	}
}

// forget drops everything that was read or announced.
func (l *loader[K, V]) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.announced, l.loaded = nil, nil
}
