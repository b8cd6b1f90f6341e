package projector

import (
	"strconv"
	"strings"
	"sync"
)

// schemaNames puts the schemas of generations into SQL: "orders.lines" becomes "orders_3.lines". What stands in
// string literals, quoted identifiers and comments stays, and so does a name behind a dot ("orders.orders.id").
type schemaNames struct {
	schemas map[string]string // projection name -> schema

	mu    sync.RWMutex
	cache map[string]string
}

func newSchemaNames(schemas map[string]string) *schemaNames {
	return &schemaNames{schemas: schemas, cache: make(map[string]string)}
}

func schemaName(projection string, generation int) string {
	return projection + "_" + strconv.Itoa(generation)
}

// cachedStatements bounds the cache: SQL that is put together by hand must not fill the memory.
const cachedStatements = 1024

func (n *schemaNames) rewrite(sql string) string {
	n.mu.RLock()
	out, ok := n.cache[sql]
	n.mu.RUnlock()
	if ok {
		return out
	}
	out = rewriteSchemas(sql, n.schemas)
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.cache) >= cachedStatements {
		clear(n.cache)
	}
	n.cache[sql] = out
	return out
}

func rewriteSchemas(sql string, schemas map[string]string) string {
	var b strings.Builder
	b.Grow(len(sql) + 32)
	for i := 0; i < len(sql); {
		end := i + 1
		switch c := sql[i]; {
		case c == '\'' || c == '"':
			end = skipQuoted(sql, i)
		case c == '-' && strings.HasPrefix(sql[i:], "--"):
			end = i + lengthUpTo(sql[i:], "\n")
		case c == '/' && strings.HasPrefix(sql[i:], "/*"):
			end = i + lengthUpTo(sql[i:], "*/")
		case isNameByte(c):
			for end < len(sql) && isNameByte(sql[end]) {
				end++
			}
			schema, ok := schemas[sql[i:end]]
			if ok && end < len(sql) && sql[end] == '.' && (i == 0 || sql[i-1] != '.') {
				b.WriteString(schema)
				i = end
				continue
			}
		}
		b.WriteString(sql[i:end])
		i = end
	}
	return b.String()
}

// skipQuoted returns the index behind the quoted text that begins at i. A doubled quote begins another quoted text
// right behind, which comes to the same.
func skipQuoted(sql string, i int) int {
	if j := strings.IndexByte(sql[i+1:], sql[i]); j >= 0 {
		return i + 1 + j + 1
	}
	return len(sql)
}

func lengthUpTo(s, terminator string) int {
	if j := strings.Index(s, terminator); j >= 0 {
		return j + len(terminator)
	}
	return len(s)
}

func isNameByte(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
