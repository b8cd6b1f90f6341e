package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/devstack"
	"github.com/millrace/millrace/internal/devstack/stacktest"
)

// TestUpServesAShopAndGoesOnWithIt is what a newcomer does: run it, buy something, kill it, run it again.
func TestUpServesAShopAndGoesOnWithIt(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	env := []string{"MILLRACE_STAFF_TOKEN=" + testStaffToken}
	up := spawn(t, env, "up", "--data", dir, "--addr", "127.0.0.1:0")
	url := awaitUp(t, up, dir)

	var list struct {
		Products struct {
			TotalCount int
			Nodes      []struct{ Variants []struct{ SKU string } }
		}
	}
	mustAsk(t, url, `{ products(first: 5, query: "christmas", filter: {inStock: true}) { totalCount nodes { variants { sku } } } }`, nil, &list)
	if list.Products.TotalCount < 10 {
		t.Fatalf("the catalogue has %d products for christmas", list.Products.TotalCount)
	}
	p := buy(t.Context(), []string{url}, list.Products.Nodes[0].Variants[0].SKU, "first")
	if p.err != nil || p.number == "" {
		t.Fatalf("the purchase failed: %+v", p)
	}

	if got := schemaShown(t, url); got != "200 true" {
		t.Errorf("GraphiQL, and whether the schema is shown: %s", got)
	}
	servers, err := devstack.Find(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--stream", "order-none"}, "no events of stream order-none\n"},
		{[]string{"--from", "99999999"}, "no events from position 99999999 on\n"},
		{[]string{"--from", "1", "--limit", "1"}, "1\t"},
	} {
		events := spawn(t, []string{"MILLRACE_DATABASE_URL=" + servers.PostgresURL}, append([]string{"events"}, c.args...)...)
		<-events.done
		if code, out := events.cmd.ProcessState.ExitCode(), events.out.String(); code != exitOK || !strings.HasPrefix(out, c.want) {
			t.Errorf("events %q ended with %d, and printed: %s", c.args, code, out)
		}
	}

	up.kill()
	up.env = append(up.env, "MILLRACE_INTROSPECTION=off", "MILLRACE_MAX_CONCURRENCY=")
	up.start()
	url = awaitUp(t, up, dir)
	if got := schemaShown(t, url); got != "404 false" {
		t.Errorf("with introspection off: GraphiQL, and whether the schema is shown: %s", got)
	}
	again := buyCart(t.Context(), url, p.cart, "first")
	if again.number != p.number {
		t.Fatalf("after kill -9 the same key got %+v, want order %s", again, p.number)
	}
	await(t, "the order to be confirmed", settle, func() bool {
		var found struct {
			Orders struct{ Nodes []struct{ Number string } }
		}
		a, err := ask(t.Context(), url, `{ orders(first: 1, status: CONFIRMED) { nodes { number } } }`, nil)
		return err == nil && json.Unmarshal(a.Data, &found) == nil && len(found.Orders.Nodes) == 1 && found.Orders.Nodes[0].Number == p.number
	})
	replay := spawn(t, nil, "replay", "--all", "--verify", "--data", dir)
	if <-replay.done; replay.cmd.ProcessState.ExitCode() != exitOK {
		t.Errorf("replay --verify: %s", replay.out)
	}
	second := spawn(t, nil, "up", "--data", dir, "--addr", "127.0.0.1:0")
	if <-second.done; second.cmd.ProcessState.ExitCode() == exitOK || !strings.Contains(second.out.String(), "in use") {
		t.Errorf("a second up on the same data said: %s", second.out)
	}
	if code := up.stop(); code != exitOK {
		t.Errorf("up ended with %d when told to stop", code)
	}
}

// schemaShown returns the status of the page with GraphiQL, and whether the API tells its schema.
func schemaShown(t *testing.T, url string) string {
	t.Helper()
	page, err := http.Get(strings.TrimSuffix(url, "graphql"))
	if err != nil {
		t.Fatal(err)
	}
	_ = page.Body.Close()
	_, err = ask(t.Context(), url, `{ __schema { queryType { name } } }`, nil)
	return fmt.Sprintf("%d %v", page.StatusCode, err == nil)
}

