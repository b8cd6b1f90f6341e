package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// Targets of overload.
const (
	overloadAcceptedTarget = 0.70 // of the peak of the same work
	overloadP99Target      = 3    // times that without load
	overloadRefusalTarget  = 10   // ms, at the median
	overloadMemoryTarget   = 256  // MiB
	overloadRecoveryTarget = 2    // s
)

const (
	// overloadDuration is for how long an api is overloaded unless somebody says otherwise.
	overloadDuration = time.Minute
	// overloadTimes is how many times the peak is offered, and gently what part of it before and after.
	overloadTimes = 5
	gently        = 0.1
	// overloadConnections is how many requests may be under way: far more than an api has at work and in its queues.
	overloadConnections = 1024
	// Before the load there are phases of these lengths.
	warmUp         = 2 * time.Second
	peakLength     = 5 * time.Second // for each number of callers
	unloadedLength = 10 * time.Second
	afterLength    = 8 * time.Second
)

// peakCallers are those among whom the peak is looked for.
var peakCallers = []int{16, 32}

// overloaded is what was measured of an api that was asked for more than it can do.
type overloaded struct {
	// peak, in requests/s, is the most that the api did of the mixture that it was offered, and same of what it accepted under load: priorities
	// choose among requests that differ much in what they take, so that their number alone says little.
	peak, same float64
	length     time.Duration // of the load
	unloaded   []visit
	load       []visit
	after      []visit
	ended      time.Time // the load
	// memory of the api process, MiB: before the load, at most during it, and in the end.
	memoryBefore, memoryMost, memoryAfter float64
}

// overload offers an api process five times what it can do, for a time, and looks at what becomes of what it takes on, and of what it refuses.
func overload(ctx context.Context, l *lab) (figures []Figure, err error) {
	s, err := l.shopOf(ctx, sampleShop)
	if err != nil {
		return nil, err
	}
	apis, err := l.startAPIs(ctx, s, 1)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, apis[0].stop()) }()
	v, err := newVisitors(ctx, apis[0])
	if err != nil {
		return nil, err
	}
	c := &crowd{address: v.host, connections: make([]*connection, overloadConnections), attend: v.attend}
	defer c.close()
	o := &overloaded{length: l.Duration}
	if err := o.run(ctx, l, apis[0], v, c); err != nil {
		return nil, err
	}
	c.problems.Range(func(text, count any) bool {
		l.say("  %d times: %s", count.(*atomic.Int64).Load(), text)
		return true
	})
	return o.figures(), nil
}

func (o *overloaded) run(ctx context.Context, l *lab, a *apiProcess, v *visitors, c *crowd) error {
	c.press(ctx, peakCallers[0], warmUp)
	if o.peak = peakOf(ctx, l, c); o.peak == 0 {
		return fmt.Errorf("bench: the api did nothing: %w", context.Cause(ctx))
	}
	if err := wait(ctx, warmUp); err != nil { // for what was bought to be paid
		return err
	}
	o.unloaded = c.come(ctx, gently*o.peak, unloadedLength)
	l.say("  a tenth of the peak: %s", describeVisits(o.unloaded, unloadedLength))
	var err error
	if o.memoryBefore, _, err = residentMemory(ctx, a.pid); err != nil {
		return err
	}
	l.say("  %d times the peak for %s; the generator and the servers share this machine's processors%s", overloadTimes, o.length, busyness())
	memory := watchResident(ctx, a.pid)
	o.load = c.come(ctx, overloadTimes*o.peak, o.length)
	o.ended = time.Now()
	o.memoryMost = memory.stop()
	l.say("  %s", describeVisits(o.load, o.length))
	o.after = c.come(ctx, gently*o.peak, afterLength)
	l.say("  a tenth of the peak again: %s", describeVisits(o.after, afterLength))
	if o.memoryAfter, _, err = residentMemory(ctx, a.pid); err != nil {
		return err
	}
	l.say("  what was accepted, again and alone")
	var shares [visitKinds]int
	for kind := range shares {
		shares[kind] = count(o.load, accepted, visitKind(kind))
	}
	v.mixture = mixture(shares)
	o.same = peakOf(ctx, l, c)
	return context.Cause(ctx)
}

// peakOf returns how many requests/s are done at most of those that the crowd sends.
func peakOf(ctx context.Context, l *lab, c *crowd) (most float64) {
	for _, callers := range peakCallers {
		visits := c.press(ctx, callers, peakLength)
		l.say("  %d callers, one request after the other: %s", callers, describeVisits(visits, peakLength))
		most = max(most, rateOfVisits(visits, peakLength))
	}
	return most
}

// times returns the times of the visits that had a result, of a kind or of all.
func times(visits []visit, result verdict, of func(visit) time.Duration, kinds ...visitKind) (found []time.Duration) {
	for _, v := range visits {
		if v.result == result && (len(kinds) == 0 || slices.Contains(kinds, v.kind)) {
			found = append(found, of(v))
		}
	}
	return found
}

