package web_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/web"
)

const patience = 10 * time.Second

// running is a server under test.
type running struct {
	url  string
	stop context.CancelFunc
	done chan error
}

func serve(t *testing.T, o web.Options) running {
	t.Helper()
	l, err := web.Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o.Logger = slog.New(slog.DiscardHandler)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	r := running{url: "http://" + l.Addr().String(), stop: cancel, done: make(chan error, 1)}
	go func() { r.done <- web.Serve(ctx, l, o) }()
	return r
}

func (r running) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		t.Fatal("the server does not end")
		return nil
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// TestDrain checks the order of an end: not ready but still serving, then streams, then requests, then nothing.
func TestDrain(t *testing.T) {
	begun, finish, drained := make(chan struct{}), make(chan struct{}), make(chan struct{})
	health := &web.Health{}
	r := serve(t, web.Options{
		Health: health, DrainDelay: 300 * time.Millisecond,
		Drain: func(context.Context) error { close(drained); return nil },
		Handler: health.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				close(begun)
				<-finish
				if r.Context().Err() != nil {
					t.Error("the request was cut off")
				}
			}
			_, _ = io.WriteString(w, "served")
		})),
	})
	if status, body := get(t, r.url+"/readyz"); status != 200 || body != "ready\n" {
		t.Errorf("%d %s", status, body)
	}
	slow := make(chan string, 1)
	go func() {
		res, err := http.Get(r.url + "/slow")
		if err != nil {
			slow <- err.Error()
			return
		}
		defer func() { _ = res.Body.Close() }()
		body, _ := io.ReadAll(res.Body)
		slow <- string(body)
	}()
	<-begun
	r.stop()
	for deadline := time.Now().Add(patience); ; {
		status, body := get(t, r.url+"/readyz")
		if status == http.StatusServiceUnavailable {
			if body != "not ready: shutting down\n" {
				t.Error(body)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("still ready")
		}
	}
	if status, _ := get(t, r.url+"/"); status != 200 {
		t.Errorf("while balancers are waited for the status is %d", status)
	}
	if status, _ := get(t, r.url+"/healthz"); status != 200 {
		t.Errorf("while balancers are waited for healthz is %d", status)
	}
	<-drained
	close(finish)
	if got := <-slow; got != "served" {
		t.Errorf("the slow request got %q", got)
	}
	if err := r.ended(t); err != nil {
		t.Error(err)
	}
	if conn, err := net.Dial("tcp", strings.TrimPrefix(r.url, "http://")); err == nil {
		_ = conn.Close()
		t.Error("the server still takes connections")
	}
}

// TestDrainTimeout checks that what does not end is cut off, and said.
func TestDrainTimeout(t *testing.T) {
	begun := make(chan struct{})
	r := serve(t, web.Options{DrainTimeout: 50 * time.Millisecond, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(begun)
		<-r.Context().Done()
	})})
	failed := make(chan error, 1)
	go func() {
		res, err := http.Get(r.url)
		if err == nil {
			_ = res.Body.Close()
		}
		failed <- err
	}()
	<-begun
	r.stop()
	if err := r.ended(t); err == nil || !strings.Contains(err.Error(), "cut off after 50ms") {
		t.Errorf("the error is %v", err)
	}
	if <-failed == nil {
		t.Error("the request was answered")
	}
}

