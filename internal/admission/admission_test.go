package admission_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/millrace/millrace/internal/admission"
)

const (
	urgent = iota
	normal
	idle
)

// limiter is one whose limit stays where it is.
func limiter(t *testing.T, limit int, classes ...admission.Class) *admission.Limiter {
	t.Helper()
	if len(classes) == 0 {
		for _, name := range []string{"urgent", "normal", "idle"} {
			classes = append(classes, admission.Class{Name: name, Share: 1, Queue: 20, Wait: time.Second})
		}
	}
	l, err := admission.New(admission.Options{Classes: classes, Min: limit, Initial: limit, Max: limit})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func acquire(t *testing.T, l *admission.Limiter, class int) *admission.Slot {
	t.Helper()
	slot, err := l.Acquire(t.Context(), class)
	if err != nil {
		t.Fatal(err)
	}
	return slot
}

// arrivals are those who wait for a slot, and who got one, in order.
type arrivals struct {
	t   *testing.T
	l   *admission.Limiter
	mu  sync.Mutex
	got []string
	wg  sync.WaitGroup
}

// arrive has work of a class come, and let the next one in as soon as it is let in itself.
func (a *arrivals) arrive(name string, class int) {
	a.wg.Go(func() {
		slot, err := a.l.Acquire(a.t.Context(), class)
		if errors.Is(err, admission.ErrOverloaded) {
			name += " refused"
		} else if err != nil {
			a.t.Error(err)
		}
		a.mu.Lock()
		a.got = append(a.got, name)
		a.mu.Unlock()
		if slot != nil {
			slot.Release(true)
		}
	})
	synctest.Wait() // it is in, refused, or in the queue
	time.Sleep(time.Millisecond)
}

func (a *arrivals) ended() string {
	a.wg.Wait()
	return strings.Join(a.got, " ")
}

// TestOrder checks who is let in while the one slot is taken, and then comes free.
func TestOrder(t *testing.T) {
	for name, c := range map[string]struct {
		arrive []string // by the initial of the class
		queue  int
		want   string
	}{
		"the urgent first":                          {[]string{"i1", "n1", "u1"}, 20, "u1 n1 i1"},
		"in order within a class":                   {[]string{"n1", "n2", "u1", "n3"}, 20, "u1 n1 n2 n3"},
		"one in eight by waiting time":              {[]string{"i1", "u1", "u2", "u3", "u4", "u5", "u6", "u7", "u8", "u9"}, 20, "u1 u2 u3 u4 u5 u6 u7 i1 u8 u9"},
		"over the queue is refused at once":         {[]string{"n1", "n2", "n3", "u1"}, 2, "n3 refused u1 n1 n2"},
		"while some are refused the queue is short": {[]string{"u1", "u2", "u3", "n1", "n2", "u4"}, 2, "u3 refused u4 refused u1 u2 n1 n2"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var classes []admission.Class
				for _, name := range []string{"urgent", "normal", "idle"} {
					classes = append(classes, admission.Class{Name: name, Share: 1, Queue: c.queue, Wait: time.Second})
				}
				a := &arrivals{t: t, l: limiter(t, 1, classes...)}
				taken := acquire(t, a.l, idle)
				for _, name := range c.arrive {
					a.arrive(name, strings.Index("uni", name[:1]))
				}
				taken.Release(true)
				if got := a.ended(); got != c.want {
					t.Errorf("got in: %s", got)
				}
			})
		})
	}
}

// TestWait checks that nobody waits longer than their class has patience, or than they want to.
func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, 1, admission.Class{Name: "patient", Share: 1, Queue: 1, Wait: 50 * time.Millisecond}, admission.Class{Name: "queueless", Share: 1})
		taken := acquire(t, l, 0)
		began := time.Now()
		if _, err := l.Acquire(t.Context(), 0); !errors.Is(err, admission.ErrOverloaded) || time.Since(began) != 50*time.Millisecond {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		began = time.Now()
		if _, err := l.Acquire(t.Context(), 1); !errors.Is(err, admission.ErrOverloaded) || time.Since(began) != 0 {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if _, err := l.Acquire(ctx, 0); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("who has gone: %v", err)
		}
		taken.Release(false)
		acquire(t, l, 0).Release(true) // nothing was lost on the way
	})
}

