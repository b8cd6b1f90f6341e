package web_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/millrace/millrace/internal/web"
)

// TestConnections checks that one connection more than there may be is refused at once, and that its place comes free.
func TestConnections(t *testing.T) {
	metrics := prometheus.NewRegistry()
	l, err := web.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l = web.LimitConnections(l, 2, metrics)
	done := make(chan error, 1)
	go func() {
		done <- web.Serve(t.Context(), l, web.Options{
			Logger: slog.New(slog.DiscardHandler), Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "served") }),
		})
	}()
	connect := func() net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(patience))
		return c
	}
	get := func(c net.Conn) string {
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: shop\r\n\r\n"); err != nil {
			return err.Error()
		}
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err.Error()
		}
		defer func() { _ = res.Body.Close() }()
		return fmt.Sprint(res.StatusCode, " ", res.Header.Get("Retry-After"))
	}
	one, two := connect(), connect()
	if a, b := get(one), get(two); a != "200 " || b != "200 " {
		t.Fatalf("the first connections hear %s and %s", a, b)
	}
	if got := get(connect()); got != "503 1" {
		t.Errorf("the third connection hears %s", got)
	}
	if got := get(one); got != "200 " {
		t.Errorf("the first connection hears %s afterwards", got)
	}
	if err := testutil.GatherAndCompare(metrics, strings.NewReader(`
# HELP millrace_http_connections Connections of clients that are open.
# TYPE millrace_http_connections gauge
millrace_http_connections 2
# HELP millrace_http_connections_refused_total Connections refused because as many were open as may be.
# TYPE millrace_http_connections_refused_total counter
millrace_http_connections_refused_total 1
`)); err != nil {
		t.Error(err)
	}
	_ = two.Close()
	for deadline := time.Now().Add(patience); get(connect()) != "200 "; {
		if time.Now().After(deadline) {
			t.Fatal("the place does not come free")
		}
	}
	_ = l.Close()
	<-done
}
