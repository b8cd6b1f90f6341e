package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/millrace/millrace/internal/es"
)

const (
	// maxRun is the number of events in a run; runBytes bounds their data and metadata.
	maxRun   = 1000
	runBytes = 4 << 20
	// maxFlight is the number of runs on their way at once: the next is read while JetStream works on the last.
	maxFlight = 2
	// busyPoll is how often the log is looked at without being told to, for idleAfter since the last event;
	// idlePoll is how often from then on.
	busyPoll  = 25 * time.Millisecond
	idlePoll  = 250 * time.Millisecond
	idleAfter = 5 * time.Second
	// recheck is how long a sitting without events lasts: the next one makes sure of the stream again.
	recheck = 2 * time.Second
	// requestTimeout bounds a request to JetStream and a query of Postgres.
	requestTimeout = 5 * time.Second
)

var (
	// errAgain says that the stream has to be looked at again, which is nothing out of the ordinary: a rival
	// relay was faster, for example.
	errAgain        = errors.New("relay: the stream has changed")
	errDisconnected = errors.New("relay: NATS cannot be reached")
)

// sitting makes sure of the stream and then follows the log, until something goes wrong or nothing happens for a
// while. With careful set it goes one event at a time until JetStream takes one. It reports whether it got on.
func (r *Relay) sitting(ctx context.Context, status <-chan nats.Status, careful bool) (progress bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	defer func() {
		cancel(nil)
		<-watched
	}()
	go func() {
		defer close(watched)
		endWithConnection(ctx, cancel, status)
	}()
	if !r.NATS.IsConnected() {
		return false, errDisconnected
	}
	stream, last, err := r.open(ctx)
	if err != nil {
		return false, causeOf(ctx, err)
	}
	r.last = last
	r.report()
	p, err := newPublisher(r, stream)
	if err != nil {
		return false, err
	}
	defer p.close()
	progress, err = r.follow(ctx, p, last, careful)
	return progress, causeOf(ctx, err)
}

// follow publishes what lies behind a position, with up to maxFlight runs on their way, until nothing has happened
// for a while.
func (r *Relay) follow(ctx context.Context, p *publisher, sent int64, careful bool) (progress bool, err error) {
	limit, flights := maxRun, maxFlight
	if careful {
		limit, flights = 1, 1
	}
	look, quietSince := true, time.Now() // look: the log may hold more than was heard of
	for time.Since(quietSince) < recheck {
		run, heard := r.offers.take(sent, limit)
		if len(run) == 0 && (look || heard > sent) {
			if run, err = r.read(ctx, sent, limit); err != nil {
				return progress, err
			}
			look = len(run) == limit
		}
		if len(run) > 0 {
			run = within(run, runBytes)
			if err := p.send(run); err != nil {
				return progress, err
			}
			sent = run[len(run)-1].Position
		}
		switch {
		case len(p.flight) >= flights, len(run) == 0 && len(p.flight) > 0:
			last, n, err := p.await(ctx)
			if err != nil {
				r.metrics.refusals.Inc()
				return progress, err
			}
			progress, limit, flights, quietSince = true, maxRun, maxFlight, time.Now()
			r.busy = quietSince
			r.metrics.published.Add(float64(n))
			r.last = last
			r.offers.hear(sent)
			r.report()
		case len(run) == 0:
			progress = true // nothing to do is as good as done
			if look, err = r.rest(ctx); err != nil {
				return progress, err
			}
		}
	}
	return progress, nil
}

// within returns the first of the events whose data and metadata do not exceed a number of bytes, at least one. What
// is left over is read again.
func within(run []es.Event, bytes int) []es.Event {
	for i := range run {
		if bytes -= len(run[i].Data) + len(run[i].Metadata); bytes < 0 && i > 0 {
			return run[:i]
		}
	}
	return run
}

// causeOf prefers the reason for which the sitting was ended to the error that this led to.
func causeOf(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// endWithConnection cancels a sitting when NATS goes away, so that it does not wait for answers in vain.
func endWithConnection(ctx context.Context, cancel context.CancelCauseFunc, status <-chan nats.Status) {
	for {
		select {
		case s := <-status:
			if s != nats.CONNECTED {
				cancel(errDisconnected)
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// rest waits until there may be something to do. It reports whether the log has to be looked at to find out.
func (r *Relay) rest(ctx context.Context) (look bool, err error) {
	poll := busyPoll
	if time.Since(r.busy) > idleAfter {
		poll = idlePoll
	}
	timer := time.NewTimer(poll)
	defer timer.Stop()
	select {
	case <-r.wake:
		return false, nil
	case <-timer.C:
		return true, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// read returns the events behind a position from the log.
func (r *Relay) read(ctx context.Context, after int64, limit int) ([]es.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	run, err := r.Log.ReadAll(ctx, after, limit)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	for i := range run {
		if want := after + 1 + int64(i); run[i].Position != want {
			return nil, fmt.Errorf("relay: the log has a hole: position %d follows %d", run[i].Position, want-1)
		}
	}
	return run, nil
}
