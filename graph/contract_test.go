package graph_test

import (
	"os"
	"slices"
	"testing"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/parser"

	"github.com/millrace/millrace/graph/generated"
)

// TestContract checks that the schema has all that clients rely on, with the same names, arguments and nullabilities, and
// grows only in ways that break none of them.
func TestContract(t *testing.T) {
	text, err := os.ReadFile("testdata/contract.graphql")
	if err != nil {
		t.Fatal(err)
	}
	contract, err := parser.ParseSchema(&ast.Source{Name: "contract.graphql", Input: string(text)})
	if err != nil {
		t.Fatal(err)
	}
	schema := generated.NewExecutableSchema(generated.Config{}).Schema()
	for _, want := range contract.Definitions {
		got := schema.Types[want.Name]
		if got == nil {
			t.Errorf("type %s is missing", want.Name)
			continue
		}
		if got.Kind != want.Kind {
			t.Errorf("%s is a %s, not a %s", want.Name, got.Kind, want.Kind)
		}
		for _, i := range want.Interfaces {
			if !slices.Contains(got.Interfaces, i) {
				t.Errorf("%s does not implement %s", want.Name, i)
			}
		}
		for _, v := range want.EnumValues {
			if got.EnumValues.ForName(v.Name) == nil {
				t.Errorf("%s.%s is missing", want.Name, v.Name)
			}
		}
		compareFields(t, want, got)
	}
}

func compareFields(t *testing.T, want, got *ast.Definition) {
	t.Helper()
	for _, f := range want.Fields {
		g := got.Fields.ForName(f.Name)
		if g == nil {
			t.Errorf("%s.%s is missing", want.Name, f.Name)
			continue
		}
		if g.Type.String() != f.Type.String() {
			t.Errorf("%s.%s is %s, not %s", want.Name, f.Name, g.Type, f.Type)
		}
		for _, a := range f.Arguments {
			if h := g.Arguments.ForName(a.Name); h == nil || h.Type.String() != a.Type.String() {
				t.Errorf("%s.%s has no argument %s: %s", want.Name, f.Name, a.Name, a.Type)
			}
		}
		for _, a := range g.Arguments {
			if f.Arguments.ForName(a.Name) == nil && a.Type.NonNull && a.DefaultValue == nil {
				t.Errorf("the new argument %s.%s(%s) must be nullable", want.Name, f.Name, a.Name)
			}
		}
	}
	for _, g := range got.Fields {
		if got.Kind == ast.InputObject && want.Fields.ForName(g.Name) == nil && g.Type.NonNull && g.DefaultValue == nil {
			t.Errorf("the new input %s.%s must be nullable", want.Name, g.Name)
		}
	}
}

// TestDescriptions checks that everything in the schema is described.
func TestDescriptions(t *testing.T) {
	schema := generated.NewExecutableSchema(generated.Config{}).Schema()
	for _, d := range schema.Types {
		if d.BuiltIn {
			continue
		}
		if d.Description == "" {
			t.Errorf("%s is not described", d.Name)
		}
		for _, f := range d.Fields {
			if f.Description == "" && f.Name[0] != '_' {
				t.Errorf("%s.%s is not described", d.Name, f.Name)
			}
			for _, a := range f.Arguments {
				if a.Description == "" && f.Name[0] != '_' {
					t.Errorf("%s.%s(%s) is not described", d.Name, f.Name, a.Name)
				}
			}
		}
		for _, v := range d.EnumValues {
			if v.Description == "" {
				t.Errorf("%s.%s is not described", d.Name, v.Name)
			}
		}
	}
}
