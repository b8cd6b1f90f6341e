package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"
)

// memoryWatch follows the resident memory of a process.
type memoryWatch struct {
	quit chan struct{}
	once sync.Once
	done sync.WaitGroup

	mu   sync.Mutex
	high float64 // MiB
}

// memoryInterval is how often a process is looked at. Where the kernel itself keeps the peak nothing is missed in between,
// except in the last interval of a process that ends.
const memoryInterval = 100 * time.Millisecond

func watchMemory(ctx context.Context, pid int) *memoryWatch {
	return watch(func() (float64, error) {
		_, peak, err := residentMemory(ctx, pid)
		return peak, err
	})
}

// watchResident follows it without what was before.
func watchResident(ctx context.Context, pid int) *memoryWatch {
	return watch(func() (float64, error) {
		now, _, err := residentMemory(ctx, pid)
		return now, err
	})
}

func watch(look func() (float64, error)) *memoryWatch {
	w := &memoryWatch{quit: make(chan struct{})}
	w.done.Go(func() {
		tick := time.NewTicker(memoryInterval)
		defer tick.Stop()
		for {
			if size, err := look(); err == nil { // it fails once the process has ended
				w.mu.Lock()
				w.high = max(w.high, size)
				w.mu.Unlock()
			}
			select {
			case <-w.quit:
				return
			case <-tick.C:
			}
		}
	})
	return w
}

// peak returns the highest resident memory so far, in MiB.
func (w *memoryWatch) peak() float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.high
}

// stop ends the watch and returns the peak in MiB.
func (w *memoryWatch) stop() float64 {
	w.once.Do(func() { close(w.quit) })
	w.done.Wait()
	return w.peak()
}

const kibibytesPerMebibyte = 1024

// residentMemory returns the resident memory of a process now and, where the system tells, at its highest, in MiB.
func residentMemory(ctx context.Context, pid int) (now, peak float64, err error) {
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	if errors.Is(err, os.ErrNotExist) {
		return residentMemoryByPS(ctx, pid)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("bench: reading the memory of process %d: %w", pid, err)
	}
	if now, err = statusField(string(status), "VmRSS"); err != nil {
		return 0, 0, fmt.Errorf("bench: reading the memory of process %d: %w", pid, err)
	}
	if peak, err = statusField(string(status), "VmHWM"); err != nil {
		return 0, 0, fmt.Errorf("bench: reading the memory of process %d: %w", pid, err)
	}
	return now, peak, nil
}

// statusField returns a size from the text of /proc/<pid>/status in MiB.
func statusField(status, name string) (float64, error) {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			kib, err := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 64)
			return kib / kibibytesPerMebibyte, err
		}
	}
	return 0, fmt.Errorf("%s is not given: the process has ended", name)
}

// residentMemoryByPS is for systems without /proc, which keep no peak that others could read.
func residentMemoryByPS(ctx context.Context, pid int) (now, peak float64, err error) {
	out, err := exec.CommandContext(ctx, "ps", "-o", "rss=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return 0, 0, fmt.Errorf("bench: reading the memory of process %d: %w", pid, err)
	}
	kib, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	if err != nil {
		return 0, 0, fmt.Errorf("bench: reading the memory of process %d: %w", pid, err)
	}
	return kib / kibibytesPerMebibyte, kib / kibibytesPerMebibyte, nil
}
