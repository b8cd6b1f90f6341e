// Package admission decides which work a process takes while there is more of it than can be done: so many at once as keeps the work
// quick, the urgent first, a few in a short queue, and the rest refused at once.
package admission

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
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
	// Queue is how many may wait for a slot; 0 for none. A queue is for bursts: while the class has to refuse work it has one place in 64,
	// since one that never empties gains nothing and makes everybody late.
	Queue int
	// Wait is how long they wait at most, and Patience how long while the class has to refuse work; 0 means Wait.
	Wait, Patience time.Duration
	// Strain is up to what strain of the process (see Options) more of this class are let in than there are processors; 0 for any. What makes the process
	// late makes everybody late, those too who are to be refused.
	Strain time.Duration
}

// Options are the settings of a Limiter.
type Options struct {
	// Classes are the kinds of work, the most urgent first.
	Classes []Class
	// Min, Initial and Max bound how many may be at work at once. In between the limit follows the time that they take: it goes down while
	// that grows, and up while it does not.
	Min, Initial, Max int
	// Strain tells how far behind the process is; see [Strain.Now]. It may be nil, for never.
	Strain func() time.Duration
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
	// window is how often the limit moves, by one or two, if there were windowSamples to go by, and slowWindow how seldom at least: quick
	// enough for a crowd that comes at once.
	window        = 250 * time.Millisecond
	slowWindow    = 10 * time.Second
	windowSamples = 25
	// remembered is of how many windows the limiter remembers how long work took. It must not get used to a crowd while that lasts.
	remembered = 1200
	// fairTurn says that one free slot in so many goes to who has waited longest, however urgent others are: no class starves.
	fairTurn = 8
	// crowded is for how long a class counts as overloaded after it refused one, and standing the part of its queue that it has then.
	crowded  = time.Second
	standing = 64
)

// Limiter lets work in. The zero Limiter is not usable; see New.
//
// The limit itself is that of failsafe-go's adaptive limiter. Its own queue is first in, first out for all priorities, and its prioritizer
// compares only what arrives, as of its last calibration; so the queues are here.
type Limiter struct {
	adaptive adaptivelimiter.AdaptiveLimiter[any]
	strain   func() time.Duration
	metrics  metrics

	// refused is when work was last refused, in nanoseconds of Unix time.
	refused atomic.Int64

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
	// ready is closed when permit is set, or when there will be none.
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
		WithRecentWindow(window, slowWindow, windowSamples).
		WithBaselineWindow(remembered).
		// A quiet night must not take away what the morning's crowd needs: an idle limiter stays at its initial limit.
		WithMaxLimitFunc(func(inFlight int) float64 { return float64(max(o.Initial, headroom*inFlight)) }).
		Build()}
	if l.strain = o.Strain; l.strain == nil {
		l.strain = func() time.Duration { return 0 }
	}
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
		l.noteRefusal(c)
		l.mu.Unlock()
		l.metrics.refused.WithLabelValues(c.Name, "full").Inc()
		return nil, ErrOverloaded
	}
	w := &waiter{since: time.Now(), ready: make(chan struct{})}
	place := c.waiting.PushBack(w)
	patience := c.patience()
	l.mu.Unlock()

	err := l.wait(ctx, w.ready, c, patience)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.metrics.waited.WithLabelValues(c.Name).Observe(time.Since(w.since).Seconds())
	if w.permit != nil { // also when it came in the last moment
		return &Slot{limiter: l, class: c, permit: w.permit}, nil
	}
	c.waiting.Remove(place) // unless it was removed
	if errors.Is(err, ErrOverloaded) {
		l.noteRefusal(c)
		l.metrics.refused.WithLabelValues(c.Name, "waited").Inc()
	}
	return nil, err
}

// Refuse reports whether there is no room for work of a class, neither at work nor in its queue, so that Acquire would refuse it at once. It
// counts that work as refused.
func (l *Limiter) Refuse(class int) bool {
	c := l.classes[class]
	l.mu.Lock()
	full := c.waiting.Len() > 0 && c.waiting.Len() >= c.queue()
	if full {
		l.noteRefusal(c)
	}
	l.mu.Unlock()
	if full {
		l.metrics.refused.WithLabelValues(c.Name, "full").Inc()
	}
	return full
}

// Crowded reports whether work has been refused within the last second.
func (l *Limiter) Crowded() bool { return time.Since(time.Unix(0, l.refused.Load())) < crowded }

// noteRefusal says that a class refuses work now; the caller holds mu.
func (l *Limiter) noteRefusal(c *class) {
	c.refused = time.Now()
	l.refused.Store(c.refused.UnixNano())
}

// wait waits until ready is closed, by who hands out slots or turns away, the patience is over, or ctx is.
func (l *Limiter) wait(ctx context.Context, ready <-chan struct{}, c *class, patience time.Duration) error {
	t := time.NewTimer(patience)
	defer t.Stop()
	var relieved <-chan time.Time // nothing else tells when the strain is over
	if c.Strain > 0 {
		again := time.NewTicker(4 * strainEvery)
		defer again.Stop()
		relieved = again.C
	}
	for {
		select {
		case <-ready:
			return ErrOverloaded // unless there is a permit
		case <-relieved:
			l.mu.Lock()
			l.dispatch()
			l.mu.Unlock()
		case <-t.C:
			return ErrOverloaded
		case <-ctx.Done():
			return ctx.Err()
		}
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
	if c := l.classes[class]; c.Strain > 0 && c.held >= runtime.GOMAXPROCS(0) && l.strain() > c.Strain {
		return false
	}
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
		c.expire()
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

// patience returns how long they may.
func (c *class) patience() time.Duration {
	if c.Patience > 0 && time.Since(c.refused) < crowded {
		return c.Patience
	}
	return c.Wait
}

// expire turns away those who have waited too long, as it is now.
func (c *class) expire() {
	patience := c.patience()
	for front := c.waiting.Front(); front != nil; front = c.waiting.Front() {
		w := front.Value.(*waiter)
		if time.Since(w.since) <= patience {
			return
		}
		c.waiting.Remove(front)
		close(w.ready) // without a permit
	}
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