func awaitUp(t *testing.T, up *child, dir string) (url string) {
	t.Helper()
	await(t, "up to be ready", 2*time.Minute, func() bool {
		select {
		case <-up.done:
			t.Fatalf("up ended: %s", up.out)
		default:
		}
		content, err := os.ReadFile(filepath.Join(dir, "up.json"))
		var r running
		if err != nil || json.Unmarshal(content, &r) != nil || r.PID != up.cmd.Process.Pid {
			return false
		}
		url = r.GraphQLURL
		return ready(strings.TrimSuffix(strings.TrimPrefix(url, "http://"), "/graphql"))
	})
	return url
}

func TestMistakesAreOneSentence(t *testing.T) {
	t.Parallel()
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = taken.Close() })
	empty := filepath.Join(t.TempDir(), "empty") // nothing is ever made there
	away := []string{"MILLRACE_DATABASE_URL=postgres://127.0.0.1:1/none", "MILLRACE_REDIS_URL=redis://127.0.0.1:1", "MILLRACE_NATS_URL=nats://127.0.0.1:1"}
	for _, c := range []struct {
		name string
		env  []string
		args []string
		want string
	}{
		{"a port in use", nil, []string{"up", "--data", empty, "--addr", taken.Addr().String()}, taken.Addr().String()},
		{"a port in use, and what to do", nil, []string{"up", "--data", empty, "--addr", taken.Addr().String()}, "choose another with --addr (make run ARGS="},
		{"a port for health in use", nil, []string{"up", "--data", empty, "--addr", "127.0.0.1:0", "--ops-addr", taken.Addr().String()}, "choose another with --ops-addr"},
		{"no port for health", nil, []string{"worker", "--data", empty, "--ops-addr", "foo"}, "--ops-addr (MILLRACE_OPS_ADDR): cannot listen on foo"},
		{"a wrong rate", nil, []string{"up", "--data", empty, "--rate-limit", "foo"}, `--rate-limit (MILLRACE_RATE_LIMIT): "foo" is not a rate`},
		{"a wrong limit", nil, []string{"up", "--data", empty, "--max-concurrency", "0"}, "MILLRACE_MAX_CONCURRENCY"},
		{"a wrong network", nil, []string{"up", "--data", empty, "--trusted-proxies", "foo"}, "MILLRACE_TRUSTED_PROXIES"},
		{"a wrong header", nil, []string{"up", "--data", empty, "--forwarded-header", "foo"}, "MILLRACE_FORWARDED_HEADER"},
		{"a wrong origin", nil, []string{"up", "--data", empty, "--cors-origins", "foo"}, `--cors-origins (MILLRACE_CORS_ORIGINS): "foo" is not an origin`},
		{"no time for a request", nil, []string{"up", "--data", empty, "--request-timeout", "0s"}, "MILLRACE_REQUEST_TIMEOUT"},
		{"a cache of less than nothing", nil, []string{"up", "--data", empty, "--cache-mib=-1"}, "MILLRACE_CACHE_"},
		{"no time for a payment", nil, []string{"up", "--data", empty, "--payment-deadline", "0s"}, "MILLRACE_PAYMENT_DEADLINE"},
		{"draining before the end", nil, []string{"worker", "--data", empty, "--drain-delay=-1s"}, "MILLRACE_DRAIN_DELAY"},
		{"several mistakes", nil, []string{"up", "--data", empty, "--drain-delay=-1s", "--rate-limit", "foo"}, "MILLRACE_RATE_LIMIT"},
		{"no secret key, and servers that are away", away, []string{"api", "--addr", "127.0.0.1:0"}, "MILLRACE_SECRET_KEY is not set"},
		{"half a secret key, and servers that are away", append(slices.Clone(away), "MILLRACE_SECRET_KEY=5a5a"), []string{"process"}, "the secret key must be"},
		{"introspection perhaps", nil, []string{"up", "--data", empty, "--introspection", "perhaps"}, `--introspection: must be on or off, not "perhaps"`},
		{"a sample perhaps", []string{"MILLRACE_SAMPLE=perhaps"}, []string{"up", "--data", empty}, `must be on or off, not "perhaps" (from envar MILLRACE_SAMPLE`},
		{"an empty variable", []string{"MILLRACE_MAX_CONCURRENCY=", "MILLRACE_LAG_TARGET="}, []string{"api", "--data", empty}, "MILLRACE_DATABASE_URL is not set"},
		{"no servers named", nil, []string{"worker", "--data", empty}, "MILLRACE_DATABASE_URL is not set"},
		{"an unknown projection", nil, []string{"worker", "--data", empty, "--projection", "nonsense"}, `no projection "nonsense"; there are carts`},
		{"replay of nothing", nil, []string{"replay", "--data", empty}, "--all"},
		{"a replay of all and one", nil, []string{"replay", "--data", empty, "--all", "orders"}, "name read models or give --all, not both"},
		{"a rollback of nothing", nil, []string{"replay", "--data", empty, "--rollback"}, "name the read models, or give --all"},
		{"the past of nothing", nil, []string{"replay", "--data", empty, "--until", "5"}, "name the read models, or give --all"},
		{"a replay both ways", nil, []string{"replay", "--rollback", "--until", "5", "orders"}, "--rollback and --until can't be used together"},
		{"listing and dropping", nil, []string{"replay", "--past", "--drop-past", "all"}, "--past and --drop-past can't be used together"},
		{"a rollback that compares", nil, []string{"replay", "--verify", "--rollback", "orders"}, "--verify and --rollback can't be used together"},
		{"the past of an unknown projection", nil, []string{"replay", "--until", "5", "nonsense"}, `no projection "nonsense"; there are carts`},
		{"neither position nor time", nil, []string{"replay", "--until", "yesterday", "orders"}, `"yesterday" is neither a position, for example 5000, nor a time`},
		{"before the first position", nil, []string{"replay", "--until", "0", "orders"}, `"0" is neither a position`},
		{"dropping what is no position", nil, []string{"replay", "--drop-past", "0"}, `"0" is neither a position, for example 5000, nor all`},
		{"a worker that helps perhaps", nil, []string{"worker", "--share-rebuilds", "perhaps"}, `--share-rebuilds: must be on or off, not "perhaps"`},
		{"an unknown currency", nil, []string{"up", "--data", empty, "--currency", "EURO"}, "MILLRACE_CURRENCY"},
		{"an unknown time zone", nil, []string{"up", "--data", empty, "--timezone", "Mars/Olympus"}, "MILLRACE_TIMEZONE"},
		{"an unknown command", nil, []string{"upp"}, "upp"},
		{"parking in an unknown projection", nil, []string{"projections", "park", "nonsense", "--position", "1"}, `no projection "nonsense"; there are carts`},
		{"what is parked in an unknown projection", nil, []string{"projections", "parked", "nonsense"}, `no projection "nonsense"; there are carts`},
		{"retrying nothing", nil, []string{"projections", "retry", "orders"}, "--position"},
		{"a position before the first", nil, []string{"projections", "retry", "orders", "--position", "0"}, "the first event has position 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := spawn(t, c.env, c.args...)
			<-p.done
			out := p.out.String()
			if code := p.cmd.ProcessState.ExitCode(); code != exitUsage || !strings.Contains(out, c.want) {
				t.Errorf("ended with %d and said %q; want %d and %q", code, out, exitUsage, c.want)
			}
		})
	}
}

