package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/millrace/millrace/internal/projector"
)

// glances are those that a watch with --json has printed so far.
func glances(t *testing.T, c *child) []glance {
	t.Helper()
	var all []glance
	for line := range strings.Lines(c.out.String()) {
		if !strings.HasPrefix(line, `{"at"`) || !strings.HasSuffix(line, "\n") { // what it logs; what it is writing now
			continue
		}
		var g glance
		if err := json.Unmarshal([]byte(line), &g); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, g)
	}
	return all
}

// figures returns what a process tells a scraper, by name with labels.
func figures(t *testing.T, addr string) map[string]float64 {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("status %d: %v: %s", response.StatusCode, err, text)
	}
	found := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		end := strings.LastIndexByte(line, ' ') // labels may hold others
		if v, err := strconv.ParseFloat(line[end+1:], 64); end > 0 && err == nil {
			found[line[:end]] = v
		}
	}
	return found
}

// TestLagIsSeenEverywhere kills the only worker of a shop and holds what the API, the metrics of processes without workers, the
// list and two watches say of it against each other.
func TestLagIsSeenEverywhere(t *testing.T) {
	t.Parallel()
	s, workers := newShelf(t, 4, 1)
	s.receive()
	await(t, "the first units", settle, s.visible)
	lines := spawn(t, s.env, "projections", "--watch", "--every", "200ms", "--json")
	lists := spawn(t, s.env, "projections", "--watch", "--every", "200ms")
	ops := freeAddr(t)
	relay := spawn(t, s.env, "relay", "--ops-addr", ops)
	await(t, "the relay to be ready", settle, func() bool { return ready(ops) })
	await(t, "a watch that shows no lag", settle, func() bool {
		all := glances(t, lines)
		return len(all) > 0 && lagOfAll(all[len(all)-1].Projections) == 0
	})

	workers[0].kill()
	s.receive()
	s.receive()
	const want = 8 // two units in each of four partitions, for every read model
	var told struct {
		Projections []struct {
			Name          string
			Lag           int
			LagSeconds    float64
			WorkersWanted int
			Partitions    []struct {
				Lag        int
				LagSeconds float64
			}
		}
	}
	mustAsk(t, s.url, `{ projections { name lag lagSeconds workersWanted partitions { lag lagSeconds } } }`, nil, &told)
	if len(told.Projections) != len(allProjections()) {
		t.Fatalf("%+v", told)
	}
	for _, p := range told.Projections {
		if p.Lag != want || p.LagSeconds <= 0 || p.WorkersWanted < 1 || len(p.Partitions) != 4 {
			t.Errorf("the API says %+v", p)
		}
		for _, part := range p.Partitions {
			if part.Lag != 2 || part.LagSeconds <= 0 {
				t.Errorf("the API says of a partition of %s: %+v", p.Name, part)
			}
		}
	}
	for _, addr := range []string{s.addr, ops} {
		var f map[string]float64
		await(t, "the metrics to be of now", settle, func() bool {
			f = figures(t, addr)
			return f[`millrace_projection_lag_events{generation="1",partition="3",projection="orders",status="live"}`] == 2
		})
		if f[`millrace_projection_lag_seconds{generation="1",partition="3",projection="orders",status="live"}`] <= 0 ||
			f[`millrace_projection_workers_wanted{projection="orders"}`] < 1 || f["millrace_workers_wanted"] < 1 || f["millrace_projection_lag_known"] != 1 {
			t.Errorf("%s tells %v", addr, f)
		}
	}
	var seen float64
	await(t, "the watch to show the lag growing", settle, func() bool {
		all := glances(t, lines)
		last := all[len(all)-1]
		if lagOfAll(last.Projections) != want*len(allProjections()) {
			return false
		}
		if seen == 0 {
			seen = last.Projections[0].LagSeconds
		}
		return seen > 0 && last.Projections[0].LagSeconds > seen+0.5
	})
	await(t, "the lists to show it", settle, func() bool { return strings.Contains(lists.out.String(), "STOPPED") })
	for _, c := range []*child{lines, lists} {
		if err := c.cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		<-c.done
		if code := c.cmd.ProcessState.ExitCode(); code != exitOK {
			t.Errorf("%v ended with %d:\n%s", c.args, code, c.out)
		}
	}
	if text := lists.out.String(); strings.Contains(text, "\x1b") || strings.Count(text, "NAME  ") < 4 || !strings.Contains(text, "SECONDS") {
		t.Errorf("what is no terminal gets %q", text)
	}
	workers[0].start()
	await(t, "the lag to be gone", settle, func() bool {
		return figures(t, ops)[`millrace_projection_lag_events{generation="1",partition="3",projection="orders",status="live"}`] == 0
	})
	if code := relay.stop(); code != exitOK {
		t.Errorf("the relay ended with %d", code)
	}
}

