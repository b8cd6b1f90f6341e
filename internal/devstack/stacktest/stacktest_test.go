package stacktest_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"
	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/devstack/stacktest"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// logID reads the identity of the log in a database.
func logID(t *testing.T, databaseURL string) string {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), databaseURL)
	must(t, err)
	var id string
	must(t, conn.QueryRow(t.Context(), `SELECT id::text FROM log`).Scan(&id))
	must(t, conn.Close(t.Context()))
	return id
}

func TestEveryEnvironmentIsItsOwn(t *testing.T) {
	t.Parallel()
	one, other := stacktest.New(t), stacktest.New(t)
	if logID(t, one.DatabaseURL) == logID(t, other.DatabaseURL) {
		t.Error("two environments share a log")
	}
	for _, replica := range one.ReplicaURLs {
		if logID(t, one.DatabaseURL) != logID(t, replica) {
			t.Error("the replica shows another log")
		}
	}
	if one.NATSURL == other.NATSURL {
		t.Error("two environments share a NATS server")
	}
	client, err := nats.Connect(one.NATSURL)
	must(t, err)
	client.Close()
}

func TestAnEmptyDatabaseHasNoLog(t *testing.T) {
	t.Parallel()
	env := stacktest.New(t, stacktest.WithEmptyDatabase(), stacktest.WithoutNATS())
	conn, err := pgx.Connect(t.Context(), env.DatabaseURL)
	must(t, err)
	var exists bool
	must(t, conn.QueryRow(t.Context(), `SELECT to_regclass('log') IS NOT NULL`).Scan(&exists))
	must(t, conn.Close(t.Context()))
	if exists || env.NATS != nil {
		t.Error("the environment is not as bare as asked for")
	}
}

func TestPrivateServersHaveALog(t *testing.T) {
	t.Parallel()
	if stack := stacktest.Private(t); logID(t, stack.PostgresURL()) == "" {
		t.Error("no log")
	}
}

func TestProxyBreaksAndHeals(t *testing.T) {
	t.Parallel()
	env := stacktest.New(t, stacktest.WithoutNATS())
	proxy, through := stacktest.ProxyURL(t, env.RedisURL)
	o, err := redis.ParseURL(through)
	must(t, err)
	o.MaxRetries, o.ReadTimeout, o.ContextTimeoutEnabled = -1, 200*time.Millisecond, true
	ping := func() error {
		client := redis.NewClient(o)
		defer func() { must(t, client.Close()) }()
		return client.Ping(context.Background()).Err()
	}
	must(t, ping())
	proxy.Cut()
	if ping() == nil {
		t.Error("a cut proxy lets a client through")
	}
	proxy.Heal()
	must(t, ping())
	proxy.Stall()
	if ping() == nil {
		t.Error("a stalled proxy lets an answer through")
	}
	proxy.Heal()
	must(t, ping())
	proxy.Reset()
	if ping() == nil {
		t.Error("a proxy that breaks connections off lets an answer through")
	}
	proxy.Heal()
	must(t, ping())
	proxy.Delay(500)
	if ping() == nil {
		t.Error("a delayed answer came within the time limit")
	}
	proxy.Heal()
	must(t, ping())
}

func TestProxyRewrites(t *testing.T) {
	t.Parallel()
	env := stacktest.New(t, stacktest.WithoutNATS())
	proxy, through := stacktest.ProxyURL(t, env.RedisURL)
	proxy.Rewrite(`wo.ld`, "you")
	proxy.Rewrite(`hel+o`, "ahoy!")
	o, err := redis.ParseURL(through)
	must(t, err)
	client := redis.NewClient(o)
	t.Cleanup(func() { must(t, client.Close()) })
	said, err := client.Echo(t.Context(), "hello world").Result()
	must(t, err)
	if said != "ahoy! you  " {
		t.Errorf("the server was sent %q", said)
	}
}
