package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// tool runs a process to its end and returns what it printed, without what it logged.
func tool(t *testing.T, env []string, wantCode int, args ...string) string {
	t.Helper()
	p := spawn(t, env, args...)
	select {
	case <-p.done:
	case <-time.After(3 * time.Minute):
		t.Fatalf("%s does not end", strings.Join(args, " "))
	}
	if code := p.cmd.ProcessState.ExitCode(); code != wantCode {
		t.Fatalf("%s ended with %d, not %d:\n%s", strings.Join(args, " "), code, wantCode, p.out)
	}
	var printed strings.Builder
	for line := range strings.Lines(p.out.String()) {
		if !strings.HasPrefix(line, `{"time":`) {
			printed.WriteString(line)
		}
	}
	return printed.String()
}

// toolJSON runs a process that prints JSON.
func toolJSON[T any](t *testing.T, env []string, args ...string) (result T) {
	t.Helper()
	out := tool(t, env, exitOK, append(args, "--json")...)
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatalf("%s printed %s: %v", strings.Join(args, " "), out, err)
	}
	return result
}

func tells(t *testing.T, out string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(out, want) {
			t.Errorf("it says %q, not %q", out, want)
		}
	}
}

// fillShelves writes an empty log full of what many SKUs received, without the command path: each of the events is a unit.
func fillShelves(t *testing.T, pool *pgxpool.Pool, events int) {
	t.Helper()
	const skus, partitions = 64, 16
	now, batch := time.Now().UTC(), uuid.New()
	versions, ordinals := map[string]int{}, map[int]int{}
	_, err := pool.CopyFrom(t.Context(), pgx.Identifier{"events"},
		[]string{"position", "stream", "version", "type", "data", "metadata", "occurred_at", "recorded_at", "partition", "ordinal", "batch"},
		pgx.CopyFromSlice(events, func(i int) ([]any, error) {
			sku := fmt.Sprintf("FULL-%d", i%skus)
			stream := "stock-" + sku
			partition := es.PartitionOf(stream, partitions)
			versions[stream]++
			ordinals[partition]++
			kind, data := "stock.received", `{"quantity": 1}`
			if versions[stream] == 1 {
				kind, data = "stock.opened", `{"sku": "`+sku+`", "product": "p-1"}`
			}
			return []any{i + 1, stream, versions[stream], kind, []byte(data), []byte("{}"), now, now, partition, ordinals[partition], batch}, nil
		}))
	if err != nil {
		t.Fatal(err)
	}
}

// TestWorkersHelpWithAReplay has the shares of a rebuild folded by two workers and the replay itself, and not by a worker that was told
// to keep out of it.
func TestWorkersHelpWithAReplay(t *testing.T) {
	t.Parallel()
	e := stacktest.New(t)
	env, pool := shopEnv(e), connect(t, e.DatabaseURL)
	fillShelves(t, pool, 51_000)
	// Who has had a share is written down; the replay gets none, and no worker a second one, before two workers have had one.
	if _, err := pool.Exec(t.Context(), `CREATE TABLE had (worker text NOT NULL);
		CREATE FUNCTION note_share() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		  IF NEW.worker IS NULL OR NEW.worker IS NOT DISTINCT FROM OLD.worker THEN RETURN NEW; END IF;
		  LOCK TABLE had;
		  IF (SELECT count(DISTINCT worker) FROM had WHERE worker <> '') < 2 AND
		    (NEW.worker = '' OR EXISTS (SELECT FROM had WHERE worker = NEW.worker)) THEN RETURN NULL; END IF;
		  INSERT INTO had VALUES (NEW.worker);
		  RETURN NEW;
		END $$;
		CREATE TRIGGER note_share BEFORE UPDATE ON rebuild_shares FOR EACH ROW EXECUTE FUNCTION note_share()`); err != nil {
		t.Fatal(err)
	}
	helpers := []*child{spawn(t, env, "worker", "--projection", "stock"), spawn(t, env, "worker", "--projection", "stock")}
	spawn(t, append(slices.Clone(env), "MILLRACE_SHARE_REBUILDS=off"), "worker", "--projection", "stock")
	await(t, "the model to be built by three workers", 3*time.Minute, func() bool {
		var live bool
		err := pool.QueryRow(t.Context(), `SELECT (SELECT count(*) FROM workers) = 3 AND EXISTS (SELECT FROM projections WHERE status = 'live')`).Scan(&live)
		return err == nil && live
	})
	done := toolJSON[replayed](t, env, "replay", "stock")
	if done.Events != 51_000 || done.Generations["stock"] != 2 || done.PerSecond <= 0 {
		t.Errorf("the replay says %+v", done)
	}
	rows, err := pool.Query(t.Context(), `SELECT worker FROM had`)
	if err != nil {
		t.Fatal(err)
	}
	had, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(had) != 3 {
		t.Fatalf("those who had a share are %q, %v", had, err)
	}
	for _, h := range helpers {
		own := fmt.Sprintf("/%d/", h.cmd.Process.Pid)
		if !slices.ContainsFunc(had, func(worker string) bool { return strings.Contains(worker, own) }) {
			t.Errorf("worker %s had no share: %q", own, had)
		}
	}
	var units, left int
	if err := pool.QueryRow(t.Context(), `SELECT (SELECT sum(on_hand) FROM stock_2.levels), (SELECT count(*) FROM rebuild_shares)`).Scan(&units, &left); err != nil {
		t.Fatal(err)
	}
	if units != 51_000-64 || left != 0 {
		t.Errorf("%d units are on the shelves, and %d shares are left", units, left)
	}
	tells(t, tool(t, env, exitOK, "replay", "stock", "--verify"), "stock: equal to what the log says")
}

