package graph

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/99designs/gqlgen/graphql/executor"
	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/formatter"

	"github.com/millrace/millrace/graph/generated"
	"github.com/millrace/millrace/graph/graphiql"
	"github.com/millrace/millrace/internal/responsecache"
)

// Path is where the API is.
const Path = "/graphql"

// Options are the face's settings. The zero Options are safe: nobody is staff, no introspection, no GraphiQL.
type Options struct {
	// StaffToken is what staff send as Authorization: Bearer <token>; "" makes nobody staff.
	StaffToken string
	// Limits bound what one request may ask for.
	Limits Limits
	// Introspection lets clients read the schema.
	Introspection bool
	// GraphiQL serves a page at / to try the API from.
	GraphiQL bool
	// Origins are those, beside the server's own, from which browsers may open WebSockets, for example
	// https://shop.example; "*" means all.
	Origins []string
	// Limit, if not nil, counts what a client asks for: each request and each operation on a socket, with 0 mutations, and then once more
	// how many mutations it has, if any. It may tell the client how often it may ask, in the header of the answer; who reads a public answer
	// to a GET is told nothing, since it is kept for others. An *Error with the code RateLimited is answered with 429 and Retry-After.
	Limit func(ctx context.Context, client Client, mutations int, answer http.Header) error
	// Admit, if not nil, is asked about each operation before any of it runs, and may let it wait. An *Error with the code Overloaded or
	// Unavailable is answered with 503 and Retry-After. What it admits is released exactly once: when the operation has been answered, or a
	// subscription for the first time.
	Admit func(ctx context.Context, op Operation) (Release, error)
	// Refuse, if not nil, is asked about an operation before its request is understood, if one with the same document has been before. What
	// it returns is answered as by Admit, and costs next to nothing; nil leaves the decision to Admit.
	Refuse func(op Operation) *Error
	// MaxSubscriptions is how many subscriptions run at a time, over all connections; 0 means 10,000.
	MaxSubscriptions int
	// Cache keeps whole answers to public queries; nil: each is read anew.
	Cache *responsecache.Cache
	// Persisted is where processes share persisted documents; nil: each has its own.
	Persisted Documents
	// MaxAge is for how long others may show a public answer to a GET without asking again; 0: they ask each time. They tell
	// whether it is still good by its ETag.
	MaxAge time.Duration
	// Stale is for how long others may show a public answer while they cannot get another.
	Stale time.Duration
	// Timeout bounds a query or mutation, from when it has been read; 0 means 10 s. What it asks of servers is bounded by what is left of it.
	Timeout time.Duration
	// Logger is nil for slog.Default.
	Logger *slog.Logger
	// Metrics registers the face's metrics; nil keeps them out of sight.
	Metrics prometheus.Registerer
}

// Client is who sent a request, as far as is known.
type Client struct {
	// Peer is the address and port of the other end of the connection, which may be a proxy's.
	Peer string
	// Header is that of the request, or of the one that opened the socket.
	Header http.Header
	// Token is what it showed, if that is valid; "" for guests.
	Token string
}

// Release tells that an operation no longer holds what it was admitted to. Completed says that it was a query or a mutation which was
// answered without an error: the time that it took tells how busy the process is.
type Release func(completed bool)

// Operation is what is known of a request before it runs.
type Operation struct {
	// Kind is query, mutation or subscription.
	Kind string
	// Name is the operation's name, "" if it has none.
	Name string
	// Fields are the names of its root fields, in order.
	Fields []string
	// Complexity is what [Limits] measures.
	Complexity int
	// Staff says that the staff token came with it.
	Staff bool
}

// Handler serves the API at [Path] and, where that is on, GraphiQL at /.
type Handler struct {
	deps    Deps
	options Options
	mux     *http.ServeMux
	schema  *ast.Schema
	exec    *executor.Executor
	// documents are those that were valid, by their text.
	documents *lru.Cache[string, *document]
	persisted *persisted
	glances   glances
	// cacheControl is what caches between are told of public answers.
	cacheControl string
	hub          *hub
	statuses     *statusHub
	metrics      metrics

	// draining is closed by Drain. streams counts the connections that wait for it.
	draining  chan struct{}
	drainOnce sync.Once
	streams   sync.WaitGroup
	// refused is what was answered to who was refused last.
	refused atomic.Pointer[refusedWith]
	// subscriptions counts those that run.
	subscriptions atomic.Int64
}

