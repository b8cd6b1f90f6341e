package projector

import (
	"context"

	"github.com/millrace/millrace/internal/es"
)

// bulkDocuments folds many batches in memory before it writes the documents that they changed.
type bulkDocuments struct {
	*redisStore
	shelf   shelf
	moves   deferredMoves
	touched map[documentID]struct{} // nil: nothing is left to write
}

func (s *bulkDocuments) direct() store { return s.redisStore }

func (s *bulkDocuments) apply(ctx context.Context, moves []move, events []es.Event, _ bool) error {
	if s.touched == nil {
		s.touched = make(map[documentID]struct{})
		s.moves.reset()
	}
	s.moves.add(moves, len(events))
	ids, err := s.fold(ctx, s.shelf, s.moves.list(), events, s.touched)
	if err != nil {
		s.forget()
		return err
	}
	for _, id := range ids {
		s.touched[id] = struct{}{}
	}
	if s.moves.events < deferredEvents && len(s.touched) < deferredStates {
		return nil
	}
	return s.flush(ctx)
}

func (s *bulkDocuments) flush(ctx context.Context) error {
	if s.touched == nil {
		return nil
	}
	ids := make([]documentID, 0, len(s.touched))
	for id := range s.touched {
		ids = append(ids, id)
	}
	err := s.write(ctx, s.shelf, s.moves.list(), ids)
	if err != nil {
		s.forget()
		return err
	}
	s.touched = nil
	s.shelf.trim()
	return nil
}

func (s *bulkDocuments) discard(context.Context) { s.forget() }

func (s *bulkDocuments) forget() {
	s.touched = nil
	s.shelf.forget()
}
