package generated

import (
	"strings"
	"testing"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
)

// TestObjectsAreWrittenAsFieldSetsAre compares what is written with what gqlgen writes.
func TestObjectsAreWrittenAsFieldSetsAre(t *testing.T) {
	t.Parallel()
	for _, names := range [][]string{nil, {"a"}, {"a", "b", "__typename"}, {"a", "b", "a"}, {"a", "a"}} {
		collected := make([]graphql.CollectedField, len(names))
		for i, name := range names {
			collected[i].Field = &ast.Field{Alias: name}
		}
		ours, theirs := newObject(collected), graphql.NewFieldSet(collected)
		for i := range collected {
			ours.Values[i] = graphql.MarshalInt(i)
			theirs.Values[i] = ours.Values[i]
		}
		var got, want strings.Builder
		ours.MarshalGQL(&got)
		theirs.MarshalGQL(&want)
		if got.String() != want.String() {
			t.Errorf("%v: %s, want %s", names, got.String(), want.String())
		}
	}
}

func TestNothingIsKeptWhereNothingIsDeferred(t *testing.T) {
	t.Parallel()
	now, later := graphql.CollectedField{}, graphql.CollectedField{Deferrables: []*graphql.Deferrable{{}}}
	for _, c := range []struct {
		fields   []graphql.CollectedField
		deferred bool
	}{{nil, false}, {[]graphql.CollectedField{now, now}, false}, {[]graphql.CollectedField{now, later}, true}} {
		if got := deferredFields(c.fields) != nil; got != c.deferred {
			t.Errorf("%v: fields %v", c.fields, got)
		}
		if got := deferredViews(c.fields) != nil; got != c.deferred {
			t.Errorf("%v: views %v", c.fields, got)
		}
	}
}