func rateOfVisits(visits []visit, over time.Duration) float64 {
	return float64(count(visits, accepted)) / over.Seconds()
}

func count(visits []visit, result verdict, kinds ...visitKind) int {
	return len(times(visits, result, visit.waited, kinds...))
}

func describeVisits(visits []visit, over time.Duration) string {
	waited := times(visits, accepted, visit.waited)
	text := fmt.Sprintf("%.0f/s accepted, p50 %.1f ms, p99 %.1f ms", rateOfVisits(visits, over),
		milliseconds(percentile(waited, 50)), milliseconds(percentile(waited, 99)))
	if n := count(visits, turned); n > 0 {
		text += fmt.Sprintf("; %.0f/s refused, p50 %.1f ms", float64(n)/over.Seconds(), milliseconds(percentile(times(visits, turned, visit.waited), 50)))
	}
	if n := count(visits, spoiled); n > 0 {
		text += fmt.Sprintf("; %d failed", n)
	}
	for kind := range visitKinds {
		took := times(visits, accepted, visit.waited, kind)
		text += fmt.Sprintf("; %s %d of %d, p99 %.1f ms", visitNames[kind], len(took), len(took)+count(visits, turned, kind), milliseconds(percentile(took, 99)))
	}
	return text
}

// recovery returns how long after the load's end a second began in which nothing was refused and the p99 was as good as it has to be under
// load; the whole time that was looked at if there was none.
func (o *overloaded) recovery(p99 time.Duration) time.Duration {
	const step = 100 * time.Millisecond
	for from := time.Duration(0); from+time.Second <= afterLength; from += step {
		var second []visit
		for _, v := range o.after {
			if at := v.due.Sub(o.ended); at >= from && at < from+time.Second {
				second = append(second, v)
			}
		}
		if waited := times(second, accepted, visit.waited); len(waited) == len(second) && len(second) > 0 && percentile(waited, 99) <= p99 {
			return from
		}
	}
	return afterLength
}

func (o *overloaded) figures() []Figure {
	waited, sent := times(o.load, accepted, visit.waited), times(o.load, accepted, func(v visit) time.Duration { return v.took })
	before := percentile(times(o.unloaded, accepted, visit.waited), 99)
	refusals := times(o.load, turned, visit.waited)
	var late []time.Duration
	for _, v := range o.load {
		late = append(late, v.late)
	}
	figures := []Figure{
		newFigure("overload-offered", float64(len(o.load))/o.length.Seconds(), "requests/s", Higher).against(o.peak),
		newFigure("overload-accepted", rateOfVisits(o.load, o.length), "requests/s", Higher).against(o.same).aiming(overloadAcceptedTarget),
		newFigure("overload-p99", milliseconds(percentile(waited, 99)), "ms", Lower).against(milliseconds(before)).aiming(overloadP99Target),
		newFigure("overload-p99-since-sent", milliseconds(percentile(sent, 99)), "ms", Lower),
		newFigure("overload-generator-late-p50", milliseconds(percentile(late, 50)), "ms", Lower),
		newFigure("overload-generator-late-p99", milliseconds(percentile(late, 99)), "ms", Lower),
		newFigure("overload-refusal-p50", milliseconds(percentile(refusals, 50)), "ms", Lower).aiming(overloadRefusalTarget),
		newFigure("overload-refusal-p99", milliseconds(percentile(refusals, 99)), "ms", Lower),
		newFigure("overload-failed", float64(count(o.load, spoiled)+count(o.after, spoiled)), "requests", Lower).aiming(0),
		newFigure("overload-memory", o.memoryMost, "MiB", Lower).aiming(overloadMemoryTarget),
		newFigure("overload-memory-before", o.memoryBefore, "MiB", Lower),
		newFigure("overload-memory-after", o.memoryAfter, "MiB", Lower),
		newFigure("overload-recovery", o.recovery(overloadP99Target*before).Seconds(), "s", Lower).aiming(overloadRecoveryTarget),
	}
	for _, kind := range []visitKind{checkOut, fillCart, lookAtPages, readReport} {
		name := "overload-" + visitNames[kind]
		figures = append(figures,
			newFigure(name+"-accepted", float64(count(o.load, accepted, kind))/o.length.Seconds(), "requests/s", Higher),
			newFigure(name+"-refused", float64(count(o.load, turned, kind))/o.length.Seconds(), "requests/s", Lower),
			newFigure(name+"-p99", milliseconds(percentile(times(o.load, accepted, visit.waited, kind), 99)), "ms", Lower).
				against(milliseconds(percentile(times(o.unloaded, accepted, visit.waited, kind), 99))))
	}
	return figures
}
