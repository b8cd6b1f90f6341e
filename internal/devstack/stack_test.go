package devstack_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/devstack"
)

// One test, because what it needs costs seconds: the first start, everything written, and the second start, below a
// directory that only its owner can enter.
func TestSecondStartKeepsDataAndPorts(t *testing.T) {
	t.Parallel()
	closed := filepath.Join(t.TempDir(), "closed")
	must(t, os.Mkdir(closed, 0o700))
	dir := filepath.Join(closed, "with 'a quote", ".millrace")

	first := start(t, options(dir))
	exec1(t, first.PostgresURL(), `CREATE TABLE kept AS SELECT 42 AS answer`)
	withRedis(t, first.RedisURL(), func(c *redis.Client) { must(t, c.Set(t.Context(), "kept", "42", 0).Err()) })
	withJetStream(t, first.NATSURL(), func(js jetstream.JetStream) {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "kept", Subjects: []string{"kept"}})
		must(t, err)
		_, err = js.Publish(t.Context(), "kept", []byte("42"))
		must(t, err)
	})
	eventually(t, "the replica has the table", func() bool {
		answer, err := queryOne[int](t.Context(), first.ReplicaURLs()[0], `SELECT answer FROM kept`)
		return err == nil && answer == 42
	})
	endpoints, err := devstack.Find(dir)
	must(t, err)
	if got, want := endpoints.NATSURL, first.NATSURL(); got != want {
		t.Errorf("Find: NATS at %s, want %s", got, want)
	}
	before := first.Endpoints()
	stop(t, first)
	if _, err := devstack.Find(dir); !errors.Is(err, devstack.ErrNotRunning) {
		t.Errorf("Find after Stop: %v, want ErrNotRunning", err)
	}

	second := start(t, options(dir))
	after := second.Endpoints()
	if after.PostgresURL != before.PostgresURL || !slices.Equal(after.ReplicaURLs, before.ReplicaURLs) ||
		after.RedisURL != before.RedisURL || after.NATSURL != before.NATSURL {
		t.Error("the servers have moved")
	}
	for _, url := range append(after.ReplicaURLs, after.PostgresURL) {
		if answer, err := queryOne[int](t.Context(), url, `SELECT answer FROM kept`); err != nil || answer != 42 {
			t.Errorf("kept in PostgreSQL: %d, %v", answer, err)
		}
	}
	withRedis(t, after.RedisURL, func(c *redis.Client) {
		if answer, err := c.Get(t.Context(), "kept").Result(); err != nil || answer != "42" {
			t.Errorf("kept in Redis: %q, %v", answer, err)
		}
	})
	withJetStream(t, after.NATSURL, func(js jetstream.JetStream) {
		stream, err := js.Stream(t.Context(), "kept")
		must(t, err)
		if n := stream.CachedInfo().State.Msgs; n != 1 {
			t.Errorf("kept in JetStream: %d messages, want 1", n)
		}
	})
	if _, err := devstack.Start(t.Context(), options(dir)); err == nil ||
		!strings.Contains(err.Error(), "is in use by process "+strconv.Itoa(os.Getpid())) {
		t.Errorf("a second stack on the directory: %v", err)
	}

	t.Run("wiped JetStream is empty and at the same address", func(t *testing.T) {
		must(t, second.NATS().Wipe(t.Context()))
		withJetStream(t, after.NATSURL, func(js jetstream.JetStream) {
			if _, err := js.Stream(t.Context(), "kept"); !errors.Is(err, jetstream.ErrStreamNotFound) {
				t.Errorf("the stream is still there: %v", err)
			}
		})
	})

	t.Run("a replica without data is made anew", func(t *testing.T) {
		stop(t, second)
		must(t, os.RemoveAll(filepath.Join(dir, "postgres", "replica-1")))
		third := start(t, options(dir))
		if answer, err := queryOne[int](t.Context(), third.ReplicaURLs()[0], `SELECT answer FROM kept`); err != nil || answer != 42 {
			t.Errorf("on the new replica: %d, %v", answer, err)
		}
		stop(t, third)
	})

	t.Run("a port that another program has taken is exchanged", func(t *testing.T) {
		port := strings.TrimSuffix(after.RedisURL[strings.LastIndex(after.RedisURL, ":")+1:], "/0")
		taken, err := net.Listen("tcp4", "127.0.0.1:"+port)
		must(t, err)
		defer func() { must(t, taken.Close()) }()
		fourth := start(t, options(dir))
		if fourth.RedisURL() == after.RedisURL {
			t.Error("Redis claims a port that is taken")
		}
		stop(t, fourth)
	})
}

