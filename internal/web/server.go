package web

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of every server.
const (
	readHeaderTimeout = 5 * time.Second
	// readTimeout is for a whole request; handlers that stream lift it.
	readTimeout = 30 * time.Second
	// writeTimeout is for a whole answer; handlers that stream set another for each part of it.
	writeTimeout   = 60 * time.Second
	idleTimeout    = 120 * time.Second
	maxHeaderBytes = 64<<10 - headerSlack
	// headerSlack is what net/http lets headers have beyond MaxHeaderBytes.
	headerSlack = 4 << 10
)

// Options are a server's parts.
type Options struct {
	// Handler serves everything.
	Handler http.Handler
	// Glance, if not nil, is asked about requests that come while there are too many, as Crowded tells, before Handler is. It answers those that need no
	// more than a look, and writes nothing of any other. It has to be quick, and reads no more than a short body.
	Glance  http.Handler
	Crowded func() bool
	// Health, if not nil, is told to stop being ready when the server drains.
	Health *Health
	// DrainDelay is how long the server goes on as before once it is no longer ready, for balancers to notice.
	DrainDelay time.Duration
	// DrainTimeout is how long requests may take to end after that; 0 means 20 s. What still runs then is cut off.
	DrainTimeout time.Duration
	// Drain, if not nil, ends what the server does not know: sockets and streams. It is called once the server takes no
	// new connections.
	Drain func(ctx context.Context) error
	// Logger is nil for slog.Default.
	Logger *slog.Logger
}

// Listen listens on an address, with an error that says in one sentence what is wrong with it.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot listen on %s: %w", address, cause(err))
	}
	return l, nil
}

// cause leaves out what the operating system's error repeats of the address.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}

// Serve serves on the listener until ctx ends, and then drains: it stops being ready, waits for DrainDelay, takes no new
// connections, ends streams, and lets requests end. It returns nil when all of that came to its end.
func Serve(ctx context.Context, l net.Listener, o Options) error {
	o.Logger = cmp.Or(o.Logger, slog.Default())
	o.DrainTimeout = cmp.Or(o.DrainTimeout, 20*time.Second)
	server := &http.Server{
		Handler: o.Handler, ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout,
		WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeaderBytes,
		ErrorLog: slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
		// Requests go on while the server drains, so that they do not end with ctx.
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	var d *door
	if o.Glance != nil {
		d = &door{glance: o.Glance, crowded: o.Crowded}
		l, server.ConnState = d.listen(l), d.state
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("web: serving on %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	if o.Health != nil {
		o.Health.Drain()
	}
	wait(o.DrainDelay, served)
	err := drain(context.WithoutCancel(ctx), server, d, o)
	if stopped := <-served; err == nil && !errors.Is(stopped, http.ErrServerClosed) {
		err = fmt.Errorf("web: serving on %s: %w", l.Addr(), stopped)
	}
	return err
}

// wait lets time pass, unless the server ends by itself.
func wait(d time.Duration, served chan error) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case err := <-served:
		served <- err
	}
}

// drain ends streams and requests, by force when they take too long.
func drain(ctx context.Context, server *http.Server, d *door, o Options) error {
	ctx, cancel := context.WithTimeout(ctx, o.DrainTimeout)
	defer cancel()
	if d != nil {
		d.close(ctx) // the server takes connections for idle on which the door is answering
	}
	streams := make(chan error, 1)
	go func() {
		if o.Drain == nil {
			streams <- nil
			return
		}
		streams <- o.Drain(ctx)
	}()
	err := server.Shutdown(ctx)
	err = errors.Join(err, <-streams)
	if err == nil {
		return nil
	}
	if closed := server.Close(); closed != nil {
		err = errors.Join(err, closed)
	}
	return fmt.Errorf("web: requests were cut off after %s: %w", o.DrainTimeout, err)
}
