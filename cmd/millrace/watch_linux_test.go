package main

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/millrace/millrace/internal/devstack/stacktest"
)

// terminal opens a pseudo-terminal: what a process has for its terminal, and our side of it.
func terminal(t *testing.T, columns, rows uint16) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("there are no terminals here: %v", err)
	}
	t.Cleanup(func() { _ = ours.Close() })
	fd := int(ours.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows}); err != nil {
		t.Fatal(err)
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

// TestWatchOnATerminal watches on a real terminal, which is too small for everything, and ends it as Ctrl-C does.
func TestWatchOnATerminal(t *testing.T) {
	t.Parallel()
	e := stacktest.New(t)
	spawn(t, shopEnv(e), "worker")
	ours, theirs := terminal(t, 100, 20)
	cmd := exec.Command(os.Args[0], "projections", "--watch", "--every", "100ms")
	cmd.Env = append(append(os.Environ(), beMillrace+"=1"), shopEnv(e)...)
	logged := &safeBuffer{}
	cmd.Stdout, cmd.Stderr = theirs, logged
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	shown, read := &safeBuffer{}, make(chan struct{})
	go func() {
		defer close(read)
		_, _ = io.Copy(shown, ours) // ends with an error when the process has gone
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended where the test has gone on
	await(t, "the list to be drawn three times", settle, func() bool { return strings.Count(shown.String(), "\x1b[19A") >= 2 })
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v:\n%s", err, logged)
	}
	<-read
	text := shown.String()
	if !strings.Contains(text, "WANTED") || !strings.Contains(text, "partitions that are no worse") || !strings.HasSuffix(text, "\x1b[J") {
		t.Errorf("it showed %q", text)
	}
}

// TestReplayOnATerminal shows on a terminal how far a replay has come and how fast it is.
func TestReplayOnATerminal(t *testing.T) {
	t.Parallel()
	e := stacktest.New(t)
	fillShelves(t, connect(t, e.DatabaseURL), 40_000)
	ours, theirs := terminal(t, 100, 20)
	cmd := exec.Command(os.Args[0], "replay", "stock")
	cmd.Env = append(append(os.Environ(), beMillrace+"=1"), shopEnv(e)...)
	cmd.Stdout, cmd.Stderr = theirs, theirs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // it has ended where the test has gone on
	shown, _ := io.ReadAll(ours)                 // ends with an error when the process has gone
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v", err)
	}
	text := string(shown)
	if !regexp.MustCompile(`rebuilding, [0-9]+ events/s, [0-9]+s left +[0-9]+% \|[█ ]+\| \([0-9]+/40000\)`).MatchString(text) ||
		!strings.HasSuffix(text, "--rollback goes back to them.\r\n") {
		t.Errorf("it showed %q", text)
	}
}
