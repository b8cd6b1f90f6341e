package graph

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/millrace/millrace/internal/responsecache"
)

// writeTimeout is how long a client may take to receive an answer, or one event of a stream.
const writeTimeout = 30 * time.Second

// Values of headers that all answers share.
var (
	noStore = []string{"no-store"}
	noSniff = []string{"nosniff"}
)

// serveGraphQL serves one request of any transport.
func (h *Handler) serveGraphQL(w http.ResponseWriter, r *http.Request) {
	defer h.lastResort(w, r)
	if isUpgrade(r.Header) {
		h.serveSocket(w, r)
		return
	}
	common(w.Header())
	want := negotiate(r.Header.Values("Accept"))
	if want == mediaNone {
		h.answerMalformed(w, mediaJSON, &malformed{http.StatusNotAcceptable,
			"Accept must allow application/json, application/graphql-response+json or text/event-stream"})
		return
	}
	id, denied := h.identify(r.Header)
	client := h.client(r.RemoteAddr, r.Header, id)
	if err := h.limit(r.Context(), client, 0, w.Header()); err != nil {
		h.answerRefused(w, want, err)
		return
	}
	raw, err := h.read(w, r)
	spelled, kept := h.spelling(r, want, raw)
	if kept {
		if a, ok := h.options.Cache.Lookup(spelled); err == nil && ok {
			h.writeCached(w, r, want, a)
			return
		}
	}
	var in request
	if err == nil {
		if refused := h.refuse(r, raw); refused != nil {
			h.answerRefused(w, want, refused)
			return
		}
		in, err = parse(r, raw)
	}
	var bad *malformed
	if errors.As(err, &bad) {
		h.answerMalformed(w, want, bad)
		return
	}
	if in.key, bad = headerKey(r.Header); bad != nil {
		h.answerMalformed(w, want, bad)
		return
	}
	in.streaming = want == mediaEvents
	var p *prepared
	var errs gqlerror.List
	shared := false
	if denied != nil {
		errs = gqlerror.List{coded(denied.Code, denied.Message)}
	} else if p, errs = h.prepare(r.Context(), id, in); errs == nil {
		h.glances.remember(r, raw, p)
		mutation := p.op.Operation.Operation == ast.Mutation
		if in.readOnly && mutation {
			w.Header().Set("Allow", http.MethodPost)
			h.answerMalformed(w, want, &malformed{http.StatusMethodNotAllowed, "a mutation must be sent by POST"})
			return
		}
		if mutation {
			if err := h.limit(r.Context(), client, p.call.mutations, w.Header()); err != nil {
				h.answerRefused(w, want, err)
				return
			}
		}
		if shared = kept && p.public; !shared { // what is shared is let in when it has to be read
			if err := h.admit(p); err != nil {
				h.answerRefused(w, want, err)
				return
			}
			defer p.leave()
		}
	}
	switch {
	case want == mediaEvents:
		h.serveEvents(w, r, p, errs)
	case errs != nil:
		h.answerErrors(w, want, errs)
	case shared:
		h.answerPublic(w, r, want, p, spelled)
	default:
		h.answer(w, r, want, in, p)
	}
}

// common are the headers of every answer to a request.
func common(header http.Header) {
	header.Add("Vary", "Accept, Authorization, "+positionHeader)
	header["Cache-Control"], header["X-Content-Type-Options"] = noStore, noSniff
}

// Glance answers a POST that needs no more than a look: one whose answer is kept, or that has to be refused. It writes nothing of any other, which
// ServeHTTP is for.
func (h *Handler) Glance(w http.ResponseWriter, r *http.Request) {
	defer h.lastResort(w, r)
	want := negotiate(r.Header.Values("Accept"))
	if r.URL.Path != Path || r.Method != http.MethodPost || want == mediaNone {
		return
	}
	raw, err := h.readPost(w, r)
	if err != nil {
		return
	}
	var kept responsecache.Answer
	spelled, ok := h.spelling(r, want, raw)
	if ok {
		kept, ok = h.options.Cache.Lookup(spelled)
	}
	var refused *Error
	if !ok {
		if refused = h.refuse(r, raw); refused == nil {
			return
		}
	}
	common(w.Header())
	id, _ := h.sender(r.Header)
	if often := h.limit(r.Context(), h.client(r.RemoteAddr, r.Header, id), 0, w.Header()); often != nil {
		refused = often
	}
	if refused != nil {
		h.answerRefused(w, want, refused)
		return
	}
	h.writeCached(w, r, want, kept)
}

// read reads what the request says, as it is spelled: its body or the parameters of its address.
func (h *Handler) read(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	switch r.Method {
	case http.MethodPost:
		return h.readPost(w, r)
	case http.MethodGet, http.MethodHead:
		return []byte(r.URL.RawQuery), nil
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		return nil, &malformed{http.StatusMethodNotAllowed, "the method must be POST or GET"}
	}
}

// parse understands what was read.
func parse(r *http.Request, raw []byte) (in request, err error) {
	if r.Method == http.MethodPost {
		in, err = parseRequest(raw, "the body")
	} else {
		in, err = parseGet(string(raw))
	}
	in.header = r.Header
	return in, err
}

