package graph

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/millrace/millrace/internal/responsecache"
)

// cacheControl is what caches between are told of a public answer. Where they may show one for some time without asking, they may
// go on for as long while they ask.
func cacheControl(maxAge, stale time.Duration) string {
	text := "public, max-age=" + wholeSeconds(maxAge)
	if maxAge >= time.Second {
		text += ", stale-while-revalidate=" + wholeSeconds(maxAge)
	}
	if stale >= time.Second {
		text += ", stale-if-error=" + wholeSeconds(stale)
	}
	return text
}

func wholeSeconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

// spelling returns the key of a request as it is spelled, and whether its answer may come from the cache at all: not if it brings
// credentials, or a position that its answer has to show. It is looked up before anything is parsed.
func (h *Handler) spelling(r *http.Request, want media, raw []byte) (key responsecache.Key, kept bool) {
	if h.options.Cache == nil || want == mediaEvents || len(r.Header["Authorization"]) > 0 || len(r.Header[positionHeader]) > 0 {
		return key, false
	}
	how := byte('g')
	if r.Method == http.MethodPost {
		how = 'p'
	}
	return sha256.Sum256(append(append(make([]byte, 0, len(raw)+2), how, byte(want)), raw...)), true
}

// key names the answer to a public operation: its document without white space and comments, the operation's name and its
// variables, and the form of the answer.
func (p *prepared) key(want media) (responsecache.Key, error) {
	variables, err := json.Marshal(p.op.Variables) // sorted
	if err != nil {
		return responsecache.Key{}, fmt.Errorf("graph: the variables of a query: %w", err)
	}
	sum := sha256.New()
	document := p.doc.hash()
	sum.Write(document[:])
	fmt.Fprintf(sum, "%d %q ", want, p.op.OperationName)
	sum.Write(variables)
	return responsecache.Key(sum.Sum(nil)), nil
}

// answerPublic answers a public query from the cache, or reads the answer together with all who ask for it now.
func (h *Handler) answerPublic(w http.ResponseWriter, r *http.Request, want media, p *prepared, spelled responsecache.Key) {
	key, err := p.key(want)
	if err != nil {
		h.answerErrors(w, want, gqlerror.List{h.translate(p.ctx, err)})
		return
	}
	a, err := h.options.Cache.Do(p.ctx, key, func(ctx context.Context) responsecache.Filled { return h.fill(ctx, want, p) })
	if err != nil {
		return // the client has gone
	}
	if a.Whole {
		h.options.Cache.Spell(spelled, key)
	}
	h.writeCached(w, r, want, a)
}

// fill reads the answer to a public query for whoever waits for it, if there is room for one more to be read.
func (h *Handler) fill(ctx context.Context, want media, p *prepared) (f responsecache.Filled) {
	p.ctx = ctx
	var response *graphql.Response
	defer func() {
		if cause := recover(); cause != nil { // nobody else would
			response = &graphql.Response{Errors: gqlerror.List{h.translate(ctx, h.recovered(ctx, cause))}}
			f.Status, f.Body = http.StatusInternalServerError, h.encode(response)
		}
	}()
	if refused := h.admit(p); refused != nil {
		return h.fillRefused(want, refused)
	}
	defer p.leave()
	h.each(p, func(r *graphql.Response) { response = r })
	f.Status, f.Whole = http.StatusOK, len(response.Errors) == 0
	if want == mediaGraphQL && len(response.Data) == 0 {
		f.Status = http.StatusInternalServerError
	}
	for _, e := range response.Errors {
		f.Away = f.Away || e.Extensions["code"] == string(Unavailable)
	}
	f.Body = h.encode(response)
	return f
}

// fillRefused is what all hear who wait for an answer that may not be read now.
func (h *Handler) fillRefused(want media, err *Error) responsecache.Filled {
	status := refusedStatus(err)
	if status == 0 {
		errs := gqlerror.List{coded(err.Code, err.Message)}
		if status = http.StatusOK; want == mediaGraphQL {
			status = statusOf(errs)
		}
	}
	h.metrics.errors.WithLabelValues(string(err.Code)).Inc()
	return responsecache.Filled{Status: status, Body: h.refusalBody(err), Away: err.Code == Unavailable}
}

// What the Cache-Status header (RFC 9211) says of an answer.
var (
	statusHit    = []string{"millrace; hit"}
	statusJoined = []string{"millrace; fwd=miss; collapsed"}
	statusRead   = []string{"millrace; fwd=miss"}
)

// writeCached writes an answer that came from the cache or through it.
func (h *Handler) writeCached(w http.ResponseWriter, r *http.Request, want media, a responsecache.Answer) {
	header := w.Header()
	switch a.State {
	case responsecache.Hit:
		header["Cache-Status"] = statusHit
	case responsecache.Joined:
		header["Cache-Status"] = statusJoined
	case responsecache.Old:
		header["Cache-Status"] = []string{"millrace; hit; ttl=-" + strconv.Itoa(max(1, int(a.Age.Seconds()))) + "; detail=stores-away"}
	default:
		header["Cache-Status"] = statusRead
	}
	if a.Whole && r.Method != http.MethodPost {
		h.writePublic(w, r, want, a.Body, a.ETag)
		return
	}
	if a.Status == http.StatusServiceUnavailable {
		header.Set("Retry-After", seconds(retryAfter))
		want = plain(want)
	}
	h.writeBody(w, want, cmp.Or(a.Status, http.StatusOK), a.Body)
}

// writePublic writes a public answer to a GET, or that the client has it already.
func (h *Handler) writePublic(w http.ResponseWriter, r *http.Request, want media, body []byte, etag string) {
	header := w.Header()
	if want == mediaGraphQL { // another representation has another validator
		etag = `"g` + etag[1:]
	}
	for name := range header { // what one client hears of itself is not for those who are shown the answer by a cache
		if strings.HasPrefix(name, "Ratelimit-") {
			delete(header, name)
		}
	}
	header.Set("Cache-Control", h.cacheControl)
	header["Etag"] = []string{etag}
	if matches(r.Header["If-None-Match"], etag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.writeBody(w, want, http.StatusOK, body)
}

// matches reports whether an If-None-Match names an entity tag, or anything at all.
func matches(lines []string, etag string) bool {
	for _, line := range lines {
		for tag := range strings.SplitSeq(line, ",") {
			tag = strings.TrimSpace(tag)
			if tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
				return true
			}
		}
	}
	return false
}
