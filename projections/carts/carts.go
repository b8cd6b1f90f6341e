// Package carts is the read model of carts: a document each in Redis. A cart that Redis does not have is folded
// from its stream, which is short.
package carts

import (
	"context"
	"fmt"

	"github.com/bytedance/sonic"

	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// Name is the projection's name.
const Name = "carts"

// Projection keeps a document for each cart.
func Projection() projector.Projection {
	return projector.Projection{
		Name:    Name,
		Version: 1,
		Events:  es.TypesOf(cart.Events()),
		Redis: projector.Documents(
			func(e *es.Event) string { return e.Stream },
			func(c *cart.State, e *es.Event) (*cart.State, error) {
				fact, ok := e.Fact.(cart.Event)
				if !ok {
					return nil, fmt.Errorf("carts: %T is no event of a cart", e.Fact)
				}
				if c == nil {
					c = &cart.State{}
				}
				next := cart.Evolve(*c, fact)
				return &next, nil
			}),
	}
}

// Model answers queries about carts.
type Model struct {
	models *projector.Models
	kind   es.Kind[cart.State]
	log    es.Reader
}

// New returns the model read through models, and from the log where Redis does not have a cart.
func New(models *projector.Models, kind es.Kind[cart.State], log es.Reader) *Model {
	return &Model{models: models, kind: kind, log: log}
}

// Carts returns the carts with the refs in their order, nil where there is none.
func (m *Model) Carts(ctx context.Context, refs []string) ([]*cart.State, error) {
	keys := make([]projector.DocKey, len(refs))
	for i, ref := range refs {
		stream := m.kind.Stream(ref).Name()
		keys[i] = projector.DocKey{Stream: stream, Key: stream}
	}
	documents, err := m.models.Documents(ctx, Name, keys)
	if err != nil {
		return nil, err
	}
	carts := make([]*cart.State, len(refs))
	for i, d := range documents {
		if d == nil {
			state, version, err := es.Load(ctx, m.log, m.kind.Stream(refs[i]))
			if err != nil {
				return nil, fmt.Errorf("carts: folding a cart from the log: %w", err)
			}
			if version > 0 {
				carts[i] = &state
			}
			continue
		}
		carts[i] = &cart.State{}
		if err := sonic.ConfigStd.Unmarshal(d, carts[i]); err != nil {
			return nil, fmt.Errorf("carts: a cart's document: %w", err)
		}
	}
	return carts, nil
}
