package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/devstack/stacktest"
)

// beMillrace makes the test binary the program itself, so that tests have real processes to kill.
const beMillrace = "MILLRACE_TEST_BE_MILLRACE"

func TestMain(m *testing.M) {
	if os.Getenv(beMillrace) != "" {
		breakPromises()
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
		stop()
		os.Exit(code)
	}
	stacktest.Main(m)
}

// child is one process of millrace.
type child struct {
	t    *testing.T
	args []string
	env  []string
	cmd  *exec.Cmd
	out  *safeBuffer
	done chan struct{}
}

// safeBuffer takes what a process prints while a test reads it.
type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// spawn starts a process of millrace that is killed when the test ends.
func spawn(t *testing.T, env []string, args ...string) *child {
	t.Helper()
	c := &child{t: t, args: args, env: env}
	c.start()
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			t.Logf("millrace %s printed:\n%s", strings.Join(args, " "), c.out)
		}
	})
	return c
}

func (c *child) start() {
	c.t.Helper()
	if c.out == nil {
		c.out = &safeBuffer{}
	}
	c.cmd = exec.Command(os.Args[0], c.args...)
	c.cmd.Env = append(append(os.Environ(), beMillrace+"=1"), c.env...)
	c.cmd.Stdout, c.cmd.Stderr = c.out, c.out
	if err := c.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	done := make(chan struct{})
	c.done = done
	cmd := c.cmd
	go func() {
		defer close(done)
		_ = cmd.Wait() // how it ended is read from its state
	}()
}

// kill ends the process as kill -9 does.
func (c *child) kill() {
	_ = c.cmd.Process.Kill() // it may have ended
	<-c.done
}

// stop asks the process to end, and returns its exit code.
func (c *child) stop() int {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	select {
	case <-c.done:
	case <-time.After(30 * time.Second):
		c.t.Fatalf("millrace %s did not end", strings.Join(c.args, " "))
	}
	return c.cmd.ProcessState.ExitCode()
}

// await polls until the condition holds.
func await(t *testing.T, what string, within time.Duration, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			t.Fatalf("waited %s for %s", within, what)
		case <-tick.C:
		}
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func ready(addr string) bool {
	r, err := http.Get("http://" + addr + "/readyz")
	if err != nil {
		return false
	}
	_ = r.Body.Close()
	return r.StatusCode == http.StatusOK
}

const testStaffToken = "staff-token-of-the-tests"

// answer is a GraphQL answer.
type answer struct {
	Data   json.RawMessage `json:"data"`
	Errors []struct {
		Message    string         `json:"message"`
		Extensions map[string]any `json:"extensions"`
	} `json:"errors"`
	Extensions map[string]any `json:"extensions"`

	header http.Header
}

// ask sends a GraphQL request.
func ask(ctx context.Context, url, query string, variables map[string]any) (*answer, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	body, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return exchange(r)
}

// exchange sends a request as staff and reads the answer. Errors in it are an error too.
func exchange(r *http.Request) (*answer, error) {
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+testStaffToken)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	content, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	a := answer{header: response.Header}
	if err := json.Unmarshal(content, &a); err != nil {
		return nil, fmt.Errorf("status %d: %q: %w", response.StatusCode, content, err)
	}
	if len(a.Errors) > 0 {
		return &a, fmt.Errorf("%v: %s", a.Errors[0].Extensions["code"], a.Errors[0].Message)
	}
	return &a, nil
}

// mustAsk asks and decodes the data.
func mustAsk(t *testing.T, url, query string, variables map[string]any, into any) {
	t.Helper()
	a, err := ask(t.Context(), url, query, variables)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	if err := json.Unmarshal(a.Data, into); err != nil {
		t.Fatalf("%s: %s: %v", query, a.Data, err)
	}
}

func connect(t *testing.T, url string) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// countEvents counts the events of a log by type; "" is all of them.
func countEvents(t *testing.T, pool *pgxpool.Pool) map[string]int {
	t.Helper()
	rows, err := pool.Query(t.Context(), `SELECT type, count(*) FROM events GROUP BY type`)
	if err != nil {
		t.Fatal(err)
	}
	counts := map[string]int{}
	var eventType string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&eventType, &n}, func() error {
		counts[eventType] = n
		counts[""] += n
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return counts
}
