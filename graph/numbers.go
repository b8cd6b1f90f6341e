package graph

import (
	"encoding/json"
	"fmt"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/millrace/millrace/graph/model"
)

// wrongNumber finds a number among the variables that its type does not hold, nil if there is none. The validator would say so too, but of the
// number as it was cut to fit, or of a string.
func wrongNumber(schema *ast.Schema, op *ast.OperationDefinition, variables map[string]any) error {
	for _, v := range op.VariableDefinitions {
		path := ast.Path{ast.PathName("variable"), ast.PathName(v.Variable)}
		if err := wrongNumberIn(schema, v.Type, variables[v.Variable], path); err != nil {
			return err
		}
	}
	return nil
}

func wrongNumberIn(schema *ast.Schema, of *ast.Type, value any, path ast.Path) error {
	switch value := value.(type) {
	case []any:
		for i, element := range value {
			if of.Elem == nil {
				return nil // no list is expected: the validator says so
			}
			if err := wrongNumberIn(schema, of.Elem, element, append(path, ast.PathIndex(i))); err != nil {
				return err
			}
		}
	case map[string]any:
		if def := schema.Types[of.Name()]; def != nil && def.Kind == ast.InputObject {
			for _, f := range def.Fields {
				if err := wrongNumberIn(schema, f.Type, value[f.Name], append(path, ast.PathName(f.Name))); err != nil {
					return err
				}
			}
		}
	case json.Number:
		var err error
		switch of.Name() {
		case "Int":
			_, err = model.UnmarshalInt(value)
		case "Float":
			if _, tooLarge := value.Float64(); tooLarge != nil {
				err = fmt.Errorf("%.40s is too large a number", value.String())
			}
		}
		if err != nil {
			return gqlerror.ErrorPathf(path, "%s", err)
		}
	}
	return nil
}
