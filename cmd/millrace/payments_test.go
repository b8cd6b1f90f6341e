package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/processes/payments"
)

// TestAnOperatorRetriesPayments lists and retries parked tasks from the command line.
func TestAnOperatorRetriesPayments(t *testing.T) {
	t.Parallel()
	e := stacktest.New(t, stacktest.WithoutNATS())
	env := []string{"MILLRACE_DATABASE_URL=" + e.DatabaseURL}
	pool := connect(t, e.DatabaseURL)
	tool := func(wantCode int, args ...string) string {
		t.Helper()
		p := spawn(t, env, append([]string{"payments"}, args...)...)
		<-p.done
		if code := p.cmd.ProcessState.ExitCode(); code != wantCode {
			t.Fatalf("%s ended with %d, not %d:\n%s", strings.Join(args, " "), code, wantCode, p.out)
		}
		return p.out.String()
	}
	tells := func(out string, wants ...string) {
		t.Helper()
		for _, want := range wants {
			if !strings.Contains(out, want) {
				t.Errorf("it says %q, not %q", out, want)
			}
		}
	}
	// due are the tasks that would be tried now, as if for the first time.
	due := func() (n int) {
		t.Helper()
		err := pool.QueryRow(t.Context(), `SELECT count(*) FROM process_attempts WHERE process = 'payments' AND next_at <= now() AND attempts = 0`).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}

	tells(tool(exitOK, "parked"), "nothing is parked")
	tells(tool(exitOK, "parked", "--json"), "[]")
	tells(tool(exitOK, "retry", "--all"), "nothing is parked")
	tells(tool(exitUsage, "retry"), "name tasks, or say --all")
	tells(tool(exitUsage, "retry", "capture 1", "--all"), "name tasks, or say --all")

	_, err := pool.Exec(t.Context(), `INSERT INTO process_attempts (process, task, attempts, next_at, last_error) VALUES
		('payments', 'capture 1', 1, 'infinity', 'the payment was declined: not with us'),
		('payments', 'refund 2 500', 20, 'infinity', NULL),
		('payments', 'void 3', 1, 'infinity', 'no'),
		('payments', 'void 4', 7, now() + interval '1 hour', 'the payment provider failed'),
		('other', 'void 5', 1, 'infinity', 'no')`)
	if err != nil {
		t.Fatal(err)
	}
	out := tool(exitOK, "parked")
	tells(out, "capture 1", "the payment was declined: not with us", "refund 2 500")
	for _, not := range []string{"void 4", "void 5"} {
		if strings.Contains(out, not) {
			t.Errorf("it lists %s, which is not parked:\n%s", not, out)
		}
	}
	var list []payments.Parked
	want := []payments.Parked{
		{Task: "capture 1", Step: payments.Capture, Order: "1", Attempts: 1, Error: "the payment was declined: not with us"},
		{Task: "refund 2 500", Step: payments.Refund, Order: "2", Attempts: 20},
		{Task: "void 3", Step: payments.Void, Order: "3", Attempts: 1, Error: "no"},
	}
	if out := tool(exitOK, "parked", "--json"); json.Unmarshal([]byte(out), &list) != nil || !reflect.DeepEqual(list, want) {
		t.Errorf("the list is %s", out)
	}

	tells(tool(exitUsage, "retry", "void 4"), "not parked: void 4; millrace payments parked lists what is")
	tells(tool(exitUsage, "retry", "capture 1", "capture 9"), "capture 1 will be tried again", "not parked: capture 9;")
	if n := due(); n != 1 {
		t.Errorf("%d tasks are due, want the one that was named", n)
	}
	var retried retriedPayments
	wantRetried := retriedPayments{Retried: []string{"refund 2 500", "void 3"}, NotParked: []string{}}
	if out := tool(exitOK, "retry", "--all", "--json"); json.Unmarshal([]byte(out), &retried) != nil || !reflect.DeepEqual(retried, wantRetried) {
		t.Errorf("it says %s", out)
	}
	if n := due(); n != len(want) {
		t.Errorf("%d tasks are due, want %d", n, len(want))
	}
	tells(tool(exitOK, "parked"), "nothing is parked")
}
