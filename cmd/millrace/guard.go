package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/internal/breaker"
	"github.com/millrace/millrace/internal/es"
)

// logReadTimeout bounds a read of the log for a request: of a stream, or of a page.
const logReadTimeout = 3 * time.Second

// guard keeps calls from the primary while it does not answer any.
type guard struct{ *breaker.Breaker }

// newGuard returns a guard of which the process's metrics and readiness tell.
func (s *shop) newGuard(name string) guard {
	g := s.newSilentGuard(name)
	s.tellOf(g)
	return g
}

// newSilentGuard is newGuard for a part that tells readiness itself.
func (s *shop) newSilentGuard(name string) guard {
	return guard{breaker.New(breaker.Options{Name: name, Logger: s.logger, Metrics: s.registry})}
}

// refuses returns an error if a call may not be made. One that may has to be told to ended.
func (g guard) refuses() error {
	if g.Allow() {
		return nil
	}
	return g.refusal()
}

func (g guard) refusal() error {
	return fmt.Errorf("%w: %s: PostgreSQL is left alone for a while, because it did not answer", es.ErrUnavailable, g.Name())
}

// ended takes down how a call ended that was made with ctx.
func (g guard) ended(ctx context.Context, err error) {
	var newer *es.UnknownTypeError
	switch {
	case !errors.Is(err, es.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled), errors.As(err, &newer):
		g.Succeeded() // it was answered, with whatever
	case errors.Is(ctx.Err(), context.Canceled): // the client has gone
		g.Abandoned()
	default:
		g.Failed()
	}
}

// guardedReader reads the log for requests.
type guardedReader struct {
	es.Reader
	guard
}

// ReadAll implements [es.Reader].
func (r guardedReader) ReadAll(ctx context.Context, after int64, limit int) (events []es.Event, err error) {
	err = r.read(ctx, func(ctx context.Context) (err error) {
		events, err = r.Reader.ReadAll(ctx, after, limit)
		return err
	})
	return events, err
}

// ReadStream implements [es.Reader].
func (r guardedReader) ReadStream(ctx context.Context, stream string, afterVersion int64, limit int) (events []es.Event, err error) {
	err = r.read(ctx, func(ctx context.Context) (err error) {
		events, err = r.Reader.ReadStream(ctx, stream, afterVersion, limit)
		return err
	})
	return events, err
}

func (r guardedReader) read(ctx context.Context, read func(context.Context) error) error {
	if err := r.refuses(); err != nil {
		return err
	}
	bounded, cancel := context.WithTimeout(ctx, logReadTimeout)
	defer cancel()
	err := read(bounded)
	r.ended(ctx, err)
	if err != nil && ctx.Err() == nil && bounded.Err() != nil {
		return fmt.Errorf("%w: no answer within %s", es.ErrUnavailable, logReadTimeout)
	}
	return err
}

// guardedExecutor executes commands.
type guardedExecutor struct {
	es.Executor
	guard
}

// Execute implements [es.Executor].
func (x guardedExecutor) Execute(ctx context.Context, c es.Command) (es.Outcome, error) {
	if err := x.refuses(); err != nil {
		return es.Outcome{}, fmt.Errorf("%s: %w", c.Name, err)
	}
	outcome, err := x.Executor.Execute(ctx, c)
	x.ended(ctx, err)
	return outcome, err
}

// DryRun implements [es.Executor]. Most of them ask no server, so that how they end says nothing of one.
func (x guardedExecutor) DryRun(ctx context.Context, c es.Command) error {
	if x.Waits() {
		return fmt.Errorf("%s: %w", c.Name, x.refusal())
	}
	return x.Executor.DryRun(ctx, c)
}

// guardedVault seals what commands record, and makes keys for it.
type guardedVault struct {
	commands.Vault
	guard
}

// KeyOf implements [commands.Vault].
func (v guardedVault) KeyOf(ctx context.Context, subject string) (key string, err error) {
	if err := v.refuses(); err != nil {
		return "", err
	}
	key, err = v.Vault.KeyOf(ctx, subject)
	v.ended(ctx, err)
	return key, err
}

// Forget implements [commands.Vault].
func (v guardedVault) Forget(ctx context.Context, subject, key string) error {
	if err := v.refuses(); err != nil {
		return err
	}
	err := v.Vault.Forget(ctx, subject, key)
	v.ended(ctx, err)
	return err
}

// Seal implements [commands.Vault].
func (v guardedVault) Seal(ctx context.Context, subject string, plaintext []byte) (key string, box []byte, err error) {
	if err := v.refuses(); err != nil {
		return "", nil, err
	}
	key, box, err = v.Vault.Seal(ctx, subject, plaintext)
	v.ended(ctx, err)
	return key, box, err
}
