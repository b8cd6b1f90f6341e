package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/devstack/stacktest"
)

// TestRateLimits runs an api behind a proxy on this machine, and checks what clients hear: on their own, behind the proxy, as staff, with
// addresses and tokens that they make up, and directly.
func TestRateLimits(t *testing.T) {
	t.Parallel()
	e := stacktest.New(t)
	addr := freeAddr(t)
	api := spawn(t, []string{
		"MILLRACE_DATABASE_URL=" + e.DatabaseURL, "MILLRACE_REDIS_URL=" + e.RedisURL, "MILLRACE_NATS_URL=" + e.NATSURL,
		"MILLRACE_STAFF_TOKEN=" + testStaffToken, "MILLRACE_SECRET_KEY=" + strings.Repeat("5a", 32),
		"MILLRACE_RATE_LIMIT=3/1h", "MILLRACE_RATE_LIMIT_MUTATIONS=1/1h",
		"MILLRACE_RATE_LIMIT_WAIT=30s", // a busy machine is no reason to count elsewhere
	}, "api", "--addr", addr)
	await(t, "the api to listen", settle, func() bool {
		r, err := http.Get("http://" + addr + "/healthz")
		if err == nil {
			_ = r.Body.Close()
		}
		return err == nil
	})

	const query, mutation = `{ __typename }`, `mutation { cartCreate { position } }`
	for _, c := range []struct {
		name, query string
		header      []string // pairs
		want        string   // status, limit, remaining, policy, whether there is a Retry-After, code
	}{
		{"first", query, []string{"X-Forwarded-For", "203.0.113.7"}, "200 3 2 3;w=3600 false "},
		{"second", query, []string{"X-Forwarded-For", "203.0.113.7"}, "200 3 1 3;w=3600 false "},
		{"third, with a made up address", query, []string{"X-Forwarded-For", "198.51.100.1, 203.0.113.7"}, "200 3 0 3;w=3600 false "},
		{"fourth", query, []string{"X-Forwarded-For", "203.0.113.7"}, "429 3 0 3;w=3600 true RATE_LIMITED"},
		{"fourth, with a made up token", query, []string{"X-Forwarded-For", "203.0.113.7", "Authorization", "Bearer x"}, "429 3 0 3;w=3600 true RATE_LIMITED"},
		{"fourth, in the other header", query, []string{"X-Forwarded-For", "203.0.113.7", "Forwarded", "for=198.51.100.2"}, "429 3 0 3;w=3600 true RATE_LIMITED"},
		{"another client", mutation, []string{"X-Forwarded-For", "203.0.113.8"}, "200 1 0 3;w=3600, 1;w=3600 false "},
		{"another client's mutation", mutation, []string{"X-Forwarded-For", "203.0.113.8"}, "429 1 0 3;w=3600, 1;w=3600 true RATE_LIMITED"},
		{"another client's query", query, []string{"X-Forwarded-For", "203.0.113.8"}, "200 3 0 3;w=3600 false "},
		{"two mutations, for which there is never room", `mutation { a: cartCreate { position } b: cartCreate { position } }`, []string{"X-Forwarded-For", "203.0.113.10"}, "200 3 2 3;w=3600 false BAD_USER_INPUT"},
		{"one of them", mutation, []string{"X-Forwarded-For", "203.0.113.10"}, "200 1 0 3;w=3600, 1;w=3600 false "},
		{"IPv6", query, []string{"X-Forwarded-For", "2001:db8::1"}, "200 3 2 3;w=3600 false "},
		{"IPv6, of the same /64", query, []string{"X-Forwarded-For", "2001:db8::2"}, "200 3 1 3;w=3600 false "},
		{"staff", query, []string{"X-Forwarded-For", "203.0.113.7", "Authorization", "Bearer " + testStaffToken}, "200 3 2 3;w=3600 false "},
		{"staff, from elsewhere", query, []string{"X-Forwarded-For", "203.0.113.9", "Authorization", "Bearer " + testStaffToken}, "200 3 1 3;w=3600 false "},
		{"direct", query, nil, "200    false "},
		{"direct, mutation", mutation, nil, "200    false "},
	} {
		body, err := json.Marshal(map[string]string{"query": c.query})
		if err != nil {
			t.Fatal(err)
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/graphql", strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		for i := 0; i < len(c.header); i += 2 {
			r.Header.Set(c.header[i], c.header[i+1])
		}
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		var a answer
		if err := json.Unmarshal(content, &a); err != nil {
			t.Fatalf("%s: %v", content, err)
		}
		code := ""
		if len(a.Errors) > 0 {
			code = fmt.Sprint(a.Errors[0].Extensions["code"])
		}
		h := response.Header
		got := fmt.Sprintf("%d %s %s %s %v %s", response.StatusCode, h.Get("RateLimit-Limit"), h.Get("RateLimit-Remaining"), h.Get("RateLimit-Policy"), h.Get("Retry-After") != "", code)
		if got != c.want {
			t.Errorf("%s: %s, not %s", c.name, got, c.want)
		}
	}
	api.kill()
	if out := api.out.String(); strings.Contains(out, "203.0.113") || strings.Contains(out, testStaffToken) {
		t.Error("the log names clients")
	}
}

// TestSettingsOfClients checks that a wrong setting is said to be so.
func TestSettingsOfClients(t *testing.T) {
	t.Parallel()
	e := stacktest.New(t)
	env := []string{
		"MILLRACE_DATABASE_URL=" + e.DatabaseURL, "MILLRACE_REDIS_URL=" + e.RedisURL, "MILLRACE_NATS_URL=" + e.NATSURL,
		"MILLRACE_STAFF_TOKEN=" + testStaffToken, "MILLRACE_SECRET_KEY=" + strings.Repeat("5a", 32),
	}
	for setting, want := range map[string]string{
		"MILLRACE_RATE_LIMIT=fast":            `"fast" is not a rate such as 600/1m`,
		"MILLRACE_RATE_LIMIT_MUTATIONS=1/1ms": `"1/1ms" is not a rate such as 600/1m`,
		"MILLRACE_RATE_LIMIT_WAIT=0s":         "must be above zero, not 0s",
		"MILLRACE_TRUSTED_PROXIES=proxy":      `"proxy" is not a network such as 10.0.0.0/8`,
		"MILLRACE_FORWARDED_HEADER=X-Real-IP": `not in "X-Real-IP"`,
		"MILLRACE_REQUEST_TIMEOUT=0s":         "must be above zero, not 0s",
		"MILLRACE_MAX_CONCURRENCY=0":          "must be above zero, not 0",
		"MILLRACE_MAX_SUBSCRIPTIONS=-1":       "must be above zero, not -1",
	} {
		api := spawn(t, append(env, setting), "api", "--addr", freeAddr(t))
		<-api.done
		name, _, _ := strings.Cut(setting, "=")
		if code, out := api.cmd.ProcessState.ExitCode(), api.out.String(); code != exitUsage || !strings.Contains(out, name) || !strings.Contains(out, want) {
			t.Errorf("%s: ended with %d:\n%s", setting, code, out)
		}
	}
}
