package graph

import (
	"context"
	"net/http"
	"strings"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/internal/es"
)

// keyHeader carries the key of a mutation: draft-ietf-httpapi-idempotency-key-header-07.
const keyHeader = "Idempotency-Key"

// headerKey returns the key in a request's header, "" for none. The draft has it as a string of RFC 8941, in quotes; it is taken
// without them too.
func headerKey(header http.Header) (string, *malformed) {
	values := header.Values(keyHeader)
	if len(values) == 0 {
		return "", nil
	}
	bad := func(message string) (string, *malformed) {
		return "", &malformed{http.StatusBadRequest, keyHeader + ": " + message}
	}
	if len(values) > 1 {
		return bad("there are several; give one")
	}
	text := strings.TrimSpace(values[0])
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' || r > '~' }) {
		return bad("only printable ASCII characters are allowed")
	}
	if strings.HasPrefix(text, `"`) {
		var ok bool
		if text, ok = unquote(text); !ok {
			return bad(`must be "a string in quotes", with \ only before " and \`)
		}
	}
	if n := len(text); n < 1 || n > commands.MaxKey {
		return bad(problem(BadUserInput, "has %d characters, 1 to %d are allowed", n, commands.MaxKey).Message)
	}
	return text, nil
}

// unquote reads a string of RFC 8941, section 3.3.3.
func unquote(s string) (string, bool) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch c := s[i]; c {
		case '"':
			return b.String(), i == len(s)-1
		case '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", false
			}
			b.WriteByte(s[i])
		default:
			b.WriteByte(c)
		}
	}
	return "", false
}

// keys are those of an operation's mutations, by the names that their answers have.
type keys map[string]commands.Key

// keysOf finds the key of each mutation. That of the request is the first one's, and with its place that of each other one; a key in an
// input is its own.
func keysOf(op *ast.OperationDefinition, variables map[string]any, in request, staff bool) (keys, error) {
	if op.Operation != ast.Mutation {
		return nil, nil
	}
	owner := "guest"
	if staff {
		owner = "staff"
	}
	found := keys{}
	for place, f := range mutationsOf(op.SelectionSet, nil) {
		own, ok := inputKey(f, variables)
		switch {
		case ok && in.key != "" && own != in.key:
			return nil, problem(BadUserInput, "%s: the idempotencyKey in its input is not that of the request; give one of them", f.Alias)
		case in.key != "":
			found[f.Alias] = commands.Key{Owner: owner, Text: in.key, Place: place}
		case ok:
			found[f.Alias] = commands.Key{Owner: owner, Text: own}
		}
	}
	return found, nil
}

// mutations returns how many mutations an operation has, 0 if it is none; one without any counts as one.
func mutations(op *ast.OperationDefinition) int {
	if op.Operation != ast.Mutation {
		return 0
	}
	return max(1, len(mutationsOf(op.SelectionSet, nil)))
}

// mutationsOf returns the fields of a mutation in the order in which they are run, one for each name in the answer.
func mutationsOf(set ast.SelectionSet, found []*ast.Field) []*ast.Field {
	for _, selection := range set {
		switch sel := selection.(type) {
		case *ast.Field:
			known := sel.Name == "__typename"
			for _, f := range found {
				known = known || f.Alias == sel.Alias
			}
			if !known {
				found = append(found, sel)
			}
		case *ast.InlineFragment:
			found = mutationsOf(sel.SelectionSet, found)
		case *ast.FragmentSpread:
			found = mutationsOf(sel.Definition.SelectionSet, found)
		}
	}
	return found
}

// inputKey returns the key in a field's input, and whether there is one.
func inputKey(f *ast.Field, variables map[string]any) (string, bool) {
	a := f.Arguments.ForName("input")
	if a == nil || a.Value == nil {
		return "", false
	}
	value, err := a.Value.Value(variables)
	if err != nil {
		return "", false // the resolver's arguments will say so
	}
	input, _ := value.(map[string]any)
	key, ok := input["idempotencyKey"].(string)
	return key, ok
}

// requestKey returns the key of a request, which its transport may have found in a header, or its extensions name.
func requestKey(in request) (string, error) {
	v, ok := in.extensions["idempotencyKey"]
	if !ok || v == nil {
		return in.key, nil
	}
	key, ok := v.(string)
	switch {
	case !ok || key == "" || len([]rune(key)) > commands.MaxKey:
		return "", problem(BadUserInput, "extensions.idempotencyKey must be a string of 1 to %d characters", commands.MaxKey)
	case in.key != "" && in.key != key:
		return "", problem(BadUserInput, "extensions.idempotencyKey is not the key in %s; give one of them", keyHeader)
	}
	return key, nil
}

// once runs each mutation in the context of its key.
func (k keys) once(ctx context.Context, next graphql.RootResolver) graphql.Marshaler {
	if key, ok := k[graphql.GetRootFieldContext(ctx).Field.Alias]; ok {
		ctx = commands.WithKey(ctx, key)
	}
	return next(ctx)
}

// productsAt folds products as they were at a position: what an answer under a key shows of them is the same each time.
func productsAt(ctx context.Context, log es.Reader, ids []string, position int64) ([]*catalog.State, error) {
	found := make([]*catalog.State, len(ids))
	for i, id := range ids {
		state, version, err := es.LoadUpTo(ctx, log, commands.Products.Stream(id), position)
		if err != nil {
			return nil, err
		}
		if version > 0 {
			found[i] = &state
		}
	}
	return found, nil
}
