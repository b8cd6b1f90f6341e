package projector

import (
	"encoding/json"
	"fmt"

	"github.com/millrace/millrace/internal/es"
)

// Redis is a model kept as documents in Redis. Make it with [Documents].
type Redis struct {
	key func(e *es.Event) string
	// newShelf returns an empty cache of decoded documents.
	newShelf func() shelf
}

// Documents returns a model of JSON documents.
//
// Key returns the key of the document that an event belongs to, "" for none. Keys are apart by partition: a document
// is written by, and found through, streams of one partition (usually one stream). Fold returns the document after
// an event; doc is nil where there is none yet, and a nil result deletes it. Fold may change doc and return it.
func Documents[D any](key func(e *es.Event) string, fold func(doc *D, e *es.Event) (*D, error)) *Redis {
	return &Redis{key: key, newShelf: func() shelf {
		return &documentShelf[D]{fold: fold, documents: make(map[documentID]*D)}
	}}
}

type documentID struct {
	partition int
	key       string
}

// shelf holds decoded documents as they stand in Redis at the checkpoints of their partitions.
type shelf interface {
	has(id documentID) bool
	// put decodes a stored document; nil data means that there is none.
	put(id documentID, data []byte) error
	apply(id documentID, e *es.Event) error
	// encode returns the document as it is to be stored, nil if it is to be deleted.
	encode(id documentID) ([]byte, error)
	// forget drops everything; trim does when there is too much.
	forget()
	trim()
}

// shelfSize bounds the number of documents kept decoded by a runner.
const shelfSize = 20_000

type documentShelf[D any] struct {
	fold      func(doc *D, e *es.Event) (*D, error)
	documents map[documentID]*D
}

func (s *documentShelf[D]) has(id documentID) bool {
	_, ok := s.documents[id]
	return ok
}

func (s *documentShelf[D]) put(id documentID, data []byte) error {
	if data == nil {
		s.documents[id] = nil
		return nil
	}
	doc := new(D)
	if err := json.Unmarshal(data, doc); err != nil {
		return fmt.Errorf("decoding document %s: %w", id.key, err)
	}
	s.documents[id] = doc
	return nil
}

func (s *documentShelf[D]) apply(id documentID, e *es.Event) error {
	doc, err := s.fold(s.documents[id], e)
	if err != nil {
		return err
	}
	s.documents[id] = doc
	return nil
}

func (s *documentShelf[D]) encode(id documentID) ([]byte, error) {
	doc := s.documents[id]
	if doc == nil {
		return nil, nil
	}
	data, err := json.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("encoding document %s: %w", id.key, err)
	}
	return data, nil
}

func (s *documentShelf[D]) forget() { clear(s.documents) }

func (s *documentShelf[D]) trim() {
	if len(s.documents) > shelfSize {
		clear(s.documents)
	}
}
