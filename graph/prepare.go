package graph

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/99designs/gqlgen/graphql"
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/formatter"
	"github.com/vektah/gqlparser/v2/gqlerror"
	"github.com/vektah/gqlparser/v2/lexer"
	"github.com/vektah/gqlparser/v2/parser"
	"github.com/vektah/gqlparser/v2/validator"
	"github.com/vektah/gqlparser/v2/validator/core"
	"github.com/vektah/gqlparser/v2/validator/rules"

	"github.com/millrace/millrace/internal/es"
)

const (
	// cachedDocuments and cachedBytes bound the memory of valid documents: only short ones are kept.
	cachedDocuments = 500
	cachedBytes     = 4 << 10
	// manyErrors is how many validation errors a client is shown.
	manyErrors = 10
)

// graphqlError shortens what gqlgen calls its errors.
type graphqlError = gqlerror.Error

// request is one operation as it came in, by whatever transport.
type request struct {
	query         string
	operationName string
	variables     map[string]any
	extensions    map[string]any
	header        map[string][]string
	// key is the idempotency key that came with the request, "" for none.
	key string
	// streaming says that the transport can carry more than one answer.
	streaming bool
	// readOnly says that the transport must change nothing: GET.
	readOnly bool
}

// prepared is an operation that may run.
type prepared struct {
	ctx  context.Context
	call *call
	op   *graphql.OperationContext
	doc  *document
	about

	// deadline is when a query or a mutation has to have been answered.
	deadline time.Time

	// release gives back what the operation was admitted to, the first time that it is called; leave tells that it has ended.
	release Release
	leave   func()
}

// about is what the transports need to know of an operation.
type about struct {
	Operation
	// public says that the answer is the same for everyone who asks.
	public bool
}

// document is a document that is valid.
type document struct {
	*ast.QueryDocument
	// hash is that of its normal form, without white space and comments.
	hash func() [sha256.Size]byte
}

func newDocument(doc *ast.QueryDocument) *document {
	return &document{doc, sync.OnceValue(func() [sha256.Size]byte {
		sum := sha256.New()
		formatter.NewFormatter(sum, formatter.WithCompacted()).FormatQueryDocument(doc)
		return [sha256.Size]byte(sum.Sum(nil))
	})}
}

// prepare does all that can be done before an operation runs. Errors are those of the request: there is no data.
func (h *Handler) prepare(ctx context.Context, id identity, in request) (p *prepared, errs gqlerror.List) {
	c := &call{staff: id.staff, correlation: id.correlation}
	ctx = withCall(es.WithMetadata(ctx, id.metadata()), c)
	defer func() {
		if cause := recover(); cause != nil {
			p, errs = nil, gqlerror.List{h.translate(ctx, h.recovered(ctx, cause))}
		}
	}()
	deadline := time.Now().Add(h.options.Timeout)
	position, err := wanted(in.header, in.extensions)
	if err != nil {
		return nil, gqlerror.List{h.translate(ctx, err)}
	}
	if position > 0 {
		ctx = es.WithPosition(ctx, position)
	}
	if errs := h.persisted.complete(ctx, &in); errs != nil {
		return nil, errs
	}
	doc, errs := h.document(in.query)
	if errs != nil {
		return nil, errs
	}
	h.persisted.remember(ctx, &in)
	op, errs := choose(doc.QueryDocument, in.operationName)
	if errs != nil {
		return nil, errs
	}
	if err := wrongNumber(h.schema, op, in.variables); err != nil {
		return nil, gqlerror.List{variableError(err)}
	}
	variables, err := validator.VariableValues(h.schema, op, in.variables)
	if err != nil {
		return nil, gqlerror.List{variableError(err)}
	}
	if in.key, err = requestKey(in); err != nil {
		return nil, gqlerror.List{h.translate(ctx, err)}
	}
	keys, err := keysOf(op, variables, in, id.staff)
	if err != nil {
		return nil, gqlerror.List{h.translate(ctx, err)}
	}
	c.keyed, c.mutations = in.key != "", mutations(op)
	c.repeatable = len(keys) == c.mutations
	complexity, errs := h.options.Limits.check(op, variables, h.options.Introspection)
	if errs != nil {
		return nil, errs
	}
	if op.Operation == ast.Subscription && !in.streaming {
		return nil, badRequest("a subscription needs Accept: text/event-stream, or a WebSocket")
	}
	p = &prepared{ctx: ctx, deadline: deadline, call: c, doc: doc, about: describe(op, complexity, id)}
	p.public = p.public && position == 0
	c.name = p.label()
	c.loaders.init(h.deps)
	p.op = &graphql.OperationContext{
		RawQuery: in.query, OperationName: in.operationName, Variables: variables, Doc: doc.QueryDocument, Operation: op,
		Headers: in.header, Extensions: in.extensions,
		RecoverFunc: h.recovered, ResolverMiddleware: identityMiddleware, RootResolverMiddleware: rootIdentity,
	}
	if len(keys) > 0 {
		p.op.RootResolverMiddleware = keys.once
	}
	return p, nil
}

