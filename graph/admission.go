package graph

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/vektah/gqlparser/v2/ast"
)

// retryAfter is what a refused client is told when the reason knows no better.
const retryAfter = time.Second

// limit counts a request of a client, or the mutations of one, or says that there are too many.
func (h *Handler) limit(ctx context.Context, c Client, mutations int, answer http.Header) *Error {
	if h.options.Limit == nil {
		return nil
	}
	if err := h.options.Limit(ctx, c, mutations, answer); err != nil {
		return h.refusal(ctx, err)
	}
	return nil
}

// refuse says why a request is refused before anything of it is understood, nil if it is not.
func (h *Handler) refuse(r *http.Request, raw []byte) *Error {
	if h.options.Refuse == nil {
		return nil
	}
	op, known := h.glances.glance(r, raw)
	if !known {
		return nil
	}
	return h.options.Refuse(op)
}

// admit lets an operation in, or says why it may not run now. One that it lets in has to leave.
func (h *Handler) admit(p *prepared) *Error {
	streams := p.op.Operation.Operation == ast.Subscription
	if streams && h.subscriptions.Add(1) > int64(h.options.MaxSubscriptions) {
		h.subscriptions.Add(-1)
		return problem(Overloaded, "there are as many subscriptions as this server takes; try again")
	}
	var release Release
	if h.options.Admit != nil {
		var err error
		if release, err = h.options.Admit(p.ctx, p.Operation); err != nil {
			if streams {
				h.subscriptions.Add(-1)
			}
			return h.refusal(p.ctx, err)
		}
	}
	var first sync.Once
	p.release = func(completed bool) {
		first.Do(func() {
			if release != nil {
				release(completed && !streams)
			}
		})
	}
	p.leave = func() {
		p.release(false)
		if streams {
			h.subscriptions.Add(-1)
		}
	}
	return nil
}

// refusal returns what a client hears of the reason why its operation is not to run.
func (h *Handler) refusal(ctx context.Context, err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case ctx.Err() == nil: // else the client has gone
		c := callFrom(ctx)
		h.options.Logger.WarnContext(ctx, "operation refused", "correlation", c.correlation, "operation", c.name, "error", err)
	}
	return problem(Unavailable, "the shop cannot take this now; nothing has happened, try again")
}
