package graph

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

const (
	// persistedBytes is the length of the longest document that is remembered by its hash.
	persistedBytes = 16 << 10
	// persistedDocuments is how many this process remembers by itself.
	persistedDocuments = 1000
)

// Documents are where processes share documents by their SHA-256. They may be forgotten at any time.
type Documents interface {
	Get(ctx context.Context, hash [sha256.Size]byte) ([]byte, bool)
	Put(ctx context.Context, hash [sha256.Size]byte, text []byte)
}

// persisted remembers documents by their hash, as Apollo's automatic persisted queries ask: a client sends the hash alone, and
// the document too only when it hears that nobody knows it.
type persisted struct {
	local  *lru.Cache[[sha256.Size]byte, string]
	shared Documents // nil: none
}

func newPersisted(shared Documents) (*persisted, error) {
	local, err := lru.New[[sha256.Size]byte, string](persistedDocuments)
	return &persisted{local, shared}, err
}

// hashOf returns the hash that a request names its document by, and whether it names one.
func hashOf(extensions map[string]any) (hash [sha256.Size]byte, named bool, errs gqlerror.List) {
	extension, named := extensions["persistedQuery"]
	if !named || extension == nil {
		return hash, false, nil
	}
	fields, ok := extension.(map[string]any)
	if !ok {
		return hash, true, badRequest("extensions.persistedQuery is not an object")
	}
	if fmt.Sprint(fields["version"]) != "1" {
		return hash, true, gqlerror.List{coded(PersistedQueryNotSupported, "PersistedQueryNotSupported")}
	}
	text, _ := fields["sha256Hash"].(string)
	raw, err := hex.DecodeString(text)
	if err != nil || len(raw) != len(hash) {
		return hash, true, badRequest("extensions.persistedQuery.sha256Hash is not the SHA-256 of a document in 64 hex digits")
	}
	return [sha256.Size]byte(raw), true, nil
}

// complete returns the document that a request means: its own, or the one that its hash names.
func (p *persisted) complete(ctx context.Context, in *request) gqlerror.List {
	hash, named, errs := hashOf(in.extensions)
	if !named || errs != nil {
		return errs
	}
	if in.query != "" {
		if sha256.Sum256([]byte(in.query)) != hash {
			return badRequest("extensions.persistedQuery.sha256Hash is not the SHA-256 of the query")
		}
		return nil
	}
	if text, ok := p.local.Get(hash); ok {
		in.query = text
		return nil
	}
	if p.shared != nil {
		if text, ok := p.shared.Get(ctx, hash); ok && sha256.Sum256(text) == hash {
			in.query = string(text)
			p.local.Add(hash, in.query)
			return nil
		}
	}
	return gqlerror.List{coded(PersistedQueryNotFound, "PersistedQueryNotFound")}
}

// remember keeps the document of a request that names its hash. It is valid.
func (p *persisted) remember(ctx context.Context, in *request) {
	hash, named, errs := hashOf(in.extensions)
	if !named || errs != nil || len(in.query) > persistedBytes || p.local.Contains(hash) {
		return
	}
	p.local.Add(hash, in.query)
	if p.shared != nil {
		p.shared.Put(ctx, hash, []byte(in.query))
	}
}
