package generated

import (
	"context"
	"reflect"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
)

// This file is not generated. `go generate ./graph` puts its functions in the place of gqlgen's own, which start a goroutine for each element of a list,
// one after the other (worker_limit), work out the path of each object in case some of its fields are deferred, and have middlewares around values that
// are there already. In an answer of 20 products with their variants that is a third of the time, and nothing has anything to gain from it here.

// plainField is [graphql.ResolveField] for a value that is there already, with no resolver that could fail and no middleware around it. A value that
// cannot be null and has no fields of its own has nothing to say of where it is, so that its place is not worked out.
func plainField[T any](
	ctx context.Context, field graphql.CollectedField, place func(context.Context, graphql.CollectedField) (*graphql.FieldContext, error), value T,
	marshal func(context.Context, ast.SelectionSet, T) graphql.Marshaler,
) graphql.Marshaler {
	if len(field.Selections) > 0 || nullable(reflect.TypeFor[T]().Kind()) {
		at, err := place(ctx, field)
		if err != nil {
			return graphql.Null
		}
		ctx = graphql.WithFieldContext(ctx, at)
	}
	return marshal(ctx, field.Selections, value)
}

func nullable(k reflect.Kind) bool {
	return k == reflect.Pointer || k == reflect.Interface || k == reflect.Slice || k == reflect.Map
}

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