// TestReplayAndBack rebuilds a model that readers read, goes back, and forward again, while it changes.
func TestReplayAndBack(t *testing.T) {
	t.Parallel()
	s, _ := newShelf(t, 4, 1)
	s.receive()
	await(t, "the first units", settle, s.visible)
	tells(t, tool(t, s.env, exitError, "replay", "--rollback", "--all"),
		"millrace: projector: carts: there is no generation before the live one, and nothing was changed; a replay keeps the one that it replaces")

	tells(t, tool(t, s.env, exitOK, "replay", "stock", "catalogue"), "stock: readers see generation 2\n", "catalogue: readers see generation 2\n",
		"--rollback goes back to them")
	s.receive()
	await(t, "what came after the replay", settle, s.visible)
	tells(t, tool(t, s.env, exitError, "replay", "--rollback", "stock", "orders"), "projector: orders: there is no generation before the live one")
	tells(t, tool(t, s.env, exitOK, "replay", "--rollback", "stock"), "stock: readers see generation 1 again\n", "once more goes forward")
	if !s.visible() { // at once, and nothing is missing of what came while nobody read it
		t.Error("readers do not see all units after a rollback")
	}
	s.receive()
	await(t, "what came after the rollback", settle, s.visible)
	if done := toolJSON[replayed](t, s.env, "replay", "--rollback", "stock"); done.Generations["stock"] != 2 {
		t.Errorf("the second rollback says %+v", done)
	}
	if !s.visible() {
		t.Error("readers do not see all units after the second rollback")
	}
	s.verify()

	other, err := pgx.Connect(t.Context(), s.stack.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close(t.Context()) })
	// As a rebuild does that is under way.
	if _, err := other.Exec(t.Context(), `SELECT pg_advisory_lock(hashtextextended('millrace.rebuild.stock', 0))`); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"replay", "stock"}, {"replay", "--rollback", "stock"}} {
		tells(t, tool(t, s.env, exitError, args...), "projector: stock: another rebuild of this projection is under way")
	}
}

