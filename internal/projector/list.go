package projector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
)

// List is [Models.Query] for a list that a crowd asks for: while it is being read, those who come ask for it once, all together, as soon as that is done. Nobody
// gets what was read before he came, nor what does not show his position: who asks for more than the others waits for it on his own. What collect returns is
// theirs together, so that nobody may change it.
func List[T any](ctx context.Context, m *Models, need Need, sql string, args []any, collect func(pgx.Rows) (T, error)) (list T, err error) {
	alone := func() (list T, err error) {
		err = m.Query(ctx, need, sql, args, func(rows pgx.Rows) (err error) {
			list, err = collect(rows)
			return err
		})
		return list, err
	}
	key, err := json.Marshal(args)
	if err != nil || len(need.Streams) > 0 || sourcesFrom(ctx) != nil { // with sources it is read for many already
		return alone()
	}
	q, err := m.newQuery(ctx, need, statement{sql: sql, args: args})
	if err != nil {
		return list, err
	}
	if q.position > 0 {
		waiting, cancel := context.WithDeadline(ctx, m.deadline(ctx, q.began))
		defer cancel()
		if q.required, err = q.require(waiting, need.Projections, q.position, nil); err != nil {
			return alone()
		}
	}
	r := m.lists.join(strings.Join(need.Projections, " ")+"\n"+sql+"\n"+string(key), func(r *listRead) error {
		ctx, cancel := detached(ctx)
		defer cancel()
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
	case <-ctx.Done():
	}
	switch {
	case ctx.Err() != nil:
		return list, ctx.Err()
	case errors.Is(r.err, context.DeadlineExceeded): // of the one who came first
		return alone()
	case r.err != nil:
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

// detached returns a context that ends when ctx is to end at the latest, but not when ctx is cancelled.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	still := context.WithoutCancel(ctx)
	if deadline, ok := ctx.Deadline(); ok {
		return context.WithDeadline(still, deadline)
	}
	return still, func() {}
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
	done  chan struct{}
	list  any
	found map[string]seen
	err   error

	begun bool // guarded by the mutex of listReads
	began time.Time
}

// join returns a read that has not begun yet, and begins soon. Read fills in what it finds.
func (l *listReads) join(key string, read func(*listRead) error) *listRead {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.newest[key]
	if before != nil && !before.begun {
		return before
	}
	r := &listRead{done: make(chan struct{})}
	if l.newest == nil {
		l.newest = make(map[string]*listRead)
	}
	l.newest[key] = r
	go l.run(key, r, before, read)
	return r
}

// run reads once the read before is done, or takes long.
func (l *listReads) run(key string, r, before *listRead, read func(*listRead) error) {
	if before != nil {
		late := time.NewTimer(time.Until(before.began.Add(turnover)))
		defer late.Stop()
		select {
		case <-before.done:
		case <-late.C:
		}
	}
	l.mu.Lock()
	r.begun, r.began = true, time.Now()
	l.mu.Unlock()
	defer func() {
		if p := recover(); p != nil { // as of a request: the process goes on
			r.err = fmt.Errorf("projector: reading a list: panic: %v", p)
		}
		l.mu.Lock()
		if l.newest[key] == r {
			delete(l.newest, key)
		}
		l.mu.Unlock()
		close(r.done)
	}()
	r.err = read(r)
}