func TestOrphansOfAKilledParentAreEnded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	parent := startParent(t, dir)
	endpoints, err := devstack.Find(dir)
	must(t, err)
	exec1(t, endpoints.PostgresURL, `CREATE TABLE kept AS SELECT 42 AS answer`)
	// Stopped processes do not follow the parent-death signal: they stay, and still hold their ports and data.
	orphans := []int{pidIn(t, filepath.Join(dir, "postgres", "primary", "postmaster.pid")), pidIn(t, filepath.Join(dir, "redis", "redis.pid"))}
	for _, pid := range orphans {
		must(t, syscall.Kill(pid, syscall.SIGSTOP))
	}
	must(t, parent.Process.Kill())
	_ = parent.Wait() // killed, as wanted
	for _, pid := range orphans {
		if err := syscall.Kill(pid, 0); err != nil {
			t.Fatalf("process %d is no orphan: %v", pid, err)
		}
	}

	s := start(t, options(dir))
	if answer, err := queryOne[int](t.Context(), s.PostgresURL(), `SELECT answer FROM kept`); err != nil || answer != 42 {
		t.Errorf("kept: %d, %v", answer, err)
	}
	if now := pidIn(t, filepath.Join(dir, "postgres", "primary", "postmaster.pid")); now == orphans[0] {
		t.Error("the orphaned postmaster still runs")
	}
	if got, want := s.RedisURL(), endpoints.RedisURL; got != want {
		t.Errorf("Redis moved from %s to %s: its orphan still has the port", want, got)
	}
}

func pidIn(t *testing.T, file string) int {
	t.Helper()
	raw, err := os.ReadFile(file)
	must(t, err)
	pid, err := strconv.Atoi(strings.Fields(string(raw))[0])
	must(t, err)
	return pid
}

func TestServersCanBeKilledPausedAndSupervised(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := options(dir)
	o.Supervise = true
	s := start(t, o)
	exec1(t, s.PostgresURL(), `CREATE TABLE kept AS SELECT 42 AS answer`)

	for _, server := range []*devstack.Server{s.Primary(), s.Replica(0), s.Redis()} {
		t.Run(server.Name(), func(t *testing.T) {
			url, addr := server.URL(), server.Addr()
			must(t, server.Kill())
			if conn, err := net.Dial("tcp4", addr); err == nil {
				t.Error("it still answers after Kill", conn.Close())
			}
			must(t, server.Start(t.Context()))
			must(t, server.Pause())
			must(t, server.Resume())
			must(t, server.Stop(t.Context()))
			must(t, server.Start(t.Context()))
			if server.URL() != url {
				t.Errorf("moved from %s to %s", url, server.URL())
			}
		})
	}
	eventually(t, "the replica streams again", func() bool {
		n, err := queryOne[int](t.Context(), s.AdminURL(), `SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'`)
		return err == nil && n == 1
	})

	pidfile := filepath.Join(dir, "postgres", "primary", "postmaster.pid")
	old := pidIn(t, pidfile)
	must(t, syscall.Kill(old, syscall.SIGKILL))
	eventually(t, "a primary that died by itself is back", func() bool {
		answer, err := queryOne[int](t.Context(), s.PostgresURL(), `SELECT answer FROM kept`)
		return err == nil && answer == 42 && pidIn(t, pidfile) != old
	})
}

func TestStartRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		given func(t *testing.T, dir string)
		want  []string
	}{
		"data of another version of PostgreSQL": {
			given: func(t *testing.T, dir string) {
				must(t, os.MkdirAll(filepath.Join(dir, "postgres", "primary"), 0o755))
				write(t, filepath.Join(dir, "LAYOUT"), "1\n")
				write(t, filepath.Join(dir, "postgres", "primary", "PG_VERSION"), "9\n")
			},
			want: []string{"made by PostgreSQL 9", "is not installed"},
		},
		"another layout": {
			given: func(t *testing.T, dir string) { write(t, filepath.Join(dir, "LAYOUT"), "7\n") },
			want:  []string{`layout version "7"`, `version "1"`},
		},
		"somebody else's data": {
			given: func(t *testing.T, dir string) { must(t, os.Mkdir(filepath.Join(dir, "postgres"), 0o755)) },
			want:  []string{"was not made by this program"},
		},
		"a file in place of the directory": {
			given: func(t *testing.T, dir string) {
				must(t, os.Remove(dir))
				write(t, dir, "")
			},
			want: []string{"not a directory"},
		},
		"a setting that the server refuses, with the reason from its log": {
			given: func(*testing.T, string) {},
			want:  []string{"PostgreSQL primary ended at its start", `unrecognized configuration parameter "bogus"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			must(t, os.Mkdir(dir, 0o755))
			c.given(t, dir)
			o := options(dir)
			o.PostgresSettings["bogus"] = "1"
			s, err := devstack.Start(t.Context(), o)
			if err == nil {
				stop(t, s)
				t.Fatal("it started")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
		})
	}
}

func write(t *testing.T, file, content string) {
	t.Helper()
	must(t, os.WriteFile(file, []byte(content), 0o644))
}