func TestWhatIsFixedWithTheLogCannotBeChanged(t *testing.T) {
	t.Parallel()
	e := stacktest.New(t)
	env := []string{
		"MILLRACE_DATABASE_URL=" + e.DatabaseURL, "MILLRACE_REDIS_URL=" + e.RedisURL, "MILLRACE_NATS_URL=" + e.NATSURL, "MILLRACE_CURRENCY=EUR",
	}
	for _, role := range []string{"worker", "migrate"} {
		p := spawn(t, env, role)
		<-p.done
		if out := p.out.String(); p.cmd.ProcessState.ExitCode() != exitUsage || !strings.Contains(out, "currency GBP, which cannot be changed to EUR") {
			t.Errorf("%s said %q", role, out)
		}
	}
}

// TestAnImportIsKilledAndGoesOn kills an import with kill -9 again and again; in the end the log says what it says after an
// import that nobody disturbed.
func TestAnImportIsKilledAndGoesOn(t *testing.T) {
	t.Parallel()
	counts := map[bool]map[string]int{}
	summaries := map[bool]string{}
	for _, disturbed := range []bool{false, true} {
		e := stacktest.New(t)
		env := []string{
			"MILLRACE_DATABASE_URL=" + e.DatabaseURL, "MILLRACE_REPLICA_URLS=" + strings.Join(e.ReplicaURLs, ","), "MILLRACE_REDIS_URL=" + e.RedisURL,
			"MILLRACE_NATS_URL=" + e.NATSURL, "MILLRACE_SECRET_KEY=" + strings.Repeat("5a", 32),
		}
		spawn(t, env, "relay")
		spawn(t, env, "worker")
		args := []string{"import", "orders", "-", "--json", "--rejected", filepath.Join(t.TempDir(), "rejected.csv")}
		pool := connect(t, e.DatabaseURL)
		if disturbed {
			for _, enough := range []int{200, 2000, 4000} {
				p := spawn(t, env, args...)
				await(t, "the import to get on", time.Minute, func() bool {
					select {
					case <-p.done:
						return true
					default:
						return countEvents(t, pool)[""] >= enough
					}
				})
				p.kill()
			}
		}
		p := spawn(t, env, args...)
		<-p.done
		if code := p.cmd.ProcessState.ExitCode(); code != exitOK {
			t.Fatalf("the import ended with %d: %s", code, p.out)
		}
		counts[disturbed] = countEvents(t, pool)
		_, summary, _ := strings.Cut(p.out.String(), "{\n")
		summary, _, _ = strings.Cut(summary, `"doneBefore"`)
		summaries[disturbed] = summary
	}
	for eventType, want := range counts[false] {
		if got := counts[true][eventType]; got != want {
			t.Errorf("%d events %s, want %d", got, eventType, want)
		}
	}
	if summaries[true] != summaries[false] || summaries[true] == "" {
		t.Errorf("the summary was\n%s\nwant\n%s", summaries[true], summaries[false])
	}
}

