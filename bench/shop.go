package bench

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// shopKind is what a shop holds at first.
type shopKind string

const (
	sampleShop   shopKind = "sample" // what a first "millrace up" loads
	emptyShop    shopKind = "empty"
	readyTimeout          = 3 * time.Minute
)

// shop is a running "millrace up" in a process of its own.
type shop struct {
	*process
	kind       shopKind
	binary     string
	data       string // its data directory
	staffToken string

	imported *importResult
	events   int64 // the log has so many, as far as known
	years    int   // how often the invoices have been imported
}

// startShop starts a shop on a data directory that does not exist yet, and returns when it is ready.
func (l *lab) startShop(ctx context.Context, k shopKind) (*shop, error) {
	l.say("starting millrace up (%s)", k)
	s := &shop{kind: k, binary: l.Binary, data: l.newDir("shop-" + string(k)), staffToken: rand.Text()}
	up, err := startProcess(ctx, l.newDir("shop-"+string(k)+".log"), func(running context.Context) *exec.Cmd {
		cmd := s.program(running, "up", "--addr", "127.0.0.1:0")
		if k == emptyShop {
			cmd.Env = append(cmd.Env, "MILLRACE_SAMPLE=off")
		}
		return cmd
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.data))
	}
	s.process = up
	return s, nil
}

// program is a subcommand of the binary on the shop's data directory, with nothing in its environment that names other
// servers. It is told to end with ctx, and gets time for that.
func (s *shop) program(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.binary, args...) // this very program
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "MILLRACE_") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, "MILLRACE_DATA="+s.data, "MILLRACE_STAFF_TOKEN="+s.staffToken)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C reaches this process, which ends the others
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	return cmd
}

// answer is what a subcommand printed and what it took.
type answer struct {
	out     []byte
	elapsed time.Duration
	peak    float64 // MiB of resident memory
}

// call runs a subcommand to its end. Into, if not nil, is filled from the JSON that it prints.
func (s *shop) call(ctx context.Context, into any, args ...string) (answer, error) {
	var out, log bytes.Buffer
	cmd := s.program(ctx, args...)
	cmd.Dir = filepath.Dir(s.data) // what it writes goes with the rest
	cmd.Stdout, cmd.Stderr = &out, &log
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return answer{}, fmt.Errorf("bench: starting millrace %s: %w", args[0], err)
	}
	memory := watchMemory(ctx, cmd.Process.Pid)
	err := cmd.Wait()
	a := answer{out: out.Bytes(), elapsed: time.Since(began), peak: memory.stop()}
	if err != nil {
		return a, fmt.Errorf("bench: millrace %s: %w; it said:\n%s", strings.Join(args, " "), err, lastLines(log.Bytes()))
	}
	if into != nil {
		if err := json.Unmarshal(a.out, into); err != nil {
			return a, fmt.Errorf("bench: reading what millrace %s printed: %w", args[0], err)
		}
	}
	return a, nil
}

// stop ends the shop and removes its data.
func (s *shop) stop() error {
	return errors.Join(s.process.stop(), os.RemoveAll(s.data))
}

func tail(file string) []byte {
	content, err := os.ReadFile(file) // the bench made it
	if err != nil {
		return []byte(err.Error())
	}
	return lastLines(content)
}

// lastLines returns the end of a log, some screens at most.
func lastLines(log []byte) []byte {
	const enough = 4000
	log = bytes.TrimSpace(log)
	if len(log) > enough {
		log = log[len(log)-enough:]
		if _, rest, found := bytes.Cut(log, []byte("\n")); found {
			log = rest
		}
	}
	return log
}