// TestModelsOfThePast builds models as they were at a position and at a time, looks at them as it is told to, and drops them.
func TestModelsOfThePast(t *testing.T) {
	t.Parallel()
	s, _ := newShelf(t, 4, 1)
	s.receive()
	var recorded time.Time
	then := s.position
	s.query(`SELECT recorded_at FROM events WHERE position = $1`, []any{then}, &recorded)
	s.receive()
	await(t, "all units", settle, s.visible)
	tells(t, tool(t, s.env, exitOK, "replay", "--past"), "there are no models of the past")

	text := tool(t, s.env, exitOK, "replay", "--until", fmt.Sprint(then), "stock", "carts")
	schema := fmt.Sprintf("stock_at_%d", then)
	tells(t, text, fmt.Sprintf("up to position %d in ", then), fmt.Sprintf("stock at position %d\n", then), schema+" ("+schema+".levels)",
		`psql "$MILLRACE_DATABASE_URL" -c '`, fmt.Sprintf("carts at position %d\n", then), `redis-cli -u "$MILLRACE_REDIS_URL" --scan --pattern 'mr:`)
	if strings.Contains(text, s.stack.DatabaseURL) {
		t.Errorf("it shows a password: %s", text)
	}
	example := regexp.MustCompile(`psql .* -c '(.*)'`).FindStringSubmatch(text)
	if example == nil {
		t.Fatalf("there is no query in %q", text)
	}
	rows, err := s.pool.Query(t.Context(), example[1])
	if err != nil {
		t.Fatal(err)
	}
	found, err := pgx.CollectRows(rows, pgx.RowToMap)
	if err != nil || len(found) != 4 {
		t.Fatalf("%s gives %v, %v", example[1], found, err)
	}
	for _, level := range found {
		if level["on_hand"] != int64(1) {
			t.Errorf("at position %d there were %v", then, level)
		}
	}

	past := toolJSON[builtPast](t, s.env, "replay", "--until", recorded.Format(time.RFC3339Nano), "stock")
	if past.Position != then || past.Events != then || len(past.Models) != 1 || past.Models[0].Schema != schema {
		t.Errorf("at %s: %+v", recorded, past)
	}
	now := toolJSON[builtPast](t, s.env, "replay", "--until", fmt.Sprint(s.position), "stock")
	if len(now.Models) != 1 || now.Models[0].Position != s.position || !strings.HasPrefix(now.Models[0].Documents, "mr:") {
		t.Errorf("now: %+v", now)
	}
	for until, want := range map[string]string{
		fmt.Sprint(s.position + 1): fmt.Sprintf("position %d; the log has positions 1 to %d", s.position+1, s.position),
		"2001-01-01T00:00:00Z":     "nothing was recorded up to 2001-01-01T00:00:00Z",
	} {
		tells(t, tool(t, s.env, exitUsage, "replay", "--until", until, "stock"), "millrace: --until: "+want)
	}

	list := toolJSON[[]projector.PastModel](t, s.env, "replay", "--past")
	if len(list) != 3 || list[0].Name != "carts" || list[1].Position != then || list[2].Position != s.position {
		t.Errorf("the list is %+v", list)
	}
	tells(t, tool(t, s.env, exitOK, "replay", "--past", "stock"), "NAME ", schema)
	tells(t, tool(t, s.env, exitUsage, "replay", "--drop-past", "1"), "millrace: --drop-past 1: there are no such models; replay --past lists")
	if dropped := toolJSON[[]projector.PastModel](t, s.env, "replay", "--drop-past", fmt.Sprint(then), "stock"); len(dropped) != 1 || dropped[0].Schema != schema {
		t.Errorf("dropped %+v", dropped)
	}
	tells(t, tool(t, s.env, exitOK, "replay", "--drop-past", "all"), fmt.Sprintf("carts at position %d: dropped\n", then),
		fmt.Sprintf("stock at position %d: dropped\n", s.position))
	tells(t, tool(t, s.env, exitOK, "replay", "--drop-past", "all"), "there are no models of the past")
	var left int
	s.query(`SELECT count(*) FROM pg_namespace WHERE nspname LIKE '%\_at\_%'`, nil, &left)
	if left != 0 {
		t.Errorf("%d schemas are left", left)
	}
	s.receive()
	await(t, "readers to go on", settle, s.visible)
}

// follow subscribes by server-sent events. Next waits for a value and decodes it.
func (s *shelf) follow(subscription string) (next func(into any)) {
	s.t.Helper()
	body, err := json.Marshal(map[string]any{"query": subscription})
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 5*time.Minute)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Authorization", "Bearer "+testStaffToken)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		cancel()
		_ = response.Body.Close()
	})
	lines := bufio.NewScanner(response.Body)
	return func(into any) {
		s.t.Helper()
		for lines.Scan() {
			data, ok := strings.CutPrefix(lines.Text(), "data: ")
			if !ok {
				continue
			}
			var a answer
			if err := json.Unmarshal([]byte(data), &a); err != nil || len(a.Errors) > 0 {
				s.t.Fatalf("%s: %v", data, err)
			}
			if err := json.Unmarshal(a.Data, into); err != nil {
				s.t.Fatalf("%s: %v", data, err)
			}
			return
		}
		s.t.Fatalf("the subscription has ended: %v", lines.Err())
	}
}