// answer runs a query or a mutation.
func (h *Handler) answer(w http.ResponseWriter, r *http.Request, want media, in request, p *prepared) {
	var response *graphql.Response
	h.each(p, func(r *graphql.Response) { response = r })
	if reached := p.call.reached(); reached > 0 {
		w.Header().Set(positionHeader, positionText(reached))
	}
	if p.public && in.readOnly && len(response.Errors) == 0 {
		body := h.encode(response)
		h.writePublic(w, r, want, body, responsecache.ETag(body))
		return
	}
	status := http.StatusOK
	switch {
	case p.call.nothingRan():
		status = http.StatusServiceUnavailable
		w.Header().Set("Retry-After", seconds(retryAfter))
	case want == mediaGraphQL && p.call.onlyConflicts():
		status = http.StatusUnprocessableEntity
	case want == mediaGraphQL && len(response.Data) == 0:
		status = http.StatusInternalServerError
	}
	h.write(w, want, status, response)
}

// answerErrors answers a request that was understood and cannot be run.
func (h *Handler) answerErrors(w http.ResponseWriter, want media, errs gqlerror.List) {
	status := http.StatusOK
	if want == mediaGraphQL {
		status = statusOf(errs)
	}
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="millrace"`)
	}
	h.write(w, want, status, &graphql.Response{Errors: errs})
}

func statusOf(errs gqlerror.List) int {
	switch Code(fmt.Sprint(errs[0].Extensions["code"])) {
	case Unauthenticated:
		return http.StatusUnauthorized
	case Internal:
		return http.StatusInternalServerError
	default:
		return http.StatusBadRequest
	}
}

// answerRefused answers a request that was refused before it ran, with the same status for every client.
func (h *Handler) answerRefused(w http.ResponseWriter, want media, err *Error) {
	status := refusedStatus(err)
	if status == 0 {
		h.answerErrors(w, plain(want), gqlerror.List{coded(err.Code, err.Message)})
		return
	}
	w.Header().Set("Retry-After", seconds(err.RetryAfter))
	h.metrics.errors.WithLabelValues(string(err.Code)).Inc()
	h.writeBody(w, plain(want), status, h.refusalBody(err))
}

// refusedStatus is the status of an answer that says that the client may come again, 0 if the reason is another one: a request error.
func refusedStatus(err *Error) int {
	switch err.Code {
	case RateLimited:
		return http.StatusTooManyRequests
	case Overloaded, Unavailable:
		return http.StatusServiceUnavailable
	default:
		return 0
	}
}

// refusalBody returns what is written to those whom an error refuses. In a crowd that is the same error over and over.
func (h *Handler) refusalBody(err *Error) []byte {
	if last := h.refused.Load(); last != nil && last.err == err {
		return last.body
	}
	last := &refusedWith{err, encoded(&graphql.Response{Errors: gqlerror.List{coded(err.Code, err.Message)}})}
	h.refused.Store(last)
	return last.body
}

// refusedWith is an error and what clients read of it.
type refusedWith struct {
	err  *Error
	body []byte
}

func (h *Handler) answerMalformed(w http.ResponseWriter, want media, bad *malformed) {
	h.write(w, plain(want), bad.status, &graphql.Response{Errors: gqlerror.List{coded(BadUserInput, bad.message)}})
}

// plain is the form of an answer that is no stream.
func plain(want media) media {
	if want == mediaEvents {
		return mediaJSON
	}
	return want
}

// seconds writes a duration as Retry-After wants it: whole seconds, at least one.
func seconds(d time.Duration) string {
	if d <= 0 {
		d = retryAfter
	}
	return strconv.Itoa(max(1, int(math.Ceil(d.Seconds()))))
}

func positionText(p int64) string { return strconv.FormatInt(p, 10) }

func (h *Handler) write(w http.ResponseWriter, want media, status int, response *graphql.Response) {
	h.writeBody(w, want, status, h.encode(response))
}

func (h *Handler) writeBody(w http.ResponseWriter, want media, status int, body []byte) {
	w.Header().Set("Content-Type", want.contentType())
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	// A server that cannot set deadlines has none to be set.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone needs no answer
}

// encode counts a response's errors and writes it as JSON.
func (h *Handler) encode(r *graphql.Response) []byte {
	h.metrics.answered(r)
	return encoded(r)
}

// encoded writes a response as JSON. The data is JSON already, so that it is not gone through again.
func encoded(r *graphql.Response) []byte {
	var b bytes.Buffer
	b.Grow(len(r.Data) + 64)
	b.WriteByte('{')
	field := func(name string, value any) {
		text, err := json.Marshal(value)
		if err != nil {
			panic(err) // strings, numbers and their maps can always be encoded
		}
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + name + `":`)
		b.Write(text)
	}
	if len(r.Errors) > 0 {
		field("errors", r.Errors)
	}
	if len(r.Data) > 0 {
		if b.Len() > 1 {
			b.WriteByte(',')
		}
		b.WriteString(`"data":`)
		b.Write(r.Data)
	}
	if len(r.Extensions) > 0 {
		field("extensions", r.Extensions)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// lastResort answers after a panic outside of resolvers.
func (h *Handler) lastResort(w http.ResponseWriter, r *http.Request) {
	cause := recover()
	if cause == nil {
		return
	}
	if err, ok := cause.(error); ok && errors.Is(err, http.ErrAbortHandler) {
		panic(cause)
	}
	correlation := newCorrelation()
	h.options.Logger.ErrorContext(r.Context(), "panic while serving", "correlation", correlation,
		"panic", fmt.Sprint(cause), "stack", string(debug.Stack()))
	h.write(w, mediaJSON, http.StatusInternalServerError, &graphql.Response{Errors: gqlerror.List{internal(correlation)}})
}

func isUpgrade(header http.Header) bool {
	return strings.EqualFold(header.Get("Upgrade"), "websocket")
}
