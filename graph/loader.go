package graph

import (
	"context"
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
	announced []K
	loaded    map[K]loaded[V]
}

type loaded[V any] struct {
	value V
	err   error
	// ready is false for a key that was announced and not read yet.
	ready bool
}

// announce says that keys may be needed.
func (l *loader[K, V]) announce(keys ...K) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note(keys)
}

func (l *loader[K, V]) note(keys []K) {
	if l.loaded == nil {
		l.loaded = make(map[K]loaded[V], len(keys))
	}
	for _, k := range keys {
		if _, known := l.loaded[k]; !known {
			l.loaded[k] = loaded[V]{}
			l.announced = append(l.announced, k)
		}
	}
}

// prime gives the value of a key that is known already.
func (l *loader[K, V]) prime(key K, value V) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note([]K{key})
	l.loaded[key] = loaded[V]{value: value, ready: true}
}

// load returns the value of a key, and reads it together with all keys that were announced if it is not there yet.
func (l *loader[K, V]) load(ctx context.Context, key K) (V, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.note([]K{key})
	if !l.loaded[key].ready {
		l.read(ctx)
	}
	found := l.loaded[key]
	return found.value, found.err
}

func (l *loader[K, V]) read(ctx context.Context) {
	keys := make([]K, 0, len(l.announced))
	for _, k := range l.announced {
		if !l.loaded[k].ready {
			keys = append(keys, k)
		}
	}
	l.announced = nil
	for len(keys) > 0 {
		batch := keys[:min(len(keys), batchSize)]
		keys = keys[len(batch):]
		values, err := l.fetch(ctx, batch)
		for i, k := range batch {
			if err != nil {
				l.loaded[k] = loaded[V]{err: err, ready: true}
			} else {
				l.loaded[k] = loaded[V]{value: values[i], ready: true}
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
