package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/devstack/stacktest"
)

// victim is a process to which faults happen.
type victim struct {
	*child
	name      string
	links     map[string]*stacktest.Proxy // by the server behind it
	dismissed bool
}

func (v *victim) role() string { return v.args[0] }

// ended reports whether the process has ended.
func (c *child) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// revive starts a process that was told to end.
func (v *victim) revive() {
	if v.dismissed {
		v.start()
		v.dismissed = false
	}
}

// dismiss has the process end, which it must do well.
func (v *victim) dismiss() {
	v.t.Helper()
	if v.dismissed {
		return
	}
	v.dismissed = true
	if v.ended() {
		v.t.Errorf("%s has ended by itself: %s", v.name, v.cmd.ProcessState)
		return
	}
	if code := v.stop(); code != exitOK {
		v.t.Errorf("%s ended with %d when told to stop", v.name, code)
	}
}

func (v *victim) signal(s syscall.Signal) {
	if err := v.cmd.Process.Signal(s); err != nil {
		v.t.Errorf("%s: %v: %v", v.name, s, err)
	}
}

// fault is something that happens to a process for a time.
type fault struct {
	victim       *victim
	what         string
	begins, ends time.Duration // since the beginning of the plan
	begin, end   func()
}

// newFault draws one of the faults that a process can have. The longer freezes outlast the leases of a worker.
func newFault(r *rand.Rand, v *victim, card int) fault {
	link := func() (string, *stacktest.Proxy) {
		servers := []string{"primary", "replica", "Redis", "NATS"}
		name := servers[r.IntN(len(servers))]
		return name, v.links[name]
	}
	freeze := func(d time.Duration) fault {
		return fault{victim: v, what: "is frozen", ends: d, begin: func() { v.signal(syscall.SIGSTOP) }, end: func() { v.signal(syscall.SIGCONT) }}
	}
	switch card {
	case 0:
		return fault{victim: v, what: "is killed", ends: between(r, 0, time.Second), begin: v.kill, end: v.start}
	case 1:
		return freeze(between(r, 200*time.Millisecond, 1200*time.Millisecond))
	case 2:
		return freeze(between(r, 2200*time.Millisecond, 4*time.Second))
	case 3:
		server, proxy := link()
		return fault{victim: v, what: "hears nothing of " + server, ends: between(r, 500*time.Millisecond, 3*time.Second), begin: proxy.Stall, end: proxy.Heal}
	default:
		server, proxy := link()
		return fault{victim: v, what: "is cut off from " + server, ends: between(r, 100*time.Millisecond, time.Second), begin: proxy.Reset, end: proxy.Heal}
	}
}

// kinds is how many kinds of fault newFault knows.
const kinds = 5

func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)))
}

// plan is what happens when.
type plan struct {
	faults []fault
	steps  []step
}

type step struct {
	at time.Duration
	do func()
}

// newPlan draws the faults of some time: to each process one after the other, each kind as often as the next, and whatever happens to the others
// meanwhile. All of them are over at its end.
func newPlan(r *rand.Rand, victims []*victim, jobs []*job, length, calm time.Duration) *plan {
	p := &plan{}
	for _, v := range victims {
		var deck []int
		for at := between(r, 0, calm/2); at < length; {
			if len(deck) == 0 {
				deck = r.Perm(kinds)
			}
			f := newFault(r, v, deck[0])
			deck = deck[1:]
			f.begins, f.ends = at, min(at+f.ends, length)
			p.faults = append(p.faults, f)
			p.steps = append(p.steps, step{f.begins, func() {
				if v.ended() {
					v.t.Errorf("%s has ended by itself: %s", v.name, v.cmd.ProcessState)
					v.start()
				}
				f.begin()
			}}, step{f.ends, f.end})
			at = f.ends + between(r, calm/8, calm)
		}
	}
	for _, j := range jobs {
		at := length/10 + between(r, 0, length/4)
		p.steps = append(p.steps, step{at, j.begin})
		for range r.IntN(3) {
			at += between(r, 500*time.Millisecond, length/5)
			p.steps = append(p.steps, step{at, j.disturb})
		}
	}
	slices.SortStableFunc(p.faults, func(a, b fault) int { return int(a.begins - b.begins) })
	slices.SortStableFunc(p.steps, func(a, b step) int { return int(a.at - b.at) })
	return p
}

func (p *plan) String() string {
	var s strings.Builder
	for _, f := range p.faults {
		fmt.Fprintf(&s, "%8.3fs to %8.3fs  %-10s %s\n", f.begins.Seconds(), f.ends.Seconds(), f.victim.name, f.what)
	}
	return s.String()
}

// carryOut injects the faults. A machine that is slow gets them later.
func (p *plan) carryOut(t *testing.T) {
	t.Helper()
	began := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for _, s := range p.steps {
		timer.Reset(s.at - time.Since(began))
		select {
		case <-timer.C:
		case <-t.Context().Done():
			t.FailNow()
		}
		s.do()
	}
}

// job is a command that ends by itself, and is killed and repeated before that. It succeeds once.
type job struct {
	*child
	c    *chaos
	args []string
}

func (j *job) begin() {
	j.child = spawn(j.c.t, shopEnv(j.c.stack), j.args...)
}

// disturb kills the job, unless it is done, and has it begin again.
func (j *job) disturb() {
	if j.child == nil || j.succeeded() {
		return
	}
	j.kill()
	j.start()
}

func (j *job) succeeded() bool { return j.ended() && j.cmd.ProcessState.ExitCode() == exitOK }

// finish returns when the job has succeeded. What faults have made fail is begun again.
func (j *job) finish() {
	j.c.t.Helper()
	await(j.c.t, strings.Join(j.args, " "), 5*time.Minute, func() bool {
		if j.ended() && !j.succeeded() {
			j.start()
		}
		return j.succeeded()
	})
}

// replay rebuilds all read models. Once only: what was before is audited too, and would be gone after two.
func (c *chaos) replay() *job { return &job{c: c, args: []string{"replay", "--all"}} }

// importing imports invoices, some of which return what earlier ones had bought.
func (c *chaos) importing() *job {
	c.t.Helper()
	const invoices = 120
	r := rand.New(rand.NewPCG(c.seed, 0))
	var file strings.Builder
	file.WriteString("InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n")
	for i := range invoices {
		row := func(prefix string, sku, quantity int) {
			fmt.Fprintf(&file, "%s%d,%d,THING %d,%d,2011-12-05T%02d:%02d:00,%d.25,%d,United Kingdom\n",
				prefix, 580000+i, 20000+sku, sku, quantity, 8+i/60, i%60, sku, 14000+i/2)
		}
		skus := r.Perm(30)[:1+r.IntN(5)]
		for _, sku := range skus {
			row("", sku, 2+r.IntN(20))
		}
		if i%3 == 0 {
			row("C", skus[0], -1-r.IntN(2))
		}
	}
	path := filepath.Join(c.t.TempDir(), "invoices.csv")
	if err := os.WriteFile(path, []byte(file.String()), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return &job{c: c, args: []string{"import", "orders", path, "--rejected", path + ".rejected"}}
}
