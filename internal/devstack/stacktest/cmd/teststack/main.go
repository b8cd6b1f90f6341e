// Command teststack runs a command, usually go test, with one set of private real servers that all its processes share.
//
//	go run ./internal/devstack/stacktest/cmd/teststack -- go test -race ./...
//
// The servers live in a temporary directory and are gone when the command has ended. Its exit code is the command's.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/millrace/millrace/internal/devstack"
	"github.com/millrace/millrace/internal/devstack/stacktest"
)

const (
	exitUsage    = 2
	exitFailure  = 1
	startTimeout = 2 * time.Minute
	stopTimeout  = time.Minute
	// patience is how long the command may take to end when it is asked to.
	patience = 20 * time.Second
)

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: teststack -- command [argument ...]")
		os.Exit(exitUsage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, args)
	stop()
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		os.Exit(exit.ExitCode())
	default:
		fmt.Fprintln(os.Stderr, "teststack:", err)
		os.Exit(exitFailure)
	}
}

// run starts the servers, runs the command and stops them.
func run(ctx context.Context, args []string) (err error) {
	dir, err := os.MkdirTemp("", "millrace-test-*")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	startCtx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	stack, err := stacktest.StartStack(startCtx, filepath.Join(dir, "stack"))
	if err != nil {
		return err
	}
	defer func() {
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
		defer cancel()
		err = errors.Join(err, stack.Stop(stopCtx))
	}()
	file := filepath.Join(dir, "endpoints.json")
	if err := devstack.WriteEndpoints(file, stack.Endpoints()); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = patience
	cmd.Env = append(os.Environ(), stacktest.StackVariable+"="+file)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd.Run()
}
