package graph

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// subscribe starts an operation, and reports whether the socket goes on.
func (s *socket) subscribe(ctx context.Context, m message) bool {
	s.mu.Lock()
	id, acked, others := s.id, s.acked, len(s.active)
	_, taken := s.active[m.ID]
	s.mu.Unlock()
	switch {
	case !acked:
		s.close(closeUnauthorized, "say connection_init first")
		return false
	case m.ID == "":
		s.close(closeBadMessage, "subscribe needs an id")
		return false
	case taken:
		s.close(closeDuplicate, "an operation of this id runs already")
		return false
	}
	if refused := s.limit(ctx, 0); refused != nil {
		s.sendErrors(m.ID, gqlerror.List{coded(refused.Code, refused.Message)})
		return true
	}
	if limit := s.h.options.Limits.Subscriptions; others >= limit {
		s.sendErrors(m.ID, badRequest("%d operations run on this connection; at most %d are allowed", others, limit))
		return true
	}
	in, err := parseRequest(m.Payload, "the payload")
	if err != nil {
		s.sendErrors(m.ID, badRequest("%s", err))
		return true
	}
	in.streaming = true
	id.correlation = newCorrelation()
	ctx, cancel := context.WithCancel(ctx)
	p, errs := s.h.prepare(ctx, id, in)
	if errs != nil {
		cancel()
		s.sendErrors(m.ID, errs)
		return true
	}
	s.mu.Lock()
	started := &running{cancel}
	s.active[m.ID] = started
	s.mu.Unlock()
	s.operations.Go(func() { s.operate(ctx, started, m.ID, p) })
	return true
}

// operate runs an operation to its end. A client that said complete hears no more of it.
func (s *socket) operate(ctx context.Context, started *running, id string, p *prepared) {
	defer started.cancel()
	if refused := s.admit(p); refused != nil { // not in the reader: it may have to wait
		if gone := s.finish(ctx, started, id); !gone {
			s.sendErrors(id, gqlerror.List{coded(refused.Code, refused.Message)})
		}
		return
	}
	defer p.leave()
	ended := false
	defer func() {
		if cause := recover(); cause != nil {
			s.h.options.Logger.ErrorContext(ctx, "panic while serving", "correlation", p.call.correlation,
				"panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
			s.sendErrors(id, gqlerror.List{internal(p.call.correlation)})
			ended = true
		}
		if gone := s.finish(ctx, started, id); !ended && !gone {
			s.send(message{ID: id, Type: "complete"})
		}
	}()
	s.h.each(p, func(r *graphql.Response) {
		switch {
		case ctx.Err() != nil:
		case len(r.Data) == 0 && len(r.Errors) > 0:
			s.sendErrors(id, r.Errors)
			ended = true
		default:
			s.send(message{ID: id, Type: "next", Payload: s.h.encode(r)})
		}
	})
}

// limit counts an operation of the client, before anything of it is understood, or its mutations. A message has no header to tell how often it may ask.
func (s *socket) limit(ctx context.Context, mutations int) *Error {
	s.mu.Lock()
	client := s.h.client(s.conn.RemoteAddr().String(), s.header, s.id)
	s.mu.Unlock()
	return s.h.limit(ctx, client, mutations, http.Header{})
}

// admit counts what an operation changes, and lets it in.
func (s *socket) admit(p *prepared) *Error {
	if p.op.Operation.Operation == ast.Mutation {
		if err := s.limit(p.ctx, p.call.mutations); err != nil {
			return err
		}
	}
	return s.h.admit(p)
}

// finish forgets an operation, and reports whether its client has given it up.
func (s *socket) finish(ctx context.Context, started *running, id string) (gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.active[id] == started { // the client may have used the id again
		delete(s.active, id)
	}
	return ctx.Err() != nil
}

// stop ends an operation because the client asked for it.
func (s *socket) stop(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, ok := s.active[id]; ok {
		r.cancel()
		delete(s.active, id)
	}
}

// sendErrors ends an operation with errors.
func (s *socket) sendErrors(id string, errs gqlerror.List) {
	s.h.metrics.answered(&graphql.Response{Errors: errs})
	payload, err := json.Marshal(errs)
	if err != nil {
		panic(err) // strings and numbers can always be encoded
	}
	s.send(message{ID: id, Type: "error", Payload: payload})
}
