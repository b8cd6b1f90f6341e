// Package graph is the GraphQL face of Millrace.
//
// The schema is in schema/, one file a module. [NewHandler] serves it over HTTP (POST and GET), server-sent events and
// WebSocket. A request goes through these steps, and everything up to the last happens before any resolver runs:
//
//	transport   reads the request and refuses what is too large or not well-formed   http.go, sse.go, websocket.go
//	identity    who asks, and whether too often: 429; the position that it must show auth.go, position.go
//	prepare     parses, validates and measures the operation                         prepare.go, limits.go
//	admission   lets the operation in, perhaps after a moment, or refuses it: 503         admission.go
//	resolvers   read the read models, or hand a command to commands                  one file a module
//
// Resolvers know the other parts of Millrace by the small interfaces in deps.go. What several objects of an answer need
// from a read model is announced first and read together (loader.go). What goes wrong is turned into what clients may see
// in one place (errors.go).
package graph

//go:generate go tool gqlgen generate
//go:generate gofmt -w -r "graphql.MarshalSliceConcurrently(a, b, 1, false, c) -> marshalList(a, b, c)" generated
//go:generate gofmt -w -r "graphql.DeferredGroup{Defers: a, Path: graphql.GetPath(b), FieldSet: c, Context: b} -> deferredGroup(b, a, c)" generated
//go:generate gofmt -w -r "graphql.ResolveField(a, b, c, d, func(ctx context.Context) (any, error) { return e, nil }, nil, f, true, g) -> plainField(a, c, d, e, f)" generated
//go:generate gofmt -w -r "graphql.NewFieldSet(fields) -> newObject(fields)" generated
//go:generate gofmt -w -r "innerFunc(ctx, out) -> innerFunc(ctx, &out.FieldSet)" generated
//go:generate gofmt -w -r "graphql.NewFieldSet(nil) -> deferredFields(fields)" generated
//go:generate gofmt -w -r "make(map[string]*graphql.FieldSetView) -> deferredViews(fields)" generated
