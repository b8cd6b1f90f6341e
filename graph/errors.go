package graph

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/millrace/millrace/domain/rule"
	"github.com/millrace/millrace/graph/model"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// Code is what programs find in an error's extensions.code.
type Code string

// The codes that exist.
const (
	// BadUserInput is a request that no state could make acceptable.
	BadUserInput Code = "BAD_USER_INPUT"
	// Unauthenticated is a token that is not the staff's.
	Unauthenticated Code = "UNAUTHENTICATED"
	// Forbidden is a field that only staff may ask for.
	Forbidden Code = "FORBIDDEN"
	// NotFound is a subscription to something that does not exist.
	NotFound Code = "NOT_FOUND"
	// Conflict is an idempotency key, in a header or in extensions, that was used before for another request.
	Conflict Code = "CONFLICT"
	// Stale is a read model that has not come as far as it was asked for.
	Stale Code = "STALE"
	// RateLimited is a client that asks too often.
	RateLimited Code = "RATE_LIMITED"
	// Overloaded is more work than is accepted.
	Overloaded Code = "OVERLOADED"
	// Unavailable is a part of the shop that cannot be had now.
	Unavailable Code = "UNAVAILABLE"
	// PersistedQueryNotFound is a hash whose document nobody knows: send it once more with the document.
	PersistedQueryNotFound Code = "PERSISTED_QUERY_NOT_FOUND"
	// PersistedQueryNotSupported is a persisted query of another version than 1.
	PersistedQueryNotSupported Code = "PERSISTED_QUERY_NOT_SUPPORTED"
	// Internal is a mistake of ours.
	Internal Code = "INTERNAL"
)

var codes = []Code{
	BadUserInput, Unauthenticated, Forbidden, NotFound, Conflict, Stale, RateLimited, Overloaded, Unavailable,
	PersistedQueryNotFound, PersistedQueryNotSupported, Internal,
}

