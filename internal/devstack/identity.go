package devstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"syscall"
)

// identity is the user the servers run as. The zero value is the user of this process.
type identity struct {
	name     string // empty: the user of this process
	uid, gid int
	caps     []uintptr // capabilities to enter directories which the user alone could not
}

// chooseIdentity decides who runs the servers of a data directory: this process's user, unless that is root.
func chooseIdentity(ctx context.Context, dir *dataDir) (identity, error) {
	if os.Geteuid() != 0 {
		return identity{}, checkOwner(dir)
	}
	id, err := unprivilegedUser(dir)
	if err != nil {
		return identity{}, err
	}
	for _, caps := range searchCapabilities() {
		id.caps = caps
		err := id.probe(ctx, dir.path)
		if err == nil {
			return id, nil
		}
		var exit *exec.ExitError
		if len(caps) == 0 && !errors.As(err, &exit) {
			return identity{}, fmt.Errorf("devstack: PostgreSQL refuses to run as root, and no program can be started as user %s: %w; "+
				"run as an ordinary user", id.name, err)
		}
	}
	return identity{}, fmt.Errorf("devstack: PostgreSQL refuses to run as root, and the user %s cannot enter %s: "+
		"name a data directory that other users can enter, or run as an ordinary user", id.name, dir.path)
}

// checkOwner refuses data that another user's servers wrote.
func checkOwner(dir *dataDir) error {
	primary := dir.join("postgres", "primary")
	info, err := os.Stat(primary)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("devstack: looking at the data of PostgreSQL: %w", err)
	}
	if owner := ownerOf(info); owner != os.Geteuid() {
		return fmt.Errorf("devstack: %s belongs to user %s: run as that user, or as root if root made it, or name another data directory",
			primary, userName(owner))
	}
	return nil
}

// unprivilegedUser is the owner of existing data, else the user postgres, else nobody.
func unprivilegedUser(dir *dataDir) (identity, error) {
	if info, err := os.Stat(dir.join("postgres", "primary")); err == nil {
		if uid := ownerOf(info); uid != 0 {
			return identity{name: userName(uid), uid: uid, gid: groupOf(info)}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.Atoi(u.Uid)
		gid, gidErr := strconv.Atoi(u.Gid)
		if uidErr == nil && gidErr == nil && uid > 0 {
			return identity{name: name, uid: uid, gid: gid}, nil
		}
	}
	return identity{}, errors.New("devstack: PostgreSQL refuses to run as root, and this machine has neither a user postgres nor nobody: " +
		"run as an ordinary user")
}

// probe tests whether a program started with this identity can enter a directory.
func (id identity) probe(ctx context.Context, dir string) error {
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `cd "$0"`, dir)
	id.apply(cmd)
	return runProgram(cmd)
}

// apply makes cmd run with this identity, in a process group of its own, with nothing of this process's environment
// that could steer a server (PGDATA, PGPORT, ...).
func (id identity) apply(cmd *exec.Cmd) {
	cmd.Dir = "/" // the current directory may be closed to the other user
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC", "HOME=/"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if id.name != "" {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(id.uid), Gid: uint32(id.gid)}
	}
	setSysProcAttr(cmd.SysProcAttr, id.caps)
}

// mkdir makes a directory that only the servers' user can enter.
func (id identity) mkdir(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return fmt.Errorf("devstack: creating a server's directory: %w", err)
	}
	return id.own(path)
}

// writeFile writes a file that only the servers' user can read.
func (id identity) writeFile(path, content string) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return fmt.Errorf("devstack: writing a server's file: %w", err)
	}
	return id.own(path)
}

func (id identity) own(path string) error {
	if id.name == "" {
		return nil
	}
	if err := os.Chown(path, id.uid, id.gid); err != nil {
		return fmt.Errorf("devstack: giving a server's file to user %s: %w", id.name, err)
	}
	return nil
}

func ownerOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return os.Geteuid()
}

func groupOf(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Gid)
	}
	return os.Getegid()
}

func userName(uid int) string {
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return strconv.Itoa(uid)
	}
	return u.Username
}
