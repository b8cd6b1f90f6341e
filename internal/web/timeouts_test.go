package web_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/millrace/millrace/internal/web"
)

// pipes is a listener whose connections are pipes: their time is that of the test.
type pipes struct {
	connections chan net.Conn
	closed      chan struct{}
	close       func()
}

func newPipes() *pipes {
	p := &pipes{connections: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.connections:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.close()
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.connections <- theirs
	return ours
}

// TestTimeouts has clients that are slow in every way, and checks when the server gives up on each.
func TestTimeouts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newPipes()
		ctx, stop := context.WithCancel(t.Context())
		failed := make(chan time.Duration, 1) // when the handler could go on no more
		done := make(chan error, 1)
		go func() {
			done <- web.Serve(ctx, l, web.Options{
				Logger: slog.New(slog.DiscardHandler), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					began := time.Now()
					switch r.URL.Path {
					case "/upload":
						if _, err := io.Copy(io.Discard, r.Body); err != nil {
							failed <- time.Since(began)
						}
					case "/download":
						if _, err := w.Write(make([]byte, 1<<20)); err != nil {
							failed <- time.Since(began)
						}
					}
				}),
			})
		}()
		hungUp := func(c net.Conn) time.Duration {
			began := time.Now()
			if _, err := io.Copy(io.Discard, c); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrClosedPipe) {
				t.Error(err)
			}
			return time.Since(began)
		}
		say := func(c net.Conn, text string) net.Conn {
			if _, err := io.WriteString(c, text); err != nil {
				t.Error(err)
			}
			return c
		}
		check := func(what string, took, want time.Duration) {
			t.Helper()
			if took != want {
				t.Errorf("%s: given up on after %v, not %v", what, took, want)
			}
		}
		const begin, host = "GET / HTTP/1.1\r\n", "Host: shop\r\n"

		check("nothing is said", hungUp(l.dial()), 5*time.Second)
		check("a header without an end", hungUp(say(l.dial(), begin+host)), 5*time.Second)

		upload := say(l.dial(), "POST /upload HTTP/1.1\r\n"+host+"Content-Length: 10\r\n\r\nhalf")
		check("a body without an end", <-failed, 30*time.Second)
		_ = upload.Close()

		download := say(l.dial(), "GET /download HTTP/1.1\r\n"+host+"\r\n")
		check("an answer that nobody takes", <-failed, 60*time.Second)
		_ = download.Close()

		idle := say(l.dial(), begin+host+"\r\n")
		res, err := http.ReadResponse(bufio.NewReader(idle), nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		check("a connection on which nothing is asked", hungUp(idle), 120*time.Second)

		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