// TestHealth checks that a process that cannot serve says why, and lives all the same.
func TestHealth(t *testing.T) {
	health := &web.Health{
		Ready:   func(context.Context) error { return errors.New("no read models yet") },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "up 1\n") }),
	}
	server := httptest.NewServer(health.Handler(nil))
	defer server.Close()
	degraded := httptest.NewServer((&web.Health{LeftAlone: func() []string { return []string{"replica 1", "redis answers"} }}).Handler(nil))
	defer degraded.Close()
	if status, body := get(t, degraded.URL+"/readyz"); status != 200 || body != "ready\nwithout replica 1\nwithout redis answers\n" {
		t.Errorf("without some servers: %d %q", status, body)
	}
	for path, want := range map[string]struct {
		status int
		body   string
	}{
		"/healthz": {200, "ok\n"}, "/readyz": {503, "not ready: no read models yet\n"}, "/metrics": {200, "up 1\n"}, "/": {404, "404 page not found\n"},
	} {
		if status, body := get(t, server.URL+path); status != want.status || body != want.body {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
}

// TestLimits checks that a client cannot hold a connection by sending a header without end.
func TestLimits(t *testing.T) {
	r := serve(t, web.Options{Handler: http.NotFoundHandler()})
	req, err := http.NewRequest(http.MethodGet, r.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Large", strings.Repeat("x", 80<<10))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("the status is %s", res.Status)
	}
	r.stop()
	if err := r.ended(t); err != nil {
		t.Error(err)
	}
}

// TestListen checks the sentence about an address in use.
func TestListen(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	_, err = web.Listen(context.Background(), l.Addr().String())
	if want := "cannot listen on " + l.Addr().String() + ": bind: address already in use"; err == nil || err.Error() != want {
		t.Errorf("the error is %v", err)
	}
}

// TestCORS checks what browsers of other origins are allowed.
func TestCORS(t *testing.T) {
	origins, err := web.ParseOrigins(" https://shop.example , http://localhost:3000/")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(web.CORS(origins, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Vary", "Accept")
	})))
	defer server.Close()
	ask := func(method, origin, requested string) http.Header {
		req, err := http.NewRequest(method, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"Origin": origin, "Access-Control-Request-Method": requested} {
			if value != "" {
				req.Header.Set(name, value)
			}
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		return res.Header
	}
	for _, c := range []struct{ method, origin, requested, allowed, headers string }{
		{"GET", "https://shop.example", "", "https://shop.example", ""},
		{"GET", "http://localhost:3000", "", "http://localhost:3000", ""},
		{"GET", "https://evil.example", "", "", ""},
		{"GET", "", "", "", ""},
		{"OPTIONS", "https://shop.example", "POST", "https://shop.example", "Accept, Authorization, Content-Type, Idempotency-Key, If-None-Match, Millrace-Position, Traceparent"},
		{"OPTIONS", "https://evil.example", "POST", "", ""},
	} {
		header := ask(c.method, c.origin, c.requested)
		if got := header.Get("Access-Control-Allow-Origin"); got != c.allowed {
			t.Errorf("%s from %q: allowed is %q", c.method, c.origin, got)
		}
		if got := header.Get("Access-Control-Allow-Headers"); got != c.headers {
			t.Errorf("%s from %q: headers are %q", c.method, c.origin, got)
		}
		if got := header.Get("Access-Control-Expose-Headers"); (c.allowed != "") != strings.Contains(got, "Millrace-Position, Retry-After, RateLimit-Limit") {
			t.Errorf("%s from %q: exposed are %q", c.method, c.origin, got)
		}
		if got := header.Values("Vary"); len(got) == 0 || got[0] != "Origin" {
			t.Errorf("%s from %q: Vary is %q", c.method, c.origin, got)
		}
	}
	for _, list := range []string{"shop.example", "https://", "https://shop.example/path", "https://a.example,b"} {
		if _, err := web.ParseOrigins(list); err == nil {
			t.Errorf("%q is taken for origins", list)
		}
	}
	if none, err := web.ParseOrigins(" , "); err != nil || none != nil {
		t.Errorf("no origins are %v, %v", none, err)
	}
}

// TestLongHeaders checks that the limit of a header is where it is said to be.
func TestLongHeaders(t *testing.T) {
	l, err := web.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- web.Serve(ctx, l, web.Options{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), Logger: slog.New(slog.DiscardHandler)})
	}()
	for length, want := range map[int]int{64_000: http.StatusOK, 66_000: http.StatusRequestHeaderFieldsTooLarge} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String(), nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Close = true // on a connection that was used before, net/http does not count the first 4 KiB
		r.Header.Set("X-Long", strings.Repeat("x", length))
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != want {
			t.Errorf("a header of %d bytes: %d, not %d", length, response.StatusCode, want)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
