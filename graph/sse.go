package graph

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// keepAlive is how often something is sent on a stream on which nothing happens, so that nothing between takes it for
// dead.
const keepAlive = 15 * time.Second

// serveEvents answers as server-sent events, in the "distinct connections mode" of GraphQL over SSE: an event "next" for
// each answer, then "complete". Errors of the request are the only answer. A stream that ends without "complete" was cut
// off: the client connects again.
func (h *Handler) serveEvents(w http.ResponseWriter, r *http.Request, p *prepared, errs gqlerror.List) {
	leave, ok := h.stream()
	if !ok {
		h.answerRefused(w, mediaJSON, problem(Unavailable, "this server is shutting down; connect again"))
		return
	}
	defer leave()
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // a stream lasts; see write for servers without deadlines
	w.Header().Set("Content-Type", mediaEvents.contentType())
	w.Header().Set("X-Accel-Buffering", "no")
	w.WriteHeader(http.StatusOK)

	ctx := r.Context()
	if p != nil {
		ctx = p.ctx
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &eventStream{h: h, w: w, control: control, cancel: cancel}
	pinged := make(chan struct{})
	go func() {
		defer close(pinged)
		s.keepAlive(ctx, h.draining)
	}()
	defer func() {
		cancel()
		<-pinged
	}()
	s.send(": welcome\n\n")
	if errs != nil {
		s.next(&graphql.Response{Errors: errs})
	} else {
		p.ctx = ctx
		h.each(p, s.next)
	}
	if ctx.Err() == nil {
		s.send("event: complete\ndata:\n\n")
	}
}

// eventStream is a response that several goroutines write to.
type eventStream struct {
	h       *Handler
	control *http.ResponseController
	cancel  context.CancelFunc

	mu sync.Mutex
	w  http.ResponseWriter
}

func (s *eventStream) next(r *graphql.Response) {
	s.send("event: next\ndata: " + string(s.h.encode(r)) + "\n\n")
}

// send writes and flushes; a client that does not take it ends the stream.
func (s *eventStream) send(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	if _, err := s.w.Write([]byte(text)); err != nil {
		s.cancel()
		return
	}
	if err := s.control.Flush(); err != nil {
		s.cancel()
	}
}

// keepAlive sends comments until ctx ends, and ends the stream when the server drains.
func (s *eventStream) keepAlive(ctx context.Context, draining <-chan struct{}) {
	t := time.NewTicker(keepAlive)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-draining:
			s.cancel()
			return
		case <-t.C:
			s.send(": still here\n\n")
		}
	}
}
