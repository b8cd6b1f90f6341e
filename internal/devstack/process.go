package devstack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// process is a running child. Its owner waits for done.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child has ended
	err  error         // how it ended; to be read after done
}

// startProcess starts a child whose output goes to its log file. The goroutine that waits for it keeps the thread
// that started it, because that thread's end is what the parent-death signal of Linux goes by.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		<-p.done
		return nil, err
	}
	return p, nil
}

// runProgram runs a program to its end, like cmd.Run, with startProcess's care for the thread.
func runProgram(cmd *exec.Cmd) error {
	p, err := startProcess(cmd)
	if err != nil {
		return err
	}
	<-p.done
	return p.err
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// signalTree sends a signal to the child and its descendants, and returns who they are. The child is stopped
// meanwhile, so that no new descendant escapes: each PostgreSQL backend is a process group of its own.
func (p *process) signalTree(sig syscall.Signal) ([]int, error) {
	if !p.running() {
		return nil, nil
	}
	root := p.pid()
	if err := signal(root, syscall.SIGSTOP); err != nil {
		return nil, err
	}
	all, err := runningProcesses()
	if err != nil {
		return nil, errors.Join(err, signal(root, sig))
	}
	pids := append(descendants(all, root), root)
	return pids, signalAll(pids, sig)
}

// kill ends the child and its descendants, and returns when they are gone.
func (p *process) kill() error {
	pids, err := p.signalTree(syscall.SIGKILL)
	if err != nil {
		return err
	}
	if len(pids) > 0 {
		<-p.done
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return awaitGone(ctx, pids)
}

func signalAll(pids []int, sig syscall.Signal) error {
	var errs []error
	for _, pid := range pids {
		errs = append(errs, signal(pid, sig))
	}
	return errors.Join(errs...)
}

// awaitGone returns when none of the processes runs any more.
func awaitGone(ctx context.Context, pids []int) error {
	ticker := time.NewTicker(pingInterval)
	defer ticker.Stop()
	for {
		all, err := runningProcesses()
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(all, func(p runningProcess) bool { return slices.Contains(pids, p.pid) }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("devstack: processes %v do not end: %w", pids, ctx.Err())
		case <-ticker.C:
		}
	}
}

// signal sends a signal; a process that has ended meanwhile is no error.
func signal(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("devstack: sending %v to process %d: %w", sig, pid, err)
	}
	return nil
}

// runningProcess is a line of the machine's process list.
type runningProcess struct {
	pid, parent int
	command     string
}

// descendants lists the processes below root, root excluded.
func descendants(all []runningProcess, root int) []int {
	var pids []int
	for _, p := range all {
		if p.parent == root {
			pids = append(append(pids, p.pid), descendants(all, p.pid)...)
		}
	}
	return pids
}

// logFile is where a server writes; offset is where its current run begins.
type logFile struct {
	path   string
	offset int64
}

// largestLog is the size in bytes beyond which a log is set aside at the next start.
const largestLog = 16 << 20

// open opens the log for a new run.
func (l *logFile) open() (*os.File, error) {
	if info, err := os.Stat(l.path); err == nil && info.Size() > largestLog {
		if err := os.Rename(l.path, l.path+".1"); err != nil {
			return nil, fmt.Errorf("devstack: setting a large log aside: %w", err)
		}
	}
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("devstack: opening a server's log: %w", err)
	}
	if l.offset, err = f.Seek(0, io.SeekEnd); err != nil {
		return nil, errors.Join(fmt.Errorf("devstack: opening a server's log: %w", err), f.Close())
	}
	return f, nil
}

// tail is the end of what the current run has logged, on one line.
func (l *logFile) tail() string {
	f, err := os.Open(l.path)
	if err != nil {
		return "(no log)"
	}
	defer func() { _ = f.Close() }() // it was only read
	const most = 2000
	from := l.offset
	if info, err := f.Stat(); err == nil {
		from = max(from, info.Size()-most)
	}
	raw, err := io.ReadAll(io.NewSectionReader(f, from, most))
	if err != nil {
		return "(unreadable log)"
	}
	return lastLines(string(raw), 5)
}

// lastLines joins the last n lines that are not empty.
func lastLines(s string, n int) string {
	var lines []string
	for line := range strings.Lines(s) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], " | ")
}