// TestToggles checks in which words a setting is on or off, on the command line and in the environment.
func TestToggles(t *testing.T) {
	for _, c := range []struct {
		variable                        string
		args                            []string
		sample, loopback, introspection bool
	}{
		{"", nil, true, false, true},
		{"", []string{"--sample", "off", "--rate-limit-loopback"}, false, true, true},
		{"", []string{"--sample=false", "--rate-limit-loopback=on"}, false, true, true},
		{"", []string{"--rate-limit-loopback", "--sample", "no", "--introspection=off"}, false, true, false},
		{"off", nil, false, false, true},
		{"0", []string{"--rate-limit-loopback", "true"}, false, true, true},
		{"ON", []string{"--rate-limit-loopback", "--introspection", "off"}, true, true, false},
	} {
		t.Setenv("MILLRACE_SAMPLE", c.variable)
		var parsed cli
		parser, err := newParser(&parsed)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parser.Parse(append([]string{"up"}, c.args...)); err != nil {
			t.Fatal(err)
		}
		if up := parsed.Up; bool(up.Sample) != c.sample || bool(up.RateLimitLoopback) != c.loopback || bool(up.Introspection) != c.introspection {
			t.Errorf("MILLRACE_SAMPLE=%s %q: sample %v, loopback %v, introspection %v", c.variable, c.args, up.Sample, up.RateLimitLoopback, up.Introspection)
		}
	}
}
