package generated

import (
	"context"
	"io"
	"reflect"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
)

// This file is not generated. `go generate ./graph` puts its functions in the place of gqlgen's own, which start a goroutine for each element of a list,
// one after the other (worker_limit), work out the path of each object in case some of its fields are deferred, keep account of those and of the names that
// were written, and have middlewares around values that are there already. In an answer of 20 products with their variants that is nearly half of the time, and
// nothing has anything to gain from it here. What is replaced must not be called here by the same words: it would be replaced as well.

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

// object is a [graphql.FieldSet] that is written without a map of its names.
type object struct {
	graphql.FieldSet
	fields []graphql.CollectedField
}

func newObject(fields []graphql.CollectedField) *object {
	return &object{FieldSet: graphql.FieldSet{Values: make([]graphql.Marshaler, len(fields))}, fields: fields}
}

// MarshalGQL writes the fields. Of several with one name, which different types may have asked for, the first counts.
func (o *object) MarshalGQL(w io.Writer) {
	write := func(text string) { _, _ = io.WriteString(w, text) } // as all marshalers do: w is a buffer
	separator := `{"`
	for i := range o.fields {
		name := o.fields[i].Alias
		if written(o.fields[:i], name) {
			continue
		}
		write(separator)
		write(name) // the grammar of names leaves nothing to escape
		write(`":`)
		o.Values[i].MarshalGQL(w)
		separator = `,"`
	}
	if separator == `{"` {
		write(`{`)
	}
	write(`}`)
}

func written(fields []graphql.CollectedField, name string) bool {
	for i := range fields {
		if fields[i].Alias == name {
			return true
		}
	}
	return false
}

// deferredFields returns where fields go that are deferred, nil if none is.
func deferredFields(fields []graphql.CollectedField) *graphql.FieldSet {
	if !anyDeferred(fields) {
		return nil
	}
	return new(graphql.FieldSet)
}

// deferredViews returns where the parts of an answer go that come later, nil if none does.
func deferredViews(fields []graphql.CollectedField) map[string]*graphql.FieldSetView {
	if !anyDeferred(fields) {
		return nil
	}
	return map[string]*graphql.FieldSetView{}
}

func anyDeferred(fields []graphql.CollectedField) bool {
	for i := range fields {
		if fields[i].IsDeferred() {
			return true
		}
	}
	return false
}