// Error is an error whose text is for the client.
type Error struct {
	Code    Code
	Message string
	// RetryAfter is when it is worth to ask again; only for RateLimited, Overloaded and Unavailable.
	RetryAfter time.Duration
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

func problem(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

var (
	errForbidden  = problem(Forbidden, "only staff may ask for this: send the staff token as Authorization: Bearer <token>")
	errBadToken   = problem(Unauthenticated, "the token in Authorization is not valid; leave the header out to be a guest")
	errNoSchemeAs = problem(Unauthenticated, "Authorization must be Bearer <token>")
	errKeyUsed    = problem(Conflict, "the idempotency key was used before for another request; nothing has happened")
)

// outcomeUnknown tells that nobody knows whether a mutation has happened, and what to do about it.
func (c *call) outcomeUnknown() *gqlerror.Error {
	if c.repeatable {
		return coded(Unavailable, "it is not known whether this has happened; look, or send it again with the same idempotency key")
	}
	return coded(Unavailable, "it is not known whether this has happened; look whether it has before you send it again")
}

// tooLate tells that the operation's time is up, and what that means for what it was to change.
func (c *call) tooLate() *gqlerror.Error {
	switch {
	case c.mutations == 0:
		return coded(Unavailable, "the answer took too long; ask again")
	case c.reached() == 0:
		return c.outcomeUnknown()
	case c.repeatable:
		return coded(Unavailable, "this has happened, but the answer took too long; look, or send it again with the same idempotency key")
	default:
		return coded(Unavailable, "this has happened, but the answer took too long; look, and do not send it again")
	}
}

// panicked is a panic of a resolver, already logged under the correlation id.
type panicked struct{ correlation string }

func (p *panicked) Error() string { return "panic (correlation " + p.correlation + ")" }

// recovered logs a panic with its stack and returns what the presenter makes INTERNAL of.
func recovered(ctx context.Context, logger *slog.Logger, cause any) error {
	c := callFrom(ctx)
	logger.ErrorContext(ctx, "panic while answering", "correlation", c.correlation, "operation", c.name,
		"panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
	return &panicked{correlation: c.correlation}
}

// present turns any error of a resolver into what the client may see.
func (h *Handler) present(ctx context.Context, err error) *gqlerror.Error {
	out := h.translate(ctx, err)
	var located *gqlerror.Error
	if errors.As(err, &located) {
		out.Path, out.Locations = located.Path, located.Locations
	}
	if out.Path == nil {
		out.Path = graphql.GetPath(ctx)
	}
	return out
}

func (h *Handler) translate(ctx context.Context, err error) *gqlerror.Error {
	var (
		own    *Error
		input  *model.InputError
		caught *panicked
		newer  *es.UnknownTypeError
		parked *projector.ParkedError
	)
	switch {
	case errors.As(err, &own):
		return coded(own.Code, own.Message)
	case errors.As(err, &input):
		return coded(BadUserInput, input.Message)
	case errors.As(err, &caught):
		return internal(caught.correlation)
	case errors.As(err, &newer): // written by a newer release, which runs beside this one
		return coded(Unavailable, "a part of what this needs was written by a newer release of the shop; ask again")
	case errors.As(err, &parked):
		return coded(Stale, "what was asked for is set aside from position "+strconv.FormatInt(parked.Position, 10)+
			" on until staff retry it; without a position it is shown as it was before")
	case errors.Is(err, projector.ErrBeyond):
		return coded(Stale, "the log ends before position "+strconv.FormatInt(es.PositionFrom(ctx), 10)+
			"; the position is of another log, or of this one before it was restored: ask again without it")
	case errors.Is(err, projector.ErrStale):
		if p := es.PositionFrom(ctx); p > 0 {
			return coded(Stale, "what was asked for has not come as far as position "+strconv.FormatInt(p, 10)+" in time; ask again")
		}
		return coded(Stale, "what was asked for has fallen behind; ask again")
	case errors.Is(err, es.ErrOutcomeUnknown):
		return callFrom(ctx).outcomeUnknown()
	case errors.Is(err, es.ErrUnavailable):
		return coded(Unavailable, "the shop cannot take this now; nothing has happened, try again")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return callFrom(ctx).tooLate()
	}
	if broken := rule.All(err); len(broken) > 0 {
		return coded(BadUserInput, sentence(broken))
	}
	c := callFrom(ctx)
	h.options.Logger.ErrorContext(ctx, "could not answer", "correlation", c.correlation, "operation", c.name,
		"path", graphql.GetPath(ctx).String(), "error", err)
	return internal(c.correlation)
}

// sentence tells in one line which rules an argument broke.
func sentence(broken []*rule.Error) string {
	parts := make([]string, len(broken))
	for i, b := range broken {
		parts[i] = b.Message
		if len(b.Field) > 0 && !strings.HasPrefix(b.Message, b.Field[len(b.Field)-1]) {
			parts[i] = strings.Join(b.Field, ".") + ": " + b.Message
		}
	}
	return strings.Join(parts, "; ")
}

func coded(code Code, message string) *gqlerror.Error {
	return &gqlerror.Error{Message: message, Extensions: map[string]any{"code": string(code)}}
}

func internal(correlation string) *gqlerror.Error {
	e := coded(Internal, "something went wrong on our side; quote "+correlation+" when you ask about it")
	e.Extensions["correlation"] = correlation
	return e
}

// badRequest is what makes an operation unfit to be run: it has no data, not even null.
func badRequest(format string, args ...any) gqlerror.List {
	return gqlerror.List{coded(BadUserInput, fmt.Sprintf(format, args...))}
}

func badRequestAt(at *ast.Position, format string, args ...any) gqlerror.List {
	e := coded(BadUserInput, fmt.Sprintf(format, args...))
	if at != nil {
		e.Locations = []gqlerror.Location{{Line: at.Line, Column: at.Column}}
	}
	return gqlerror.List{e}
}

// userErrors parts what the caller can mend from what it cannot.
func userErrors(err error) ([]*rule.Error, error) {
	if broken := rule.All(err); len(broken) > 0 && !errors.Is(err, es.ErrUnavailable) {
		return broken, nil
	}
	return nil, err
}
