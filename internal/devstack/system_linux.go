package devstack

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// searchCapabilities lists what to try, the least first, to let an unprivileged child enter a closed directory.
func searchCapabilities() [][]uintptr {
	return [][]uintptr{nil, {unix.CAP_DAC_READ_SEARCH}, {unix.CAP_DAC_OVERRIDE}}
}

// setSysProcAttr asks the kernel to end the child in order when the thread that started it dies. The thread is
// kept for as long as the child lives (see startProcess), so that it dies only with the whole process. SIGTERM is a
// smart shutdown to PostgreSQL, which waits for its clients; SIGINT is a fast one, and an ordinary one to Redis.
func setSysProcAttr(attr *syscall.SysProcAttr, caps []uintptr) {
	attr.Pdeathsig = syscall.SIGINT
	attr.AmbientCaps = caps
}

// runningProcesses lists the processes of this machine with their command lines, as far as they can be seen.
func runningProcesses() ([]runningProcess, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var list []runningProcess
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		stat, statErr := os.ReadFile(filepath.Join(dir, "stat"))
		cmdline, cmdErr := os.ReadFile(filepath.Join(dir, "cmdline"))
		if statErr != nil || cmdErr != nil {
			continue // it has ended meanwhile, or is hidden
		}
		// "pid (name, which may hold anything) state parent ..."
		_, rest, ok := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')')+1:]), " ")
		fields := strings.Fields(rest)
		if !ok || len(fields) < 2 || fields[0] == "Z" {
			continue
		}
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			continue
		}
		args := strings.FieldsFunc(string(cmdline), func(r rune) bool { return r == 0 })
		list = append(list, runningProcess{pid: pid, parent: parent, command: strings.Join(args, " ")})
	}
	return list, nil
}