// TestRefuse checks that what would be refused at once is known before, and nothing else.
func TestRefuse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, 1, admission.Class{Name: "urgent", Share: 1, Queue: 1, Wait: time.Second}, admission.Class{Name: "normal", Share: 1, Queue: 1, Wait: time.Second})
		if l.Refuse(0) || l.Refuse(1) {
			t.Error("work was refused by who has nothing to do")
		}
		taken := acquire(t, l, 0)
		if l.Refuse(1) {
			t.Error("work was refused that could have waited")
		}
		a := &arrivals{t: t, l: l}
		a.arrive("first", 1)
		if !l.Refuse(1) || l.Refuse(0) {
			t.Error("the class whose queue is full was not refused, or another was")
		}
		taken.Release(true)
		a.wg.Wait()
		if l.Refuse(1) {
			t.Error("work was refused after the queue had gone")
		}
	})
}

// TestShare checks that what is less urgent leaves room for what is more.
func TestShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := limiter(t, 10,
			admission.Class{Name: "urgent", Share: 1}, admission.Class{Name: "normal", Share: 0.7}, admission.Class{Name: "idle", Share: 0.2})
		var got []int
		for _, class := range []int{idle, normal, urgent} {
			n := 0
			for ; ; n++ {
				if _, err := l.Acquire(t.Context(), class); err != nil {
					break
				}
			}
			got = append(got, n)
		}
		if !slices.Equal(got, []int{2, 5, 3}) {
			t.Errorf("let in: %v", got)
		}
	})
}

// TestOverload offers five times what can be done, in pauses that nobody waits for: as much as can be is done, it takes about as long as
// without the crowd, and nearly all of the others hear no at once.
func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const (
			limit   = 4
			work    = 20 * time.Millisecond
			every   = work / limit / 5
			offered = 5_000
		)
		l := limiter(t, limit, admission.Class{Name: "urgent", Share: 1, Queue: limit, Wait: 250 * time.Millisecond})
		var mu sync.Mutex
		var done, refused []time.Duration
		var wg sync.WaitGroup
		began := time.Now()
		for range offered {
			wg.Go(func() {
				came := time.Now()
				slot, err := l.Acquire(t.Context(), urgent)
				if err == nil {
					time.Sleep(work)
					slot.Release(true)
				}
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					done = append(done, time.Since(came))
				} else {
					refused = append(refused, time.Since(came))
				}
			})
			time.Sleep(every)
		}
		wg.Wait()
		slices.Sort(done)
		slices.Sort(refused)
		could := int(time.Since(began) / work * limit)
		t.Logf("%d done of %d, p99 %s; %d refused, median %s", len(done), could, done[len(done)*99/100], len(refused), refused[len(refused)/2])
		if len(done) < could*95/100 {
			t.Errorf("%d were done of %d", len(done), could)
		}
		if p99 := done[len(done)*99/100]; p99 > 3*work {
			t.Errorf("the p99 of what was done is %s; alone it takes %s", p99, work)
		}
		if median := refused[len(refused)/2]; median >= 10*time.Millisecond {
			t.Errorf("the median of what was refused is %s", median)
		}
	})
}

