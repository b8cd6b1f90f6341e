package devstack_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/devstack"
)

// parentVariable makes the test binary a parent of servers that waits to be killed.
const parentVariable = "DEVSTACK_TEST_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentVariable); dir != "" {
		os.Exit(beParent(dir))
	}
	os.Exit(m.Run())
}

// beParent starts servers, says so, and waits until its input ends.
func beParent(dir string) int {
	if _, err := devstack.Start(context.Background(), options(dir)); err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// startParent runs this test binary as a parent of servers below dir, and returns once they are ready.
func startParent(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), parentVariable+"="+dir)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	must(t, err)
	t.Cleanup(func() { _ = stdin.Close() })
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	if strings.TrimSpace(line) != "ready" {
		t.Fatalf("the parent said %q", line)
	}
	return cmd
}

func options(dir string) devstack.Options {
	return devstack.Options{
		Dir:              dir,
		Log:              slog.New(slog.DiscardHandler),
		PostgresSettings: map[string]string{"shared_buffers": "16MB", "fsync": "off"},
	}
}

// start starts a stack that the end of the test stops, unless the test has.
func start(t *testing.T, o devstack.Options) *devstack.Stack {
	t.Helper()
	s, err := devstack.Start(t.Context(), o)
	must(t, err)
	t.Cleanup(func() { stop(t, s) })
	return s
}

func stop(t *testing.T, s *devstack.Stack) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := s.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls a condition until it holds; the deadline is far beyond what a loaded machine needs.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("never came true: %s", what)
		case <-tick.C:
		}
	}
}

// queryOne returns the one value a query answers with.
func queryOne[T any](ctx context.Context, databaseURL, sql string) (T, error) {
	var v T
	conn, err := pgx.Connect(ctx, databaseURL)
	if err != nil {
		return v, err
	}
	defer func() { _ = conn.Close(ctx) }()
	err = conn.QueryRow(ctx, sql).Scan(&v)
	return v, err
}

func exec1(t *testing.T, databaseURL, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	must(t, err)
	_, err = conn.Exec(t.Context(), sql)
	must(t, err)
	must(t, conn.Close(t.Context()))
}

// withRedis runs do with a client of a Redis.
func withRedis(t *testing.T, url string, do func(*redis.Client)) {
	t.Helper()
	o, err := redis.ParseURL(url)
	must(t, err)
	client := redis.NewClient(o)
	do(client)
	must(t, client.Close())
}

// withJetStream runs do with a client of a NATS server.
func withJetStream(t *testing.T, url string, do func(jetstream.JetStream)) {
	t.Helper()
	conn, err := nats.Connect(url)
	must(t, err)
	defer conn.Close()
	js, err := jetstream.New(conn)
	must(t, err)
	do(js)
}