func lagOfAll(list []projector.Status) (sum int) {
	for _, p := range list {
		sum += int(p.Lag)
	}
	return sum
}

// TestScreenShowsTheWorstFirst draws more partitions than there is room for, twice, and then an error.
func TestScreenShowsTheWorstFirst(t *testing.T) {
	t.Parallel()
	model := projector.Status{Name: "orders", Generation: 1, State: projector.Live, Position: 9, Lag: 12, LagSeconds: 61.25, WorkersWanted: 2}
	for n := range 16 {
		model.Partitions = append(model.Partitions, projector.PartitionStatus{Number: n, Position: 9, Worker: "w"})
	}
	model.Partitions[7].Lag, model.Partitions[7].LagSeconds = 12, 61.25
	model.Partitions[9].Error = "position 3: " + strings.Repeat("no ", 100)
	var b bytes.Buffer
	s := &screen{w: &b, size: func() (int, int, error) { return 60, 12, nil }, every: time.Second}
	g := glance{At: time.Now(), Projections: []projector.Status{model}}
	draw := func() []string {
		t.Helper()
		b.Reset()
		if err := s.show(g); err != nil {
			t.Fatal(err)
		}
		return strings.Split(b.String(), "\n")
	}
	first := draw()
	if len(first) != 12 || strings.Contains(first[0], "A") || first[11] != "\x1b[J" {
		t.Fatalf("%d lines: %q", len(first), first)
	}
	for n, want := range map[int]string{3: "orders  1 ", 5: "NAME", 6: "orders  9 ", 7: "orders  7  ", 10: "and 12 partitions that are no worse"} {
		if !strings.HasPrefix(strings.TrimPrefix(first[n], "\r"), want) {
			t.Errorf("line %d is %q, not %q", n, first[n], want)
		}
	}
	for _, line := range first {
		if shown := strings.TrimSuffix(strings.TrimPrefix(line, "\r"), "\x1b[K"); len(shown) > 60 {
			t.Errorf("%q is longer than the screen is wide", shown)
		}
	}
	if again := draw(); len(again) != 12 || !strings.HasPrefix(again[0], "\x1b[11A\r") {
		t.Errorf("the second list does not begin where the first did: %q", again)
	}
	g = glance{At: time.Now(), Error: "the database is away"}
	if failed := draw(); len(failed) != 4 || !strings.HasPrefix(failed[0], "\x1b[11A\r") || !strings.Contains(failed[2], g.Error) {
		t.Errorf("an error is shown as %q", failed)
	}
	s.size = func() (int, int, error) { return 0, 0, errors.New("no terminal") }
	g = glance{At: time.Now(), Projections: []projector.Status{model}}
	if list := draw(); !strings.HasPrefix(list[0], "\x1b[3A\r") || len(list) != 23 {
		t.Errorf("where the size is not known: %d lines: %q", len(list), list)
	}
}

// TestWatchingWithoutSense tells what is wrong with the command line.
func TestWatchingWithoutSense(t *testing.T) {
	t.Parallel()
	for args, want := range map[string]string{
		"projections --watch --every 0s":    "millrace: --every must be above zero, not 0s\n",
		"events --limit -3":                 "millrace: --from must be at least 1 and --limit at least 0, not 1 and -3\n",
		"worker --drain-delay -1s":          "millrace: --drain-delay (MILLRACE_DRAIN_DELAY) must not be below zero, not -1s\n",
		"bench flash-sale --buyers -5":      "millrace: --buyers must be 1 or more, not -5\n",
		"projections --every 2s":            "millrace: --every is for --watch\n",
		"projections --lag-target 0s":       "millrace: --lag-target (MILLRACE_LAG_TARGET) must be above zero, not 0s\n",
		"up --lag-target 0s --data nowhere": "millrace: --lag-target (MILLRACE_LAG_TARGET) must be above zero, not 0s\n",
		"relay --stream-window=-1":          "millrace: --stream-window (MILLRACE_STREAM_WINDOW) must not be below zero, not -1\n",
		"relay --stream-replicas 0":         "millrace: --stream-replicas (MILLRACE_STREAM_REPLICAS) must be above zero, not 0\n",
	} {
		var out, err bytes.Buffer
		if code := run(t.Context(), strings.Fields(args), &out, &err); code != exitUsage || err.String() != want {
			t.Errorf("%s ended with %d and %q, want %q", args, code, err.String(), want)
		}
	}
}
