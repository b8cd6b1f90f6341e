package generated

import (
	"context"

	"github.com/99designs/gqlgen/graphql"
)

// This file is not generated. `go generate ./graph` puts its functions in the place of gqlgen's own, which start a goroutine for each element of a list,
// one after the other (worker_limit), and work out the path of each object in case some of its fields are deferred. In an answer of 20 products with their
// variants that is a sixth of the time, and neither has anything to gain here.

// marshalList is [graphql.MarshalSliceConcurrently] for elements that have nothing to wait for.
func marshalList(ctx context.Context, length int, marshalElement func(ctx context.Context, i int) graphql.Marshaler) graphql.Array {
	list := make(graphql.Array, length)
	for i := range list {
		if err := ctx.Err(); err != nil {
			graphql.AddError(graphql.WithFieldContext(ctx, &graphql.FieldContext{Index: &i}), err)
			return nil
		}
		if !marshalIn(graphql.WithFieldContext(ctx, &graphql.FieldContext{Index: &i}), list, i, marshalElement) {
			return nil
		}
	}
	return list
}

// marshalIn puts an element into its list; where that panics it says so in the answer and returns false.
func marshalIn(ctx context.Context, list graphql.Array, i int, marshalElement func(ctx context.Context, i int) graphql.Marshaler) (ok bool) {
	defer func() {
		if r := recover(); r != nil {
			graphql.AddError(ctx, graphql.Recover(ctx, r))
		}
	}()
	list[i] = marshalElement(ctx, i)
	return true
}

// deferredGroup is a [graphql.DeferredGroup] at the path of ctx, which is worked out where there is something deferred.
func deferredGroup(ctx context.Context, defers map[string]*graphql.FieldSetView, fields *graphql.FieldSet) graphql.DeferredGroup {
	group := graphql.DeferredGroup{Defers: defers, FieldSet: fields, Context: ctx}
	if len(defers) > 0 {
		group.Path = graphql.GetPath(ctx)
	}
	return group
}
