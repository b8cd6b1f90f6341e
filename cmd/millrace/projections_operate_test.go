package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// TestAnOperatorParksAnEvent stops read models with an event that no release can decode, and gets one of them moving from the
// command line.
func TestAnOperatorParksAnEvent(t *testing.T) {
	t.Parallel()
	e := stacktest.New(t)
	env := []string{"MILLRACE_DATABASE_URL=" + e.DatabaseURL, "MILLRACE_REDIS_URL=" + e.RedisURL, "MILLRACE_NATS_URL=" + e.NATSURL}
	conn, err := pgx.Connect(t.Context(), e.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	const stream = "order-1"
	for position := range 2 {
		_, err := conn.Exec(t.Context(), `INSERT INTO events (position, stream, version, type, data, metadata, occurred_at, recorded_at, partition, ordinal, batch)
			VALUES ($1, $2, $1, 'order.fulfilled', '{"lines": "none"}', '{}', now(), now(), $3, $1, gen_random_uuid())`,
			position+1, stream, es.PartitionOf(stream, 16))
		if err != nil {
			t.Fatal(err)
		}
	}
	spawn(t, env, "worker")
	tool := func(wantCode int, args ...string) string {
		t.Helper()
		if args[0] != "replay" {
			args = append([]string{"projections"}, args...)
		}
		p := spawn(t, env, args...)
		<-p.done
		if code := p.cmd.ProcessState.ExitCode(); code != wantCode {
			t.Fatalf("%s ended with %d, not %d:\n%s", strings.Join(args, " "), code, wantCode, p.out)
		}
		return p.out.String()
	}
	tells := func(out, want string) {
		t.Helper()
		if !strings.Contains(out, want) {
			t.Errorf("it says %q, not %q", out, want)
		}
	}
	await(t, "the read model to stand still", settle, func() bool {
		var n int
		err := conn.QueryRow(t.Context(), `SELECT count(*) FROM projection_failures WHERE projection = 'orders' AND position = 1`).Scan(&n)
		return err == nil && n == 1
	})
	await(t, "the list to tell so", settle, func() bool { return strings.Contains(tool(exitOK, "list"), "FAILED") }) // of what readers see by then
	tells(tool(exitOK, "--json"), "position 1, order.fulfilled of order-1")
	tells(tool(exitOK, "--json"), `"status": "FAILED"`)
	tells(tool(exitOK, "parked"), "nothing is parked")
	tells(tool(exitUsage, "park", "orders", "--position", "2"), "it stands still at 1 (order.fulfilled of order-1)")
	tells(tool(exitError, "retry", "orders", "--position", "1"), "orders still stands still at position 1")
	tells(tool(exitOK, "park", "orders", "--position", "1"), "orders goes on without position 1; stream order-1 waits until it is retried")
	tells(tool(exitUsage, "park", "orders", "--position", "1"), "position 1 is parked in orders already")
	tells(tool(exitUsage, "retry", "orders", "--position", "2"), "retry that one")
	tells(tool(exitOK, "parked", "orders"), "order.fulfilled")
	tells(tool(exitOK, "list"), "1 stream is parked")
	tells(tool(exitError, "retry", "orders", "--position", "1"), "stream order-1 of orders is still parked, at position 1 (order.fulfilled)")
	var list []projector.ParkedEvent
	if out := tool(exitOK, "parked", "--json"); json.Unmarshal([]byte(out[strings.Index(out, "["):]), &list) != nil ||
		len(list) != 1 || list[0].Position != 1 || list[0].Waiting != 1 || list[0].Stream != stream {
		t.Errorf("the list is %s", out)
	}
	tells(tool(exitOK, "replay", "orders", "--verify"), "stream order-1 is parked at position 1")
	tells(tool(exitError, "replay", "sales"), "event 1 (order.fulfilled, stream order-1) cannot be applied") // nobody has parked it there
	tells(tool(exitOK, "replay", "orders"), "it still cannot be applied")
}