// NewHandler returns the face of the parts, or an error that says which of them is missing.
func NewHandler(d Deps, o Options) (*Handler, error) {
	if err := d.check(); err != nil {
		return nil, err
	}
	o.Limits = o.Limits.withDefaults()
	o.Timeout = cmp.Or(o.Timeout, 10*time.Second)
	o.MaxSubscriptions = cmp.Or(o.MaxSubscriptions, 10_000)
	o.Logger = cmp.Or(o.Logger, slog.Default())
	documents, err := lru.New[string, *document](cachedDocuments)
	if err != nil {
		return nil, err
	}
	h := &Handler{deps: d, options: o, mux: http.NewServeMux(), documents: documents, draining: make(chan struct{})}
	if h.persisted, err = newPersisted(o.Persisted); err != nil {
		return nil, err
	}
	if h.glances, err = newGlances(); err != nil {
		return nil, err
	}
	h.cacheControl = cacheControl(o.MaxAge, o.Stale)
	h.hub, h.statuses = newHub(d.Feed), &statusHub{projections: d.Projections}
	h.metrics = newMetrics(o.Metrics, &h.subscriptions)
	h.schema = schema()
	h.exec = executor.New(generated.NewExecutableSchema(generated.Config{Schema: h.schema, Resolvers: &resolver{
		Deps: d, hub: h.hub, statuses: h.statuses, translate: h.translate, recovered: h.recovered,
	}}))
	h.exec.SetErrorPresenter(func(ctx context.Context, err error) *graphqlError { return h.present(ctx, err) })
	h.exec.SetRecoverFunc(h.recovered)

	h.mux.HandleFunc(Path, h.serveGraphQL)
	if o.GraphiQL {
		h.mux.Handle("/", graphiql.Handler(Path))
	}
	return h, nil
}

// schema returns the schema without what the parser's prelude adds to it and this face does not do.
func schema() *ast.Schema {
	s := *generated.NewExecutableSchema(generated.Config{}).Schema()
	s.Directives = maps.Clone(s.Directives)
	delete(s.Directives, "defer")
	return &s
}

// SchemaHash names the schema: another one answers the same documents otherwise.
func SchemaHash() string {
	sum := sha256.New()
	formatter.NewFormatter(sum).FormatSchema(schema())
	return hex.EncodeToString(sum.Sum(nil)[:6])
}

func (h *Handler) recovered(ctx context.Context, cause any) error {
	return recovered(ctx, h.options.Logger, cause)
}

// ServeHTTP serves the API and GraphiQL.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) { h.mux.ServeHTTP(w, r) }

// Drain ends all subscriptions, so that their clients connect elsewhere: sockets with 1001, event streams by their end.
// It returns when they are closed, or with the error of ctx. Requests are not its concern: the server waits for them.
func (h *Handler) Drain(ctx context.Context) error {
	h.drainOnce.Do(func() { close(h.draining) })
	done := make(chan struct{})
	go func() {
		h.streams.Wait()
		h.hub.close()
		h.statuses.close()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stream counts a connection that Drain waits for; it reports false once Drain has been called.
func (h *Handler) stream() (leave func(), ok bool) {
	h.streams.Add(1)
	select {
	case <-h.draining:
		h.streams.Done()
		return nil, false
	default:
		h.metrics.streams.Inc()
		return func() {
			h.metrics.streams.Dec()
			h.streams.Done()
		}, true
	}
}

// allowedOrigin reports whether a browser may open a WebSocket from where it says that it is.
func (h *Handler) allowedOrigin(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true // no browser
	}
	for _, o := range h.options.Origins {
		if o == "*" || o == origin {
			return true
		}
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host == r.Host
}

// identityMiddleware is what field middlewares are where there are none.
func identityMiddleware(ctx context.Context, next graphql.Resolver) (any, error) { return next(ctx) }

func rootIdentity(ctx context.Context, next graphql.RootResolver) graphql.Marshaler { return next(ctx) }
