package graph

import (
	"errors"
	"sync"
	"time"

	"github.com/vektah/gqlparser/v2/ast"
)

// retryAfter is what a refused client is told when the reason knows no better.
const retryAfter = time.Second

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
			return h.refusal(p, err)
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
func (h *Handler) refusal(p *prepared, err error) *Error {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e
	case p.ctx.Err() == nil: // else the client has gone
		h.options.Logger.WarnContext(p.ctx, "operation refused", "correlation", p.call.correlation, "operation", p.call.name, "error", err)
	}
	return problem(Unavailable, "the shop cannot take this now; nothing has happened, try again")
}
