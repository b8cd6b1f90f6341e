package graph

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/99designs/gqlgen/graphql"
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

// glance returns what an operation probably is: what the document is that it finds in the request. Whoever dresses one document up as another pays for that
// alone: what is known of a document is true of it (remember), and what a request is not refused for is decided when it is understood.
func (g glances) glance(r *http.Request, raw []byte) (Operation, bool) {
	if r.Method != http.MethodPost {
		return Operation{}, false
	}
	return g.known.Get(string(spelledDocument(raw)))
}

// remember keeps what a request turned out to be, unless its operationName decides that, or glance finds something else in it than the document that
// ran: whoever hides the document of others in a request does not decide what theirs is.
func (g glances) remember(r *http.Request, raw []byte, p *prepared) {
	if r.Method != http.MethodPost || len(p.doc.Operations) != 1 {
		return
	}
	spelled := spelledDocument(raw)
	if len(spelled) > 0 && len(spelled) <= cachedBytes && !g.known.Contains(string(spelled)) && names(spelled, p.op) {
		g.known.Add(string(spelled), p.Operation)
	}
}

// names reports whether what is spelled like that in a request is the document that ran, or the hash that it was named by.
func names(spelled []byte, op *graphql.OperationContext) bool {
	var text string
	if err := json.Unmarshal([]byte(`"`+string(spelled)+`"`), &text); err != nil {
		return false
	}
	if text == op.RawQuery {
		return true
	}
	hash, named, errs := hashOf(op.Extensions)
	return named && errs == nil && strings.EqualFold(text, hex.EncodeToString(hash[:]))
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
