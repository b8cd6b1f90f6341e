// Package admission decides which work a process takes while there is more of it than can be done: so many at once as keeps the work
// quick, the urgent first, a few in a short queue, and the rest refused at once.
package admission

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/prometheus/client_golang/prometheus"
)

// ErrOverloaded is returned for work that is over the limit, and would be for the next moments.
var ErrOverloaded = errors.New("admission: more work than is accepted")

// Class is a kind of work.
type Class struct {
	// Name is what metrics call it.
	Name string
	// Share is the part of the limit, above 0 and at most 1, that this class and all the less urgent ones may hold together. Where it is
	// below 1, they cannot fill the process with work that is stuck.
	Share float64
	// Queue is how many may wait for a slot; 0 for none. A queue is for bursts: while the class has to refuse work it has an eighth of it,
	// since one that never empties gains nothing and makes everybody late.
	Queue int
	// Wait is how long they wait at most.
	Wait time.Duration
}

// Options are the settings of a Limiter.
type Options struct {
	// Classes are the kinds of work, the most urgent first.
	Classes []Class
	// Min, Initial and Max bound how many may be at work at once. In between the limit follows the time that they take: it goes down while
	// that grows, and up while it does not.
	Min, Initial, Max int
	// Metrics registers the limiter's metrics; nil keeps them out of sight.
	Metrics prometheus.Registerer
}

func (o Options) check() error {
	if o.Min < 1 || o.Initial < o.Min || o.Max < o.Initial {
		return fmt.Errorf("admission: the limits %d, %d and %d must be above zero and not decrease", o.Min, o.Initial, o.Max)
	}
	if len(o.Classes) == 0 {
		return errors.New("admission: there are no classes")
	}
	for _, c := range o.Classes {
		if !(c.Share > 0 && c.Share <= 1) || c.Queue < 0 {
			return fmt.Errorf("admission: the class %s has a share of %v and a queue of %d", c.Name, c.Share, c.Queue)
		}
	}
	return nil
}

const (
	// headroom is how far the limit may be above what was in flight at once: a limit that nothing comes near to tells nothing.
	headroom = 5
	// fairTurn says that one free slot in so many goes to who has waited longest, however urgent others are: no class starves.
	fairTurn = 8
	// crowded is for how long a class counts as overloaded after it refused one, and standing the part of its queue that it has then.
	crowded  = time.Second
	standing = 8
)

// Limiter lets work in. The zero Limiter is not usable; see New.
//
// The limit itself is that of failsafe-go's adaptive limiter. Its own queue is first in, first out for all priorities, and its prioritizer
// compares only what arrives, as of its last calibration; so the queues are here.
type Limiter struct {
	adaptive adaptivelimiter.AdaptiveLimiter[any]
	metrics  metrics

	mu      sync.Mutex
	classes []*class
	turns   int
}

// class is the state of a Class.
type class struct {
	Class
	held    int
	waiting list.List // of *waiter, the newest last
	refused time.Time // when it last refused one
}

type waiter struct {
	since time.Time
	// ready is closed when permit is set.
	ready  chan struct{}
	permit adaptivelimiter.Permit
}

// New returns a limiter for the process.
func New(o Options) (*Limiter, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	l := &Limiter{adaptive: adaptivelimiter.NewBuilder[any]().
		WithLimits(uint(o.Min), uint(o.Max), uint(o.Initial)).
		// A quiet night must not take away what the morning's crowd needs: an idle limiter stays at its initial limit.
		WithMaxLimitFunc(func(inFlight int) float64 { return float64(max(o.Initial, headroom*inFlight)) }).
		Build()}
	for _, c := range o.Classes {
		l.classes = append(l.classes, &class{Class: c})
	}
	l.metrics = newMetrics(l, o.Metrics)
	return l, nil
}

