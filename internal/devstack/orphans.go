package devstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// orphanTimeout is how long the children of a killed parent may take to end in order.
const orphanTimeout = 5 * time.Second

// endOrphans ends what an earlier parent of this directory left running because it was killed. The caller holds the
// lock of the directory, so nobody else is using them. Children that the kernel has already asked to end (the
// parent-death signal) are waited for.
func endOrphans(ctx context.Context, dir *dataDir, log *slog.Logger) error {
	all, err := runningProcesses()
	if err != nil {
		return err
	}
	redisPID, redisPort, err := lastRedis(dir)
	if err != nil {
		return err
	}
	var orphans, heads []int
	parents := map[int]int{}
	for _, p := range all {
		if isPostgresOf(dir, p.command) || p.pid == redisPID && isRedis(p.command, redisPort, dir) {
			orphans = append(orphans, p.pid)
			parents[p.pid] = p.parent
		}
	}
	for pid, parent := range parents {
		if _, ok := parents[parent]; !ok {
			heads = append(heads, pid)
		}
	}
	if len(orphans) == 0 {
		return nil
	}
	log.Info("ending servers that a killed process left running", "dir", dir.path, "processes", len(orphans))
	// A fast shutdown for PostgreSQL, whose other processes follow their postmaster, and an ordinary one for Redis. A
	// stopped process takes it when continued.
	if err := errors.Join(signalAll(heads, syscall.SIGINT), signalAll(orphans, syscall.SIGCONT)); err != nil {
		return err
	}
	patience, cancel := context.WithTimeout(ctx, orphanTimeout)
	defer cancel()
	if awaitGone(patience, orphans) == nil {
		return nil
	}
	patience, cancel = context.WithTimeout(ctx, orphanTimeout)
	defer cancel()
	if err := errors.Join(signalAll(orphans, syscall.SIGKILL), awaitGone(patience, orphans)); err != nil {
		return fmt.Errorf("devstack: servers of %s that a killed process left running cannot be ended: %w", dir.path, err)
	}
	return nil
}

// isPostgresOf tells whether a command line is of a PostgreSQL process on this directory: a postmaster or one of its
// programs names its data directory, every other process has the cluster's name in its title.
func isPostgresOf(dir *dataDir, command string) bool {
	if strings.HasPrefix(command, "postgres: "+dir.tag()+"-") {
		return true
	}
	program, _, _ := strings.Cut(command, " -D ")
	switch filepath.Base(program) {
	case "postgres", "initdb", "pg_basebackup":
		return strings.HasPrefix(command, program+" -D "+dir.join("postgres")+string(filepath.Separator))
	}
	return false
}

// lastRedis reads which process and port Redis had when it was last started here, 0 when it was not or ended in order.
func lastRedis(dir *dataDir) (pid, port int, err error) {
	raw, err := os.ReadFile(dir.join("redis", "redis.pid"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, 0, nil
	}
	if err != nil {
		return 0, 0, fmt.Errorf("devstack: reading the pid file of Redis: %w", err)
	}
	p, err := dir.loadPorts()
	if err != nil {
		return 0, 0, err
	}
	// A pid file cut short by a crash names nobody.
	if n, err := strconv.Atoi(strings.TrimSpace(string(raw))); err == nil {
		pid = n
	}
	return pid, p.byID["redis"], nil
}

// isRedis tells whether a command line is of a Redis or Valkey server on a port or with this directory's configuration.
func isRedis(command string, port int, dir *dataDir) bool {
	program, rest, _ := strings.Cut(command, " ")
	switch filepath.Base(program) {
	case "redis-server", "valkey-server":
		return strings.Contains(rest, loopback(port)) || strings.Contains(rest, dir.join("redis", "redis.conf"))
	}
	return false
}
