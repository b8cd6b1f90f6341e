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
	open    bool  // something is left to write
	touched []int // the places of the documents that are
}

func (s *bulkDocuments) direct() store { return s.redisStore }

func (s *bulkDocuments) apply(ctx context.Context, moves []move, events []es.Event, _ bool) error {
	if !s.open {
		s.open, s.touched = true, s.touched[:0]
		s.moves.reset()
		s.shelf.turn()
	}
	s.moves.add(moves, len(events))
	var err error
	if s.touched, err = s.fold(ctx, s.shelf, s.moves.list(), events, s.touched); err != nil {
		s.forget()
		return err
	}
	if s.moves.events < deferredEvents && len(s.touched) < deferredStates {
		return nil
	}
	return s.flush(ctx)
}

func (s *bulkDocuments) flush(ctx context.Context) error {
	if !s.open {
		return nil
	}
	err := s.write(ctx, s.shelf, s.moves.list(), s.touched)
	if err != nil {
		s.forget()
		return err
	}
	s.open = false
	s.shelf.trim()
	return nil
}

func (s *bulkDocuments) discard(context.Context) { s.forget() }

func (s *bulkDocuments) forget() {
	s.open = false
	s.shelf.forget()
}