// Acquire returns a slot for work of a class, an index into Options.Classes. It waits while others are at work, if its class has room to
// wait, and returns ErrOverloaded where it has not or no slot came free in time, or the error of ctx.
func (l *Limiter) Acquire(ctx context.Context, class int) (*Slot, error) {
	c := l.classes[class]
	l.mu.Lock()
	if permit, ok := l.take(class); ok {
		l.mu.Unlock()
		return &Slot{limiter: l, class: c, permit: permit}, nil
	}
	if c.waiting.Len() >= c.queue() {
		c.refused = time.Now()
		l.mu.Unlock()
		l.metrics.refused.WithLabelValues(c.Name, "full").Inc()
		return nil, ErrOverloaded
	}
	w := &waiter{since: time.Now(), ready: make(chan struct{})}
	place := c.waiting.PushBack(w)
	l.mu.Unlock()

	err := wait(ctx, w.ready, c.Wait)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.metrics.waited.WithLabelValues(c.Name).Observe(time.Since(w.since).Seconds())
	if w.permit != nil { // also when it came in the last moment
		return &Slot{limiter: l, class: c, permit: w.permit}, nil
	}
	c.waiting.Remove(place)
	if errors.Is(err, ErrOverloaded) {
		c.refused = time.Now()
		l.metrics.refused.WithLabelValues(c.Name, "waited").Inc()
	}
	return nil, err
}

func wait(ctx context.Context, ready <-chan struct{}, most time.Duration) error {
	t := time.NewTimer(most)
	defer t.Stop()
	select {
	case <-ready:
		return nil
	case <-t.C:
		return ErrOverloaded
	case <-ctx.Done():
		return ctx.Err()
	}
}

// take gives what arrives a slot, unless somebody as urgent waits for one.
func (l *Limiter) take(class int) (adaptivelimiter.Permit, bool) {
	for _, c := range l.classes[:class+1] {
		if c.waiting.Len() > 0 {
			return nil, false
		}
	}
	if !l.room(class) {
		return nil, false
	}
	permit, ok := l.adaptive.TryAcquirePermit()
	if ok {
		l.classes[class].held++
	}
	return permit, ok
}

// room reports whether work of the class stays within its own share and within those of all more urgent classes, which it counts in too.
func (l *Limiter) room(class int) bool {
	limit := float64(l.adaptive.Limit())
	held := 0
	for i := len(l.classes) - 1; i >= 0; i-- {
		held += l.classes[i].held
		if i <= class && held >= int(math.Ceil(l.classes[i].Share*limit)) {
			return false
		}
	}
	return true
}

// dispatch hands free slots to those who wait.
func (l *Limiter) dispatch() {
	for {
		class := l.next()
		if class < 0 {
			return
		}
		permit, ok := l.adaptive.TryAcquirePermit()
		if !ok {
			return
		}
		l.turns++
		c := l.classes[class]
		c.held++
		w := c.waiting.Remove(c.waiting.Front()).(*waiter)
		w.permit = permit
		close(w.ready)
	}
}

// next returns the class whose turn it is, -1 if nobody waits who may go in.
func (l *Limiter) next() int {
	fair := l.turns%fairTurn == fairTurn-1
	next := -1
	var oldest time.Time
	for i, c := range l.classes {
		if c.waiting.Len() == 0 || !l.room(i) {
			continue
		}
		since := c.waiting.Front().Value.(*waiter).since
		if next < 0 || fair && since.Before(oldest) {
			next, oldest = i, since
		}
	}
	return next
}

// queue returns how many of the class may wait now.
func (c *class) queue() int {
	if time.Since(c.refused) < crowded {
		return (c.Queue + standing - 1) / standing
	}
	return c.Queue
}

// Slot is the right to be at work. It is to be released exactly once.
type Slot struct {
	limiter *Limiter
	class   *class
	permit  adaptivelimiter.Permit
}

// Release makes room for others. Completed says that the work came to its end by itself, so that the time it took tells how busy the
// process is; work that failed or was given up is no measure.
func (s *Slot) Release(completed bool) {
	l := s.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	s.class.held--
	if completed {
		s.permit.Record()
	} else {
		s.permit.Drop()
	}
	l.dispatch()
}
