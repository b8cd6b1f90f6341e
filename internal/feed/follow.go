package feed

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/jetstreamlog"
)

var (
	errDisconnected = errors.New("feed: NATS cannot be reached")
	errSilent       = errors.New("feed: JetStream has stopped sending heartbeats")
	errMoved        = errors.New("feed: the log has moved to another stream")
)

// follow reads from JetStream in sessions, one consumer each, until ctx ends.
func (f *Feed) follow(ctx context.Context) error {
	js, err := jetstream.New(f.nats)
	if err != nil {
		return fmt.Errorf("feed: %w", err)
	}
	status := f.nats.StatusChanged()
	defer f.nats.RemoveStatusListener(status)
	g, ctx := errgroup.WithContext(ctx)
	link := &link{connected: make(chan struct{}, 1)}
	g.Go(func() error { link.watch(ctx, status); return nil })
	g.Go(func() error {
		retry := newBackoff(50*time.Millisecond, time.Second)
		for {
			err := f.connectedSession(ctx, js, link, retry)
			f.setLive(false)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if retry.first() {
				level := slog.LevelWarn
				if errors.Is(err, jetstreamlog.ErrNoStream) && f.trusted == "" { // as when a log is new: its relay makes one
					level = slog.LevelInfo
				}
				f.logger.Log(ctx, level, "JetStream does not deliver; Postgres is tailed instead", "error", err)
			}
			if err := retry.wait(ctx, link.connected); err != nil {
				return err
			}
		}
	})
	return g.Wait()
}

// link tells sessions when the connection goes away and comes back.
type link struct {
	connected chan struct{}

	mu     sync.Mutex
	cancel context.CancelFunc // of the session that runs
}

func (l *link) watch(ctx context.Context, status <-chan nats.Status) {
	for {
		select {
		case s := <-status:
			if s == nats.CONNECTED {
				select {
				case l.connected <- struct{}{}:
				default:
				}
				continue
			}
			l.mu.Lock()
			if l.cancel != nil {
				l.cancel()
			}
			l.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// hold makes cancel what ends when the connection goes away.
func (l *link) hold(cancel context.CancelFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel = cancel
}

// connectedSession runs a session that ends with the connection.
func (f *Feed) connectedSession(ctx context.Context, js jetstream.JetStream, link *link, retry *backoff) error {
	sessionCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	link.hold(cancel)
	defer link.hold(nil)
	if !f.nats.IsConnected() {
		return errDisconnected
	}
	err := (&session{Feed: f, js: js, retry: retry, arrived: make(chan struct{}, 1)}).run(sessionCtx)
	if sessionCtx.Err() != nil && ctx.Err() == nil {
		return errDisconnected
	}
	return err
}
