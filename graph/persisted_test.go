package graph_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/millrace/millrace/graph"
)

// library is where the processes of a test share documents.
type library struct {
	mu    sync.Mutex
	texts map[[sha256.Size]byte][]byte
}

func (l *library) Get(_ context.Context, hash [sha256.Size]byte) ([]byte, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text, ok := l.texts[hash]
	return text, ok
}

func (l *library) Put(_ context.Context, hash [sha256.Size]byte, text []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.texts[hash] = text
}

// TestPersistedQueries goes through Apollo's protocol for automatic persisted queries, by GET and by POST.
func TestPersistedQueries(t *testing.T) {
	s := newShop(t)
	shared := &library{texts: map[[sha256.Size]byte][]byte{}}
	_, base := face(t, s, graph.Options{Persisted: shared})
	_, other := face(t, s, graph.Options{Persisted: shared})
	_, apart := face(t, s, graph.Options{})
	hash := func(query string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(query))) }
	extension := func(version any, hash string) string {
		text, err := json.Marshal(map[string]any{"persistedQuery": map[string]any{"version": version, "sha256Hash": hash}})
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	post := func(base, query, extensions string) answer {
		body := fmt.Sprintf(`{"extensions": %s}`, extensions)
		if query != "" {
			body = fmt.Sprintf(`{"query": %q, "extensions": %s}`, query, extensions)
		}
		return send(t, http.MethodPost, base+"/graphql", body)
	}
	get := func(base, query, extensions string) answer {
		parameters := url.Values{"extensions": {extensions}}
		if query != "" {
			parameters.Set("query", query)
		}
		return send(t, http.MethodGet, base+"/graphql?"+parameters.Encode(), "")
	}
	const notFound = "PERSISTED_QUERY_NOT_FOUND: PersistedQueryNotFound"
	ways := []struct {
		name string
		ask  func(base, query, extensions string) answer
	}{{"POST", post}, {"GET", get}}
	for _, way := range ways {
		query := `{ ` + strings.ToLower(way.name) + `: products { totalCount } }`
		known := extension(1, hash(query))
		if a := way.ask(base, "", known); a.status != http.StatusOK || a.wrong(t) != notFound || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s, not known: %d %v %s", way.name, a.status, a.header, a.body)
		}
		if a := way.ask(base, query+" ", known); a.wrong(t) != "BAD_USER_INPUT: extensions.persistedQuery.sha256Hash is not the SHA-256 of the query" {
			t.Errorf("%s, another document: %s", way.name, a.body)
		}
		if a := way.ask(base, "", known); a.wrong(t) != notFound {
			t.Errorf("%s: a document that is another's was kept: %s", way.name, a.body)
		}
		full := way.ask(base, query, known).must(t)
		for _, again := range ways { // whatever brought it, and whoever keeps it
			for _, at := range []string{base, other} {
				if a := again.ask(at, "", known).must(t); a.body != full.body {
					t.Errorf("%s after %s: %s", again.name, way.name, a.body)
				}
			}
		}
		if a := way.ask(apart, "", known); a.wrong(t) != notFound {
			t.Errorf("%s: a process apart answered %s", way.name, a.body)
		}
	}
	bad := `{ nonsense }`
	if a := post(base, bad, extension(1, hash(bad))); !strings.HasPrefix(a.wrong(t), "BAD_USER_INPUT") {
		t.Errorf("nonsense: %s", a.body)
	}
	long := `{ products { totalCount } } #` + strings.Repeat("x", 17<<10)
	post(base, long, extension(1, hash(long))).must(t)
	for name, extensions := range map[string]string{"nonsense": extension(1, hash(bad)), "too long": extension(1, hash(long))} {
		if a := post(base, "", extensions); a.wrong(t) != notFound {
			t.Errorf("%s was kept: %s", name, a.body)
		}
	}
	for extensions, want := range map[string]string{
		extension(2, hash(bad)): "PERSISTED_QUERY_NOT_SUPPORTED: PersistedQueryNotSupported",
		extension(1, "abc"):     "BAD_USER_INPUT: extensions.persistedQuery.sha256Hash is not the SHA-256 of a document in 64 hex digits",
		`{"persistedQuery": 1}`: "BAD_USER_INPUT: extensions.persistedQuery is not an object",
	} {
		if a := post(base, "", extensions); a.wrong(t) != want {
			t.Errorf("%s: %s", extensions, a.body)
		}
	}
	mutation := `mutation { cartCreate { position } }`
	post(base, mutation, extension(1, hash(mutation))).must(t)
	if a := get(base, "", extension(1, hash(mutation))); a.status != http.StatusMethodNotAllowed {
		t.Errorf("a mutation by GET: %d %s", a.status, a.body)
	}
	if a := send(t, http.MethodPost, base+"/graphql", extensionsBody(extension(1, hash("{ x }"))), "Accept", graphqlJSON); a.status != http.StatusBadRequest || a.wrong(t) != notFound {
		t.Errorf("as %s: %d %s", graphqlJSON, a.status, a.body)
	}
}

func extensionsBody(extensions string) string { return `{"extensions": ` + extensions + `}` }
