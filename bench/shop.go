package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
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
	kind   shopKind
	binary string
	data   string // its data directory
	log    string // the file with what it logs
	memory *memoryWatch
	pid    int

	cancel   context.CancelFunc
	running  errgroup.Group
	graphql  string // the address of its API
	imported *importResult
	events   int64 // the log has so many, as far as known
	years    int   // how often the invoices have been imported
}

// startShop starts a shop on a data directory that does not exist yet, and returns when it is ready.
func (l *lab) startShop(ctx context.Context, k shopKind) (*shop, error) {
	l.say("starting millrace up (%s)", k)
	s := &shop{kind: k, binary: l.Binary, data: l.newDir("shop-" + string(k)), log: l.newDir("shop-" + string(k) + ".log")}
	logs, err := os.Create(s.log)
	if err != nil {
		return nil, fmt.Errorf("bench: making the shop's log: %w", err)
	}
	// It ends by stop, not with ctx: what is measured on it may outlive a deadline of the bench.
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.cancel = cancel
	cmd := s.program(running, "up", "--addr", "127.0.0.1:0")
	if k == emptyShop {
		cmd.Env = append(cmd.Env, "MILLRACE_SAMPLE=off")
	}
	cmd.Stderr = logs
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("bench: starting millrace up: %w", err), logs.Close())
	}
	s.pid = cmd.Process.Pid
	s.memory = watchMemory(running, s.pid)
	ready := make(chan string, 1)
	ended := make(chan struct{})
	s.running.Go(func() error {
		defer close(ended)
		awaitAddress(out, ready)
		err := cmd.Wait()
		s.memory.stop()
		if running.Err() != nil {
			err = nil // it was told to end
		}
		return errors.Join(err, logs.Close())
	})
	timeout, stopTimer := context.WithTimeout(ctx, readyTimeout)
	defer stopTimer()
	select {
	case s.graphql = <-ready:
		return s, nil
	case <-ended:
		err = errors.New("it ended before it was ready")
	case <-timeout.Done():
		err = fmt.Errorf("it was not ready: %w", context.Cause(timeout))
	}
	return nil, errors.Join(fmt.Errorf("bench: millrace up: %w; its log ends with:\n%s", err, tail(s.log)), s.stop())
}

// readyLine is what "millrace up" prints when it is ready.
var readyLine = regexp.MustCompile(`^\s*GraphQL\s+(http\S+)`)

// awaitAddress reads what the shop prints to the end, and sends the address of its API when it comes.
func awaitAddress(out io.Reader, ready chan<- string) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if found := readyLine.FindStringSubmatch(lines.Text()); found != nil {
			select {
			case ready <- found[1]:
			default: // it has said so before
			}
		}
	}
	_, _ = io.Copy(io.Discard, out) // a line too long for the scanner must not stop the shop
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
	cmd.Env = append(cmd.Env, "MILLRACE_DATA="+s.data)
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
	s.cancel() // SIGTERM, and by force what has not ended after stopTimeout
	return errors.Join(s.running.Wait(), os.RemoveAll(s.data))
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