// TestAdapts checks that the limit goes down while work takes ever longer because there is so much of it, and comes back.
func TestAdapts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		l, err := admission.New(admission.Options{
			Classes: []admission.Class{{Name: "all", Share: 1, Queue: 100, Wait: time.Second}}, Min: 4, Initial: 40, Max: 80, Metrics: registry,
		})
		if err != nil {
			t.Fatal(err)
		}
		limit := func() float64 { return gauge(t, registry, "millrace_admission_limit") }
		slow := time.Duration(1)
		run := func(callers int, d time.Duration) {
			var wg sync.WaitGroup
			for end := time.Now().Add(d); callers > 0; callers-- {
				wg.Go(func() {
					for time.Now().Before(end) {
						slot, err := l.Acquire(t.Context(), 0)
						if err != nil {
							t.Error(err)
							return
						}
						time.Sleep(slow*10*time.Millisecond + rand.N(time.Millisecond))
						slot.Release(true)
					}
				})
			}
			wg.Wait()
		}
		run(8, 20*time.Second)
		quiet := limit()
		slow = 20
		run(60, 10*time.Second)
		busy := limit()
		slow = 1
		run(8, 60*time.Second)
		t.Logf("the limit was %v, under load %v, and then %v", quiet, busy, limit())
		if quiet < 40 || busy >= quiet || limit() <= busy {
			t.Errorf("the limit was %v, under load %v, and then %v", quiet, busy, limit())
		}
	})
}

