package projector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
)

// List is [Models.Query] for a list that a crowd asks for: while it is being read, those who come ask for it once, all together, as soon as that is done. Nobody
// gets what was read before he came, nor what does not show his position: who asks for more than the others waits for it on his own. What collect returns is
// theirs together: it depends on nothing but the rows, and nobody changes it.
func List[T any](ctx context.Context, m *Models, need Need, sql string, args []any, collect func(pgx.Rows) (T, error)) (list T, err error) {
	alone := func() (list T, err error) {
		err = m.Query(ctx, need, sql, args, func(rows pgx.Rows) (err error) {
			list, err = collect(rows)
			return err
		})
		return list, err
	}
	values, err := json.Marshal(args)
	if err != nil || len(need.Streams) > 0 || sourcesFrom(ctx) != nil { // with sources it is read for many already
		return alone()
	}
	q, err := m.newQuery(ctx, need, statement{sql: sql, args: args})
	if err != nil {
		return list, err
	}
	waiting := ctx
	if q.position > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithDeadline(ctx, m.deadline(ctx, q.began))
		defer cancel()
		if q.required, err = q.require(waiting, need.Projections, q.position, nil); err != nil {
			return alone()
		}
	}
	key := fmt.Sprint(reflect.TypeFor[T](), need.Projections, "\n", sql, "\n", string(values))
	r := m.lists.join(ctx, key, func(ctx context.Context, r *listRead) error {
		shared, err := m.newQuery(es.WithPosition(ctx, 0), need, statement{sql, args, func(rows pgx.Rows) (err error) {
			r.list, err = collect(rows)
			return err
		}})
		if err == nil {
			err = shared.until(ctx, time.Now().Add(m.o.Wait))
			r.found = shared.found
		}
		return err
	})
	select {
	case <-r.done:
	case <-waiting.Done():
	}
	if m.lists.leave(key, r); ctx.Err() != nil {
		return list, ctx.Err()
	}
	if waiting.Err() != nil || q.position > 0 && errors.Is(r.err, ErrStale) {
		return alone() // which says what is late
	}
	if r.panicked != "" {
		panic(r.panicked) // the caller's affair, as if it had read alone
	}
	if r.err != nil {
		return list, r.err
	}
	if _, err := q.judge(r.found); err != nil {
		return alone() // it is not far enough, or cannot get there
	}
	if q.position > 0 {
		q.waited = max(0, r.began.Sub(q.began))
		q.observe(nil)
	}
	return r.list.(T), nil
}

// turnover is how long a read of a list waits for the one before, which may hang.
const turnover = 10 * time.Millisecond

// listReads are the lists that are being read, or are going to be.
type listReads struct {
	mu     sync.Mutex
	newest map[string]*listRead // by what is read
}

// listRead is one read of a list. What came of it is there when done is closed.
type listRead struct {
	done     chan struct{}
	cancel   context.CancelFunc
	list     any
	found    map[string]seen
	err      error
	panicked string // what, and where; "": it has not

	// Guarded by the mutex of listReads.
	waiting int
	begun   bool
	began   time.Time
}

// join returns a read that has not begun yet, and begins soon; who has it leaves it. Read fills in what it finds.
func (l *listReads) join(ctx context.Context, key string, read func(context.Context, *listRead) error) *listRead {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.newest[key]
	if before != nil && !before.begun {
		before.waiting++
		return before
	}
	if l.newest == nil {
		l.newest = make(map[string]*listRead)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // the others wait when this one goes away
	r := &listRead{done: make(chan struct{}), cancel: cancel, waiting: 1}
	l.newest[key] = r
	go l.run(ctx, key, r, before, read)
	return r
}

// leave gives a read up. With the last one who waits for it, it ends: leave returns when it has.
func (l *listReads) leave(key string, r *listRead) {
	l.mu.Lock()
	r.waiting--
	last := r.waiting == 0
	if last && !r.begun {
		l.forget(key, r) // nobody is to join it any more
	}
	l.mu.Unlock()
	if last {
		r.cancel()
		<-r.done
	}
}

func (l *listReads) forget(key string, r *listRead) {
	if l.newest[key] == r {
		delete(l.newest, key)
	}
}

// run reads once the read before is done, or takes long.
func (l *listReads) run(ctx context.Context, key string, r, before *listRead, read func(context.Context, *listRead) error) {
	defer r.cancel()
	defer func() {
		if p := recover(); p != nil {
			r.panicked = fmt.Sprintf("%v\n%s", p, debug.Stack())
		}
		l.mu.Lock()
		l.forget(key, r)
		l.mu.Unlock()
		close(r.done)
	}()
	if before != nil {
		late := time.NewTimer(time.Until(before.began.Add(turnover)))
		defer late.Stop()
		select {
		case <-before.done:
		case <-late.C:
		case <-ctx.Done():
		}
	}
	l.mu.Lock()
	r.begun, r.began = true, time.Now()
	l.mu.Unlock()
	if r.err = ctx.Err(); r.err == nil {
		r.err = read(ctx, r)
	}
}