// document parses and validates a document, or finds it among those that were valid before.
func (h *Handler) document(query string) (*document, gqlerror.List) {
	if strings.TrimSpace(query) == "" {
		return nil, badRequest("the query is empty")
	}
	if doc, ok := h.documents.Get(query); ok {
		return doc, nil
	}
	parsed, err := parser.ParseQueryWithTokenLimit(&ast.Source{Input: query}, h.options.Limits.Tokens)
	if err != nil {
		if n := tokens(query); n > h.options.Limits.Tokens {
			return nil, badRequest("the document has %d tokens; at most %d are allowed", n, h.options.Limits.Tokens)
		}
		return nil, clientErrors(err)
	}
	if errs := h.options.Limits.tooWide(parsed); errs != nil {
		return nil, errs
	}
	if errs := validator.ValidateWithRules(h.schema, parsed, h.rules()); len(errs) > 0 {
		return nil, clientErrors(errs)
	}
	doc := newDocument(parsed)
	if len(query) <= cachedBytes {
		h.documents.Add(query, doc)
	}
	return doc, nil
}

// rules are those of the specification; without introspection their messages name nothing that was not asked for.
func (h *Handler) rules() *rules.Rules {
	r := rules.NewDefaultRules()
	if !h.options.Introspection {
		for name, rule := range map[string]core.Rule{
			rules.FieldsOnCorrectTypeRule.Name: rules.FieldsOnCorrectTypeRuleWithoutSuggestions,
			rules.ScalarLeafsRule.Name:         rules.ScalarLeafsRuleWithoutSuggestions,
			rules.KnownArgumentNamesRule.Name:  rules.KnownArgumentNamesRuleWithoutSuggestions,
			rules.KnownTypeNamesRule.Name:      rules.KnownTypeNamesRuleWithoutSuggestions,
			rules.ValuesOfCorrectTypeRule.Name: rules.ValuesOfCorrectTypeRuleWithoutSuggestions,
		} {
			r.RemoveRule(name)
			r.AddRule(rule.Name, rule.RuleFunc)
		}
	}
	for name, rule := range r.GetInner() {
		r.ReplaceRule(name, brief(rule))
	}
	return r
}

// brief is a rule that tells of no more errors than a client is shown. A document may break one thousands of times.
func brief(rule core.RuleFunc) core.RuleFunc {
	return func(observers *core.Events, addError core.AddErrFunc) {
		var told int
		rule(observers, func(options ...core.ErrorOption) {
			if told++; told <= manyErrors {
				addError(options...)
			}
		})
	}
}

// choose returns the operation that is to run.
func choose(doc *ast.QueryDocument, name string) (*ast.OperationDefinition, gqlerror.List) {
	if len(doc.Operations) == 0 {
		return nil, badRequest("the document has no operation")
	}
	if name == "" && len(doc.Operations) > 1 {
		return nil, badRequest("the document has %d operations: operationName must say which is meant", len(doc.Operations))
	}
	op := doc.Operations.ForName(name)
	if op == nil {
		return nil, badRequest("the document has no operation named %q", name)
	}
	return op, nil
}

// describe tells what an operation is before it runs.
func describe(op *ast.OperationDefinition, complexity int, id identity) about {
	a := about{Operation: Operation{
		Kind: string(op.Operation), Name: op.Name, Complexity: complexity, Staff: id.staff, Fields: rootFields(op.SelectionSet, nil),
	}}
	a.public = op.Operation == ast.Query && !id.credentials && !slices.ContainsFunc(a.Fields, func(f string) bool {
		return f != "product" && f != "products" && !strings.HasPrefix(f, "__")
	})
	return a
}

func rootFields(set ast.SelectionSet, fields []string) []string {
	for _, selection := range set {
		switch sel := selection.(type) {
		case *ast.Field:
			if !slices.Contains(fields, sel.Name) {
				fields = append(fields, sel.Name)
			}
		case *ast.InlineFragment:
			fields = rootFields(sel.SelectionSet, fields)
		case *ast.FragmentSpread:
			fields = rootFields(sel.Definition.SelectionSet, fields)
		}
	}
	return fields
}

// label names an operation in logs: by what the schema calls its fields, since its own name is the client's.
func (a about) label() string { return a.Kind + " " + strings.Join(a.Fields, ",") }

// tokens counts the words and signs of a document as far as it can be read.
func tokens(query string) int {
	l := lexer.New(&ast.Source{Input: query})
	for n := 0; ; n++ {
		t, err := l.ReadToken()
		if err != nil || t.Kind == lexer.EOF {
			return n
		}
	}
}

// clientErrors gives what is wrong with a document the code that clients know.
func clientErrors(err error) gqlerror.List {
	var list gqlerror.List
	var one *gqlerror.Error
	switch {
	case errors.As(err, &list):
	case errors.As(err, &one):
		list = gqlerror.List{one}
	default:
		list = gqlerror.List{{Message: err.Error()}}
	}
	out := make(gqlerror.List, 0, min(len(list), manyErrors))
	for _, e := range list[:min(len(list), manyErrors)] {
		c := coded(BadUserInput, e.Message)
		c.Locations, c.Path = e.Locations, e.Path
		out = append(out, c)
	}
	return out
}

// variableError names the variable in the message too: the path of a request error is for programs.
func variableError(err error) *gqlerror.Error {
	e := clientErrors(err)[0]
	if len(e.Path) > 1 {
		e.Message = "$" + e.Path[1:].String() + ": " + e.Message
	}
	e.Path = nil
	return e
}