func gauge(t *testing.T, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// TestCrowd has many come and go at once, and checks that no slot is lost or given twice.
func TestCrowd(t *testing.T) {
	l := limiter(t, 5)
	var mu sync.Mutex
	var wg sync.WaitGroup
	in := 0
	for range 40 {
		wg.Go(func() {
			for range 200 {
				ctx, cancel := context.WithTimeout(t.Context(), rand.N(time.Millisecond))
				slot, err := l.Acquire(ctx, rand.IntN(3))
				cancel()
				if err != nil {
					continue
				}
				mu.Lock()
				if in++; in > 5 {
					t.Errorf("%d are in", in)
				}
				mu.Unlock()
				mu.Lock()
				in--
				mu.Unlock()
				slot.Release(rand.IntN(2) == 0)
			}
		})
	}
	wg.Wait()
	for range 5 {
		acquire(t, l, idle)
	}
}

// TestMetrics checks what operators see.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		registry := prometheus.NewRegistry()
		l, err := admission.New(admission.Options{
			Classes: []admission.Class{{Name: "buy", Share: 1, Queue: 1, Wait: time.Second}, {Name: "look", Share: 1}}, Min: 1, Initial: 1, Max: 1, Metrics: registry,
		})
		if err != nil {
			t.Fatal(err)
		}
		taken := acquire(t, l, 0)
		var wg sync.WaitGroup
		wg.Go(func() { acquire(t, l, 0).Release(true) })
		synctest.Wait()
		if _, err := l.Acquire(t.Context(), 1); err == nil {
			t.Error("more than the limit were let in")
		}
		if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP millrace_admission_in_flight Operations at work.
# TYPE millrace_admission_in_flight gauge
millrace_admission_in_flight{priority="buy"} 1
millrace_admission_in_flight{priority="look"} 0
# HELP millrace_admission_limit How many operations may be at work at once.
# TYPE millrace_admission_limit gauge
millrace_admission_limit 1
# HELP millrace_admission_queued Operations that wait to be let in.
# TYPE millrace_admission_queued gauge
millrace_admission_queued{priority="buy"} 1
millrace_admission_queued{priority="look"} 0
# HELP millrace_admission_refused_total Operations refused because there was too much to do: the queue was full, or they had waited in vain.
# TYPE millrace_admission_refused_total counter
millrace_admission_refused_total{priority="buy",reason="full"} 0
millrace_admission_refused_total{priority="buy",reason="waited"} 0
millrace_admission_refused_total{priority="look",reason="full"} 1
millrace_admission_refused_total{priority="look",reason="waited"} 0
`), "millrace_admission_limit", "millrace_admission_in_flight", "millrace_admission_queued", "millrace_admission_refused_total"); err != nil {
			t.Error(err)
		}
		taken.Release(true)
		wg.Wait()
	})
}

// TestPatience checks that those who wait longer than is bearable while some are refused are turned away, those too who came before.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const patience = 10 * time.Millisecond
		l := limiter(t, 1, admission.Class{Name: "normal", Share: 1, Queue: 2, Wait: time.Second, Patience: patience})
		taken := acquire(t, l, 0)
		a := &arrivals{t: t, l: l}
		a.arrive("first", 0)
		a.arrive("second", 0)
		a.arrive("third", 0) // is one too many
		time.Sleep(2 * patience)
		taken.Release(true)
		if got := a.ended(); got != "third refused first refused second refused" && got != "third refused second refused first refused" {
			t.Errorf("got in: %s", got)
		}
		time.Sleep(2 * time.Second) // nobody has been refused for long
		taken = acquire(t, l, 0)
		a.arrive("fourth", 0)
		time.Sleep(2 * patience)
		taken.Release(true)
		if got := a.ended(); !strings.HasSuffix(got, " fourth") {
			t.Errorf("got in: %s", got)
		}
	})
}

// TestStrained checks that no more of a class are let in than there are processors while the process is late, and the others as soon as it is not, whether or
// not somebody leaves.
func TestStrained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		strain := atomic.Int64{}
		few := runtime.GOMAXPROCS(0)
		l, err := admission.New(admission.Options{
			Classes: []admission.Class{
				{Name: "urgent", Share: 1, Queue: 1, Wait: time.Second},
				{Name: "idle", Share: 1, Queue: 1, Wait: time.Second, Strain: 3 * time.Millisecond},
			},
			Min: 4 * few, Initial: 4 * few, Max: 4 * few, Strain: func() time.Duration { return time.Duration(strain.Load()) },
		})
		if err != nil {
			t.Fatal(err)
		}
		strain.Store(int64(4 * time.Millisecond))
		for range few {
			acquire(t, l, 1)
		}
		acquire(t, l, 0)
		began := time.Now()
		var waited sync.WaitGroup
		waited.Go(func() { acquire(t, l, 1) })
		synctest.Wait()
		if _, err := l.Acquire(t.Context(), 1); !errors.Is(err, admission.ErrOverloaded) {
			t.Errorf("more than %d were let in: %v", few, err)
		}
		time.Sleep(100 * time.Millisecond)
		strain.Store(int64(3 * time.Millisecond))
		waited.Wait()
		if took := time.Since(began); took < 100*time.Millisecond || took > 200*time.Millisecond {
			t.Errorf("who waited got in after %s", took)
		}
	})
}

// TestStrain checks that a process with more to do than processors is found to be late, and one that has become idle is not.
func TestStrain(t *testing.T) {
	s, err := admission.NewStrain(nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer running.Wait()
	defer cancel()
	lateness := func(enough func(time.Duration) bool) (late time.Duration) {
		for began := time.Now(); time.Since(began) < 30*time.Second; runtime.Gosched() {
			if late = s.Now(); enough(late) {
				return late
			}
		}
		t.Errorf("it says that it is %s late", late)
		return late
	}
	busy := atomic.Bool{}
	busy.Store(true)
	var spinning sync.WaitGroup
	for range 8 * runtime.GOMAXPROCS(0) {
		spinning.Go(func() {
			for busy.Load() {
			}
		})
	}
	late := lateness(func(late time.Duration) bool { return late >= 5*time.Millisecond })
	busy.Store(false)
	spinning.Wait()
	t.Logf("busy, it is %s late; idle, %s", late, lateness(func(now time.Duration) bool { return now < late/2 }))
}

// TestOptions checks that settings without sense are refused.
func TestOptions(t *testing.T) {
	good := admission.Class{Name: "good", Share: 1}
	for name, o := range map[string]admission.Options{
		"no classes": {Min: 1, Initial: 1, Max: 1},
		"no limit":   {Classes: []admission.Class{good}},
		"decreasing": {Classes: []admission.Class{good}, Min: 2, Initial: 1, Max: 3},
		"no share":   {Classes: []admission.Class{{Name: "bad"}}, Min: 1, Initial: 1, Max: 1},
		"too large":  {Classes: []admission.Class{{Name: "bad", Share: 1.1}}, Min: 1, Initial: 1, Max: 1},
	} {
		if _, err := admission.New(o); err == nil || !strings.HasPrefix(fmt.Sprint(err), "admission: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
