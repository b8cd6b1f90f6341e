package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"

	"golang.org/x/sync/errgroup"
)

// process is a role of a shop that serves its API, in a process of its own.
type process struct {
	pid     int
	memory  *memoryWatch
	graphql string // the address of its API

	cancel  context.CancelFunc
	running errgroup.Group
}

// startProcess starts a command that is not there for one answer but to serve, and returns once it has said where. What it prints goes to the
// file. It ends by stop, not with ctx: what is measured on it may outlive a deadline of the bench.
func startProcess(ctx context.Context, file string, command func(context.Context) *exec.Cmd) (*process, error) {
	logs, err := os.OpenFile(file, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("bench: making the log of a process: %w", err)
	}
	p := &process{}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p.cancel = cancel
	cmd := command(running)
	printed, printing := io.Pipe()
	cmd.Stdout, cmd.Stderr = printing, printing
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, errors.Join(fmt.Errorf("bench: starting millrace %s: %w", cmd.Args[1], err), logs.Close())
	}
	p.pid = cmd.Process.Pid
	p.memory = watchMemory(running, p.pid)
	ready := make(chan string, 1)
	ended, read := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(read)
		awaitAddress(io.TeeReader(printed, logs), ready)
	}()
	p.running.Go(func() error {
		defer close(ended)
		err := cmd.Wait()
		p.memory.stop()
		if running.Err() != nil {
			err = nil // it was told to end
		}
		err = errors.Join(err, printing.Close())
		<-read
		return errors.Join(err, logs.Close())
	})
	timeout, stopTimer := context.WithTimeout(ctx, readyTimeout)
	defer stopTimer()
	select {
	case p.graphql = <-ready:
		return p, nil
	case <-ended:
		err = errors.New("it ended before it was ready")
	case <-timeout.Done():
		err = fmt.Errorf("it was not ready: %w", context.Cause(timeout))
	}
	return nil, errors.Join(fmt.Errorf("bench: millrace %s: %w; it said:\n%s", cmd.Args[1], err, tail(file)), p.stop())
}

// stop ends the process: it is told to, and ended by force if it has not within stopTimeout.
func (p *process) stop() error {
	p.cancel()
	return p.running.Wait()
}

// addressLine is what "millrace up" prints and what "millrace api" logs once they serve.
var addressLine = regexp.MustCompile(`(?:^\s*GraphQL\s+|"graphql":")(http[^\s"]+)`)

// awaitAddress reads what a process prints to the end, and sends the address of its API when it comes.
func awaitAddress(out io.Reader, ready chan<- string) {
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if found := addressLine.FindStringSubmatch(lines.Text()); found != nil {
			select {
			case ready <- found[1]:
			default: // it has said so before
			}
		}
	}
	_, _ = io.Copy(io.Discard, out) // a line too long for the scanner must not stop the process
}
