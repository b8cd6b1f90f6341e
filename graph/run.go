package graph

import (
	"context"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// each runs an operation and hands over its answers, one after the other, until there are no more or its context ends. A
// query or a mutation has exactly one. When it returns, nothing of the operation runs any more.
func (h *Handler) each(p *prepared, give func(*graphql.Response)) {
	ctx, cancel := context.WithCancel(p.ctx)
	once := p.op.Operation.Operation != ast.Subscription
	if once {
		ctx, cancel = context.WithTimeout(p.ctx, h.options.Timeout)
	}
	defer p.call.background.Wait()
	defer cancel()
	if once {
		defer func(began time.Time) {
			h.metrics.seconds.WithLabelValues(p.Kind, p.field()).Observe(time.Since(began).Seconds())
		}(time.Now())
	}
	responses, ctx := h.exec.DispatchOperation(ctx, p.op)
	for {
		p.call.loaders.forget() // each answer reads for itself
		r := responses(ctx)
		switch {
		case r == nil && once:
			r = &graphql.Response{Errors: gqlerror.List{coded(errTimedOut.Code, errTimedOut.Message)}}
		case r == nil:
			if failure := p.call.failed(); failure != nil {
				give(&graphql.Response{Errors: gqlerror.List{failure}})
			}
			return
		}
		if reached := p.call.reached(); reached > 0 {
			r.Extensions = map[string]any{"position": positionText(reached)}
		}
		p.release(len(r.Errors) == 0)
		give(r)
		if once || len(r.Data) == 0 { // a subscription without data has not begun
			return
		}
	}
}
