package ratelimit_test

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/ratelimit"
)

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

func TestMain(m *testing.M) { stacktest.Main(m) }

// process is what counts in one process.
type process struct {
	*ratelimit.Limiter
	redis   *redis.Client
	metrics *prometheus.Registry
}

// newPrefix keeps the keys of a test apart from all others in the Redis that they share.
func newPrefix() string { return rand.Text() + ":" }

// start returns a limiter that waits for Redis however busy the machine is.
func start(t *testing.T, url, prefix string) process {
	t.Helper()
	return startWith(t, url, prefix, patience)
}

func startWith(t *testing.T, url, prefix string, wait time.Duration) process {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.ContextTimeoutEnabled = true
	p := process{redis: redis.NewClient(o), metrics: prometheus.NewRegistry()}
	t.Cleanup(func() { _ = p.redis.Close() })
	p.Limiter, err = ratelimit.New(ratelimit.Options{
		Redis: p.redis, Prefix: prefix, Names: []string{"requests", "mutations"}, Secret: []byte("secret"), Wait: wait, Metrics: p.metrics, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// fallback waits until the process counts by itself, or no longer does.
func (p process) fallback(t *testing.T, limit ratelimit.Limit, want float64) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		p.Allow(t.Context(), limit, "somebody else")
		families, err := p.metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			if f.GetName() == "millrace_rate_limit_fallback" && f.GetMetric()[0].GetGauge().GetValue() == want {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("the fallback does not become %v", want)
		}
	}
}

func limit(name string, requests int, period time.Duration) ratelimit.Limit {
	return ratelimit.Limit{Name: name, Rate: ratelimit.Rate{Requests: requests, Period: period}}
}

// verdict is a decision in words, its times rounded to minutes.
func verdict(d ratelimit.Decision) string {
	if !d.Allowed {
		return fmt.Sprintf("no, reset %s, retry %s", d.Reset.Round(time.Minute), d.RetryAfter.Round(time.Minute))
	}
	return fmt.Sprintf("yes, %d more, reset %s", d.Remaining, d.Reset.Round(time.Minute))
}

// everywhere returns a process that counts in Redis and one that has to count by itself.
func everywhere(t *testing.T) map[string]process {
	t.Helper()
	env := stacktest.New(t, stacktest.WithoutNATS())
	one, two := start(t, env.RedisURL, newPrefix()), start(t, "redis://127.0.0.1:1", "")
	two.fallback(t, limit("other", 1, time.Hour), 1)
	return map[string]process{"in Redis": one, "in process": two}
}

// TestAllow checks the figures, which are the same wherever requests are counted.
func TestAllow(t *testing.T) {
	t.Parallel()
	for where, p := range everywhere(t) {
		three := limit("requests", 3, 3*time.Hour) // an hour each: the test is quicker
		for i, want := range []string{
			"yes, 2 more, reset 1h0m0s", "yes, 1 more, reset 2h0m0s", "yes, 0 more, reset 3h0m0s", "no, reset 3h0m0s, retry 1h0m0s", "no, reset 3h0m0s, retry 1h0m0s",
		} {
			if got := verdict(p.Allow(t.Context(), three, "ann")); got != want {
				t.Errorf("%s: request %d: %s, not %s", where, i+1, got, want)
			}
		}
		if got := verdict(p.Allow(t.Context(), three, "ben")); got != "yes, 2 more, reset 1h0m0s" {
			t.Errorf("%s: another client: %s", where, got)
		}
		if got := verdict(p.Allow(t.Context(), limit("mutations", 1, time.Hour), "ann")); got != "yes, 0 more, reset 1h0m0s" {
			t.Errorf("%s: another limit: %s", where, got)
		}
		if d := p.Allow(t.Context(), ratelimit.Limit{Name: "off"}, "ann"); !d.Allowed {
			t.Errorf("%s: without a limit: %+v", where, d)
		}
		if err := testutil.GatherAndCompare(p.metrics, strings.NewReader(`
# HELP millrace_rate_limited_total Requests refused because their client asks too often.
# TYPE millrace_rate_limited_total counter
millrace_rate_limited_total{limit="mutations"} 0
millrace_rate_limited_total{limit="requests"} 2
`), "millrace_rate_limited_total"); err != nil && where == "in Redis" {
			t.Error(err)
		}
	}
}

// TestAllowN checks that several count as many, all of them or none, wherever they are counted.
func TestAllowN(t *testing.T) {
	t.Parallel()
	for where, p := range everywhere(t) {
		three := limit("mutations", 3, 3*time.Hour)
		for i, c := range []struct {
			n    int
			want string
			more int
		}{
			{4, "no, reset 0s, retry 1h0m0s", 3}, {2, "yes, 1 more, reset 2h0m0s", 1}, {2, "no, reset 2h0m0s, retry 1h0m0s", 1}, {3, "no, reset 2h0m0s, retry 1h0m0s", 1},
			{1, "yes, 0 more, reset 3h0m0s", 0}, {1, "no, reset 3h0m0s, retry 1h0m0s", 0},
		} {
			d := p.AllowN(t.Context(), three, "ann", c.n)
			if i == 3 { // a process may repeat what it said to fewer
				d.RetryAfter = min(d.RetryAfter, time.Hour)
			}
			if got := verdict(d); got != c.want || d.Remaining != c.more {
				t.Errorf("%s: %d at once: %s, %d more; not %s, %d more", where, c.n, got, d.Remaining, c.want, c.more)
			}
		}
	}
}

// TestRefills checks that who waits as long as it is told is let in again.
func TestRefills(t *testing.T) {
	t.Parallel()
	env := stacktest.New(t, stacktest.WithoutNATS())
	for where, p := range map[string]process{"in Redis": start(t, env.RedisURL, newPrefix()), "in process": start(t, "redis://127.0.0.1:1", "")} {
		often := limit("requests", 10, time.Second)
		var d ratelimit.Decision
		for deadline := time.Now().Add(patience); ; {
			if d = p.Allow(t.Context(), often, "ann"); !d.Allowed {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: never too often", where)
			}
		}
		time.Sleep(d.RetryAfter)
		if d := p.Allow(t.Context(), often, "ann"); !d.Allowed {
			t.Errorf("%s: after the time that it was told: %s", where, verdict(d))
		}
	}
}

// TestProcessesShare checks that processes count together, under keys that tell nothing about who the client is.
func TestProcessesShare(t *testing.T) {
	t.Parallel()
	env := stacktest.New(t, stacktest.WithoutNATS())
	prefix := newPrefix()
	one, two := start(t, env.RedisURL, prefix), start(t, env.RedisURL, prefix)
	three := limit("requests", 3, 3*time.Hour)
	for i, want := range []bool{true, true, true, false, false} {
		p := []process{one, two}[i%2]
		if d := p.Allow(t.Context(), three, "token s3cr3t"); d.Allowed != want {
			t.Errorf("request %d: %s", i+1, verdict(d))
		}
	}
	keys, err := one.redis.Keys(t.Context(), "rate:"+prefix+"*").Result()
	if err != nil || len(keys) != 1 || strings.Contains(keys[0], "s3cr3t") || len(keys[0]) != len("rate:"+prefix+"requests:")+22 {
		t.Errorf("the keys are %v, %v", keys, err)
	}
	if ttl, err := one.redis.TTL(t.Context(), keys[0]).Result(); err != nil || ttl <= 0 || ttl > 3*time.Hour {
		t.Errorf("the key stays for %s, %v", ttl, err)
	}
}

// TestRedisDies checks that clients are limited while Redis is away, and together again afterwards.
func TestRedisDies(t *testing.T) {
	t.Parallel()
	stack := stacktest.Private(t)
	p := start(t, stack.RedisURL(), "x:")
	two := limit("requests", 2, 2*time.Hour)
	p.Allow(t.Context(), two, "ann")
	p.fallback(t, limit("other", 1, time.Hour), 0)
	if err := stack.Redis().Kill(); err != nil {
		t.Fatal(err)
	}
	p.fallback(t, limit("other", 1, time.Hour), 1)
	for i, want := range []bool{true, true, false} { // the process has not seen her yet
		if d := p.Allow(t.Context(), two, "ann"); d.Allowed != want {
			t.Errorf("request %d without Redis: %s", i+1, verdict(d))
		}
	}
	if err := stack.Redis().Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.fallback(t, limit("other", 1, time.Hour), 0)
}

// TestRedisHangs checks that a Redis that does not answer costs a client little, and the next ones nothing.
func TestRedisHangs(t *testing.T) {
	t.Parallel()
	env := stacktest.New(t, stacktest.WithoutNATS())
	proxy, url := stacktest.ProxyURL(t, env.RedisURL)
	p := startWith(t, url, newPrefix(), 0)
	two := limit("requests", 2, 2*time.Hour)
	p.Allow(t.Context(), two, "ann")
	proxy.Stall()
	began := time.Now()
	for range 3 {
		p.Allow(t.Context(), two, "ben")
	}
	p.fallback(t, two, 1)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if d := p.Allow(gone, two, "cem"); !d.Allowed {
		t.Errorf("the first request: %s", verdict(d))
	}
	proxy.Heal()
	p.fallback(t, limit("other", 1, time.Hour), 0)
}

// TestHeaders checks what clients are told.
func TestHeaders(t *testing.T) {
	requests, mutations := limit("requests", 1200, time.Minute), limit("mutations", 300, time.Minute)
	for name, c := range map[string]struct {
		decisions []ratelimit.Decision
		want      string
	}{
		"one":                 {[]ratelimit.Decision{{Limit: requests, Allowed: true, Remaining: 7, Reset: 59100 * time.Millisecond}}, "1200 7 60 1200;w=60"},
		"off":                 {[]ratelimit.Decision{{Allowed: true}}, "   "},
		"the second is first": {[]ratelimit.Decision{{Limit: requests, Allowed: true, Remaining: 1000, Reset: time.Second}, {Limit: mutations, Allowed: true, Remaining: 7, Reset: 2 * time.Second}}, "300 7 2 1200;w=60, 300;w=60"},
		"the first is first":  {[]ratelimit.Decision{{Limit: requests, Allowed: true, Remaining: 5, Reset: time.Second}, {Limit: mutations, Allowed: true, Remaining: 7, Reset: 2 * time.Second}}, "1200 5 1 1200;w=60, 300;w=60"},
		"refused":             {[]ratelimit.Decision{{Limit: requests, Allowed: true, Reset: time.Minute}, {Limit: mutations, Reset: time.Minute}}, "300 0 60 1200;w=60, 300;w=60"},
	} {
		header := http.Header{}
		for _, d := range c.decisions {
			d.Write(header)
		}
		var got []string
		for _, name := range []string{"RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset", "RateLimit-Policy"} {
			got = append(got, header.Get(name))
		}
		if strings.Join(got, " ") != c.want {
			t.Errorf("%s: %q", name, strings.Join(got, " "))
		}
	}
}

// TestParseRate checks how operators write rates.
func TestParseRate(t *testing.T) {
	for text, want := range map[string]ratelimit.Rate{
		"0": {}, "600/1m": {Requests: 600, Period: time.Minute}, "5/1s": {Requests: 5, Period: time.Second}, "1000/1h": {Requests: 1000, Period: time.Hour},
	} {
		if got, err := ratelimit.ParseRate(text); err != nil || got != want {
			t.Errorf("%s: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "600", "600/", "/1m", "600/m", "-1/1m", "0/1m", "600/0s", "600/100ms", "600/1500ms", "600/1m/1m"} {
		if got, err := ratelimit.ParseRate(text); err == nil {
			t.Errorf("%q is taken for %v", text, got)
		}
	}
}
