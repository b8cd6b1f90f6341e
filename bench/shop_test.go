package bench

import (
	"os"
	"strings"
	"testing"
)

func TestAwaitAddress(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ printed, want string }{
		"as up prints it": {"\nMillrace is ready.\n  GraphQL      http://127.0.0.1:4711/graphql\n  GraphiQL     http://127.0.0.1:4711/\n", "http://127.0.0.1:4711/graphql"},
		"at the margin":   {"GraphQL http://127.0.0.1:1/graphql\n", "http://127.0.0.1:1/graphql"},
		"as api logs it":  {`{"time":"2026-11-22T09:30:00Z","level":"INFO","msg":"api runs","graphql":"http://127.0.0.1:4711/graphql"}` + "\n", "http://127.0.0.1:4711/graphql"},
		"twice":           {"GraphQL http://a/\nGraphQL http://b/\n", "http://a/"},
		"not at all":      {"Starting\n" + strings.Repeat("x", 100_000), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ready := make(chan string, 1)
			awaitAddress(strings.NewReader(c.printed), ready)
			close(ready)
			if got := <-ready; got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestResidentMemory(t *testing.T) {
	t.Parallel()
	now, peak, err := residentMemory(t.Context(), os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if now < 1 || peak < now || peak > 64<<10 {
		t.Errorf("this test takes %v MiB, at most %v", now, peak)
	}
	if got, err := statusField("Name:\tx\nVmHWM:\t    3072 kB\n", "VmHWM"); err != nil || got != 3 {
		t.Errorf("3072 kB are %v MiB (%v)", got, err)
	}
	if _, err := statusField("State:\tZ (zombie)\n", "VmRSS"); err == nil {
		t.Error("a process that has ended has no memory")
	}
}

func TestLastLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a line of a log\n", 1000)
	got := string(lastLines([]byte(long + "the end\n\n")))
	if len(got) > 4000 || !strings.HasPrefix(got, "a line") || !strings.HasSuffix(got, "the end") {
		t.Errorf("got %d bytes, from %.20q to %q", len(got), got, got[len(got)-20:])
	}
}