// shownProjection is what the API shows of a read model that is rebuilt.
type shownProjection struct {
	Name, Status                   string
	Generation, PreviousGeneration int
	Rebuild                        *struct {
		Generation       int
		Position, Target string
		Percent          float64
	}
}

const shownFields = `{ name status generation previousGeneration rebuild { generation position target percent } }`

// TestARebuildIsSeenEverywhere holds a rebuild just before readers would see it, and looks at it from other processes.
func TestARebuildIsSeenEverywhere(t *testing.T) {
	t.Parallel()
	s, _ := newShelf(t, 4, 1)
	s.receive()
	await(t, "the first units", settle, s.visible)
	follow := s.follow(`subscription { projectionProgress(name: "stock") ` + shownFields + ` }`)
	next := func() shownProjection {
		t.Helper()
		var value struct{ ProjectionProgress shownProjection }
		follow(&value)
		return value.ProjectionProgress
	}
	if p := next(); p.Status != "LIVE" || p.Generation != 1 || p.PreviousGeneration != 0 || p.Rebuild != nil {
		t.Errorf("at first there is %+v", p)
	}
	hold, err := s.pool.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = hold.Rollback(context.WithoutCancel(t.Context())) }) // it has ended where the test has gone on
	// Workers end the transactions of those who are silent, but for who has an advisory lock.
	for _, sql := range []string{
		`SELECT pg_advisory_xact_lock(1)`, `SELECT FROM checkpoints WHERE projection = 'stock' AND store = 'postgres' FOR UPDATE`,
	} {
		if _, err := hold.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	replay := spawn(t, s.env, "replay", "stock")
	at := fmt.Sprint(s.position)
	isHeld := func(p shownProjection) bool {
		return p.Status == "REBUILDING" && p.Generation == 1 && p.Rebuild != nil && p.Rebuild.Generation == 2 && p.Rebuild.Position == at &&
			p.Rebuild.Target == at && p.Rebuild.Percent == 100
	}
	for p := next(); !isHeld(p); p = next() { // ends with the subscription's time
		if p.Rebuild != nil && p.Rebuild.Percent == 100 && p.Rebuild.Position != at {
			t.Errorf("before it has come to the end there is %+v", *p.Rebuild)
		}
	}
	var told struct{ Projections []shownProjection }
	mustAsk(t, s.url, `{ projections `+shownFields+` }`, nil, &told)
	for _, p := range told.Projections {
		if (p.Name == "stock") != isHeld(p) || p.Name != "stock" && p.Rebuild != nil {
			t.Errorf("the API says %+v", p)
		}
	}
	if list := tool(t, s.env, exitOK, "projections"); !regexp.MustCompile(`(?m)^stock +1 +REBUILDING .* generation 2: 100%, [0-9]+ events/s$`).MatchString(list) {
		t.Errorf("the list is %s", list)
	}
	if err := hold.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	for p := next(); p.Status != "LIVE" || p.Generation != 2 || p.PreviousGeneration != 1 || p.Rebuild != nil; p = next() {
		if p.Generation != 1 && p.Rebuild != nil {
			t.Errorf("readers see %+v", p)
		}
	}
	<-replay.done
	if code := replay.cmd.ProcessState.ExitCode(); code != exitOK {
		t.Errorf("the replay ended with %d", code)
	}
	s.receive()
	await(t, "readers to go on", settle, s.visible)
}

// TestProgressWithoutATerminal has a line of the log now and then, and none in between.
func TestProgressWithoutATerminal(t *testing.T) {
	t.Parallel()
	var logged bytes.Buffer
	p := newRebuildProgress(&console{out: io.Discard, err: &logged, log: newLogger(&logged, false)}, "rebuilding")
	now := projector.Progress{Position: 250, Head: 1000, Rate: 50.4, RemainingSeconds: 15.2}
	p.show(now)
	if logged.Len() > 0 {
		t.Errorf("at once it says %s", logged.String())
	}
	p.said = time.Now().Add(-sayEvery)
	p.show(now)
	p.show(now)
	if text := logged.String(); strings.Count(text, "\n") != 1 ||
		!strings.Contains(text, `"msg":"rebuilding","position":250,"head":1000,"percent":25,"eventsPerSecond":50,"remainingSeconds":15`) {
		t.Errorf("it says %s", text)
	}
}
