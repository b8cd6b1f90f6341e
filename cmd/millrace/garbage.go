package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// A process that holds little and collects its garbage when that is as much again does so every few hundred milliseconds where there is much to do: it spends
// a tenth of its time on that, and its answers wait for it. While it is busy it has some room for garbage, however little it holds; what it holds while
// there is little to do stays small.
const (
	// garbageRoom is how many bytes of garbage a busy process may have. What holds more than that goes by quietPercent.
	garbageRoom = 96 << 20
	// quietPercent is Go's own value of GOGC, and mostPercent the largest that a busy process gets.
	quietPercent, mostPercent = 100, 400
	// busyRate is how many bytes a second a process allocates that is busy. It no longer is when it has allocated less than a quarter of that for quietTime.
	busyRate, quietTime = 32 << 20, 5 * time.Second
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
	heap := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	var a allocations
	percent := quietPercent
	for {
		metrics.Read(heap)
		busyBefore := a.busy
		if now := garbagePercent(a.look(time.Now(), heap[0].Value.Uint64()), heap[1].Value.Uint64()); now != percent {
			debug.SetGCPercent(now)
			percent = now
		}
		if busyBefore && !a.busy {
			debug.FreeOSMemory()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// garbagePercent returns the GOGC of a process that held so many bytes when it last collected, in steps of ten: each new value stops the process for a moment.
func garbagePercent(busy bool, live uint64) int {
	if !busy || live == 0 {
		return quietPercent
	}
	return max(quietPercent, int(min(mostPercent, garbageRoom*100/live))/10*10)
}

// allocations tell whether a process is busy.
type allocations struct {
	busy  bool
	bytes uint64
	at    time.Time // when bytes were looked at
	since time.Time // when there was last much to do
}

// look takes how many bytes have been allocated by now.
func (a *allocations) look(now time.Time, bytes uint64) (busy bool) {
	if !a.at.IsZero() {
		rate := float64(bytes-a.bytes) / now.Sub(a.at).Seconds()
		a.busy = a.busy || rate >= busyRate
		if rate >= busyRate/4 {
			a.since = now
		}
	}
	a.bytes, a.at = bytes, now
	a.busy = a.busy && now.Sub(a.since) < quietTime
	return a.busy
}
