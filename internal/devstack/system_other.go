//go:build !linux

package devstack

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// searchCapabilities has only the empty set to try: capabilities are Linux's.
func searchCapabilities() [][]uintptr { return [][]uintptr{nil} }

// setSysProcAttr has nothing to add: only Linux can end a child with its parent.
func setSysProcAttr(*syscall.SysProcAttr, []uintptr) {}

// runningProcesses lists the processes of this machine with their command lines.
func runningProcesses() ([]runningProcess, error) {
	out, err := exec.Command("ps", "-A", "-ww", "-o", "pid=,ppid=,state=,command=").Output()
	if err != nil {
		return nil, fmt.Errorf("devstack: listing processes with ps: %w", err)
	}
	var list []runningProcess
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || strings.HasPrefix(fields[2], "Z") {
			continue
		}
		pid, pidErr := strconv.Atoi(fields[0])
		parent, parentErr := strconv.Atoi(fields[1])
		if pidErr != nil || parentErr != nil {
			continue
		}
		list = append(list, runningProcess{pid: pid, parent: parent, command: strings.Join(fields[3:], " ")})
	}
	return list, nil
}
