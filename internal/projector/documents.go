package projector

import (
	"fmt"

	"github.com/bytedance/sonic"

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
		return &documentShelf[D]{fold: fold, places: make(map[documentID]int)}
	}}
}

type documentID struct {
	partition int
	key       string
}

// shelf holds decoded documents: as they stand in Redis at the checkpoints of their partitions, and, in a turn, as they are going
// to. A document has a place on it, so that it is looked up once an event.
type shelf interface {
	// turn begins another turn: everything on the shelf is in Redis.
	turn()
	// find returns a document's place. First is whether it is asked for the first time in this turn, known whether the document
	// has been put there.
	find(id documentID) (place int, first, known bool)
	// put decodes a stored document; nil data means that there is none.
	put(place int, data []byte) error
	apply(place int, e *es.Event) error
	// encode returns the document as it is to be stored, nil if it is to be deleted.
	encode(place int) (id documentID, data []byte, err error)
	// forget drops everything; trim does when there is too much.
	forget()
	trim()
}

// shelfSize bounds the number of documents kept decoded by a runner.
const shelfSize = 20_000

type documentShelf[D any] struct {
	fold      func(doc *D, e *es.Event) (*D, error)
	places    map[documentID]int
	documents []shelved[D]
	turns     uint64
}

type shelved[D any] struct {
	id    documentID
	doc   *D // nil: there is none
	known bool
	asked uint64 // the last turn in which it was asked for
}

func (s *documentShelf[D]) turn() { s.turns++ }

func (s *documentShelf[D]) find(id documentID) (place int, first, known bool) {
	place, ok := s.places[id]
	if !ok {
		place = len(s.documents)
		s.places[id] = place
		s.documents = append(s.documents, shelved[D]{id: id})
	}
	d := &s.documents[place]
	first = d.asked != s.turns
	d.asked = s.turns
	return place, first, d.known
}

func (s *documentShelf[D]) put(place int, data []byte) error {
	d := &s.documents[place]
	d.doc, d.known = nil, true
	if data == nil {
		return nil
	}
	d.doc = new(D)
	if err := sonic.ConfigStd.Unmarshal(data, d.doc); err != nil {
		return fmt.Errorf("decoding document %s: %w", d.id.key, err)
	}
	return nil
}

func (s *documentShelf[D]) apply(place int, e *es.Event) (err error) {
	d := &s.documents[place]
	doc, err := s.fold(d.doc, e)
	if err == nil {
		d.doc = doc
	}
	return err
}

func (s *documentShelf[D]) encode(place int) (id documentID, data []byte, err error) {
	d := &s.documents[place]
	if d.doc == nil {
		return d.id, nil, nil
	}
	if data, err = sonic.ConfigStd.Marshal(d.doc); err != nil {
		return d.id, nil, fmt.Errorf("encoding document %s: %w", d.id.key, err)
	}
	return d.id, data, nil
}

func (s *documentShelf[D]) forget() {
	clear(s.places)
	clear(s.documents)
	s.documents = s.documents[:0]
}

func (s *documentShelf[D]) trim() {
	if len(s.documents) > shelfSize {
		s.forget()
	}
}
