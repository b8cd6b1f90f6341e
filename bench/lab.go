package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// lab holds the servers of a run. Only those that the present bench uses are running: idle ones would take their share of
// the machine.
type lab struct {
	Options
	dir string

	appending *appendServer
	shop      *shop
}

const stopTimeout = time.Minute

func openLab(o Options) (*lab, error) {
	// /tmp is in memory on many machines, where a commit costs nothing.
	parent := cmp.Or(o.Dir, os.Getenv("TMPDIR"), "/var/tmp")
	dir, err := os.MkdirTemp(parent, "millrace-bench-*")
	if err != nil {
		return nil, fmt.Errorf("bench: making a directory for the servers: %w", err)
	}
	// The servers may run as another user, who has to pass through.
	if err := os.Chmod(dir, 0o711); err != nil { // what is secret below has modes of its own
		return nil, errors.Join(fmt.Errorf("bench: opening the directory to the servers: %w", err), os.RemoveAll(dir))
	}
	return &lab{Options: o, dir: dir}, nil
}

// say tells the person who waits what happens.
func (l *lab) say(format string, args ...any) {
	_, _ = fmt.Fprintf(l.Progress, format+"\n", args...) // who does not listen misses nothing else
}

// appendOn returns the server for the append benches, started if need be.
func (l *lab) appendOn(ctx context.Context) (*appendServer, error) {
	if l.appending != nil {
		return l.appending, nil
	}
	if err := l.stopShop(); err != nil {
		return nil, err
	}
	var err error
	l.appending, err = l.startAppendServer(ctx)
	return l.appending, err
}

// shopOf returns a running shop of the kind, started if need be.
func (l *lab) shopOf(ctx context.Context, k shopKind) (*shop, error) {
	if l.shop != nil && l.shop.kind == k {
		return l.shop, nil
	}
	if err := errors.Join(l.stopAppending(ctx), l.stopShop()); err != nil {
		return nil, err
	}
	var err error
	l.shop, err = l.startShop(ctx, k)
	return l.shop, err
}

func (l *lab) stopAppending(ctx context.Context) error {
	s := l.appending
	l.appending = nil
	if s == nil {
		return nil
	}
	return s.stop(ctx)
}

func (l *lab) stopShop() error {
	s := l.shop
	l.shop = nil
	if s == nil {
		return nil
	}
	return s.stop()
}

// close stops what runs and removes what was made.
func (l *lab) close(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	return errors.Join(l.stopAppending(ctx), l.stopShop(), os.RemoveAll(l.dir))
}

// newDir returns a directory for servers that does not exist yet.
func (l *lab) newDir(name string) string { return filepath.Join(l.dir, name) }
