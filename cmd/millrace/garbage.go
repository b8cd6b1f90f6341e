package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A process that collects its garbage every few hundred milliseconds spends a tenth of its time on that, and its answers wait for it. Where there is much
// to do it does so a third as often, for which the memory may grow to twice what it would be; what it holds while there is little to do stays small.
const (
	// quietPercent and busyPercent are values of GOGC.
	quietPercent, busyPercent = 100, 200
	// busyCycle is how soon one collection follows another in a process that is busy, and quietTime how long none does in one that no longer is.
	busyCycle, quietTime = 2 * time.Second, 5 * time.Second
	// lookedAt is how often that is looked at.
	lookedAt = time.Second / 2
)

// collectGarbage sets how much garbage may pile up, until ctx ends. An operator's GOGC stays as it is.
func collectGarbage(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(lookedAt)
	defer tick.Stop()
	cycles := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	var p collections
	for {
		metrics.Read(cycles)
		switch before := p.busy; {
		case p.look(time.Now(), cycles[0].Value.Uint64()) == before:
		case p.busy:
			debug.SetGCPercent(busyPercent)
		default:
			debug.SetGCPercent(quietPercent)
			debug.FreeOSMemory()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// collections tell, from how often they happen, whether a process is busy.
type collections struct {
	busy   bool
	cycles uint64
	last   time.Time // when cycles last grew
}

// look takes the number of collections there have been by now.
func (p *collections) look(now time.Time, cycles uint64) (busy bool) {
	switch since := now.Sub(p.last); {
	case cycles > p.cycles:
		p.busy = p.busy || since <= busyCycle
		p.cycles, p.last = cycles, now
	case since > quietTime:
		p.busy = false
	}
	return p.busy
}
