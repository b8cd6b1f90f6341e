package graph

import (
	"bytes"
	"net/http"

	lru "github.com/hashicorp/golang-lru/v2"
)

// glances remembers what operations are by how their documents are spelled in requests, so that one that is to be refused need not be
// understood first.
type glances struct {
	known *lru.Cache[string, Operation]
}

func newGlances() (glances, error) {
	known, err := lru.New[string, Operation](cachedDocuments)
	return glances{known}, err
}

// glance returns what an operation probably is. A wrong guess costs only whoever dresses one request up as another: what it is not refused
// for is decided when it is understood.
func (g glances) glance(r *http.Request, raw []byte) (Operation, bool) {
	if r.Method != http.MethodPost {
		return Operation{}, false
	}
	return g.known.Get(string(spelledDocument(raw)))
}

// remember keeps what a request turned out to be, unless its operationName decides that.
func (g glances) remember(r *http.Request, raw []byte, p *prepared) {
	if r.Method != http.MethodPost || len(p.doc.Operations) != 1 {
		return
	}
	if spelled := spelledDocument(raw); len(spelled) > 0 && len(spelled) <= cachedBytes && !g.known.Contains(string(spelled)) {
		g.known.Add(string(spelled), p.Operation)
	}
}

// spelledDocument returns the first string in a body that is called query or, where there is none, sha256Hash, as it is spelled: with its
// escapes. It is empty where there is neither.
func spelledDocument(body []byte) []byte {
	for _, name := range []string{`"query"`, `"sha256Hash"`} {
		_, rest, ok := bytes.Cut(body, []byte(name))
		if !ok {
			continue
		}
		rest, ok = bytes.CutPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte(":"))
		if !ok {
			continue
		}
		rest, ok = bytes.CutPrefix(bytes.TrimLeft(rest, " \t\r\n"), []byte(`"`))
		if !ok {
			continue
		}
		for end := 0; end < len(rest); end++ {
			switch rest[end] {
			case '\\':
				end++
			case '"':
				return rest[:end]
			}
		}
	}
	return nil
}
