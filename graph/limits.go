package graph

import (
	"math"

	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"

	"github.com/millrace/millrace/graph/model"
)

// Limits bound what one request may ask for. A field that is zero has its default.
type Limits struct {
	// BodyBytes is the size of a request's body or of a WebSocket message; 1 MiB.
	BodyBytes int64
	// Tokens is the number of words and signs in a document; 2,000.
	Tokens int
	// Comparisons bounds the time that validation takes to find out whether fields can be merged; 10,000, which is a field a hundred times. It counts the
	// fields that have one name at one place of the answer, as often as fragments bring them there: the square of their number.
	Comparisons int
	// Depth is how deep fields may lie in each other; 12. Introspection is exempt.
	Depth int
	// Aliases is the number of renamed fields; 100.
	Aliases int
	// PageSize is the number of elements that a page, or a list of ids, may have; 100.
	PageSize int
	// Complexity is the number of fields that the answer may have, where a list counts with the size of its page;
	// 10,000. Lists whose length nobody states are taken to have 5 elements.
	Complexity int
	// Subscriptions is the number of operations that run on one WebSocket at a time; 100.
	Subscriptions int
}

func (l Limits) withDefaults() Limits {
	fallback := func(v *int, to int) {
		if *v <= 0 {
			*v = to
		}
	}
	if l.BodyBytes <= 0 {
		l.BodyBytes = 1 << 20
	}
	fallback(&l.Tokens, 2_000)
	fallback(&l.Comparisons, 10_000)
	fallback(&l.Depth, 12)
	fallback(&l.Aliases, 100)
	fallback(&l.PageSize, 100)
	fallback(&l.Complexity, 10_000)
	fallback(&l.Subscriptions, 100)
	return l
}

const (
	// introspectionCost is what each __schema or __type counts, however much is selected in it.
	introspectionCost = 500
	// historyCost is what the history of an order counts: it is a read of the log of its own.
	historyCost = 100
	// unstatedLength is how many elements a list without a stated length is taken to have.
	unstatedLength = 5

	defaultPage   = 20
	defaultEvents = 50
)

// measure is what a selection asks for.
type measure struct{ depth, aliases, complexity int }

func (m *measure) add(o measure) {
	m.depth = max(m.depth, o.depth)
	m.aliases = plus(m.aliases, o.aliases)
	m.complexity = plus(m.complexity, o.complexity)
}

// surveyor walks a valid operation once. What a fragment asks for is measured once, however often it is spread.
type surveyor struct {
	limits        Limits
	variables     map[string]any
	fragments     map[string]measure
	introspection bool // whether clients may read the schema
	err           gqlerror.List
}

// check measures an operation and returns its complexity, or why it is refused.
func (l Limits) check(op *ast.OperationDefinition, variables map[string]any, introspection bool) (int, gqlerror.List) {
	s := &surveyor{limits: l, variables: variables, fragments: map[string]measure{}, introspection: introspection}
	m := s.selections(op.SelectionSet)
	switch {
	case s.err != nil:
		return 0, s.err
	case m.depth > l.Depth:
		return 0, badRequestAt(op.Position, "the operation is %d levels deep; at most %d are allowed", m.depth, l.Depth)
	case m.aliases > l.Aliases:
		return 0, badRequestAt(op.Position, "the operation has %d aliases; at most %d are allowed", m.aliases, l.Aliases)
	case m.complexity > l.Complexity:
		return 0, badRequestAt(op.Position,
			"the operation has a complexity of %d; at most %d is allowed: ask for fewer fields or smaller pages", m.complexity, l.Complexity)
	}
	return m.complexity, nil
}

func (s *surveyor) selections(set ast.SelectionSet) measure {
	var sum measure
	for _, selection := range set {
		switch sel := selection.(type) {
		case *ast.Field:
			sum.add(s.field(sel))
		case *ast.InlineFragment:
			sum.add(s.selections(sel.SelectionSet))
		case *ast.FragmentSpread:
			m, known := s.fragments[sel.Name]
			if !known {
				m = s.selections(sel.Definition.SelectionSet)
				s.fragments[sel.Name] = m
			}
			sum.add(m)
		}
	}
	return sum
}

func (s *surveyor) field(f *ast.Field) measure {
	var aliases int
	if f.Alias != f.Name {
		aliases = 1
	}
	switch f.Name {
	case "__schema", "__type":
		if !s.introspection {
			s.refuse(f, "introspection is off here")
		}
		return measure{depth: 1, aliases: aliases, complexity: introspectionCost}
	case "__typename":
		return measure{depth: 1, aliases: aliases, complexity: 1}
	}
	inner := s.selections(f.SelectionSet)
	return measure{
		depth:      inner.depth + 1,
		aliases:    plus(inner.aliases, aliases),
		complexity: plus(s.own(f), times(s.length(f), inner.complexity)),
	}
}

func (s *surveyor) own(f *ast.Field) int {
	if f.ObjectDefinition != nil && f.ObjectDefinition.Name == "Order" && f.Name == "history" {
		return historyCost
	}
	return 1
}

// length returns how many elements a field is taken to have. It refuses pages and lists that are too long.
func (s *surveyor) length(f *ast.Field) int {
	if len(f.Arguments) > 0 {
		for _, a := range f.Arguments {
			if (a.Name == "ids" || a.Name == "skus") && a.Value != nil {
				return s.list(f, a)
			}
		}
	}
	if f.Definition == nil {
		return 1
	}
	if f.Definition.Arguments.ForName("first") == nil {
		if f.Definition.Type.Elem != nil && f.Name != "nodes" && f.Name != "edges" {
			return unstatedLength
		}
		return 1
	}
	first, hasFirst := s.number(f, "first")
	last, hasLast := s.number(f, "last")
	switch {
	case hasFirst && hasLast:
		s.refuse(f, "%s: give first or last, not both", f.Name)
	case hasFirst:
		return s.page(f, "first", first)
	case hasLast:
		return s.page(f, "last", last)
	case f.Name == "events":
		return defaultEvents
	}
	return defaultPage
}

func (s *surveyor) page(f *ast.Field, argument string, size int) int {
	switch {
	case size < 0:
		s.refuse(f, "%s: %s is %d; it must be 0 to %d", f.Name, argument, size, s.limits.PageSize)
	case size > s.limits.PageSize:
		s.refuse(f, "%s: %s is %d; at most %d is allowed", f.Name, argument, size, s.limits.PageSize)
	}
	return max(size, 1)
}

// list returns the length of an argument that names each element.
func (s *surveyor) list(f *ast.Field, a *ast.Argument) int {
	value, err := a.Value.Value(s.variables)
	if err != nil {
		return 1 // the resolver's arguments will say so
	}
	elements, ok := value.([]any)
	if !ok {
		return 1
	}
	if n := len(elements); n > s.limits.PageSize {
		s.refuse(f, "%s: %s has %d elements; at most %d are allowed", f.Name, a.Name, n, s.limits.PageSize)
	}
	return max(len(elements), 1)
}

// number returns an argument that is given and not null. A value that is no number is the resolver's to refuse.
func (s *surveyor) number(f *ast.Field, name string) (int, bool) {
	a := f.Arguments.ForName(name)
	if a == nil || a.Value == nil {
		return 0, false
	}
	value, err := a.Value.Value(s.variables)
	if err != nil || value == nil {
		return 0, false
	}
	n, err := model.UnmarshalInt(value)
	if err != nil {
		s.refuse(f, "%s: %s: %s", f.Name, name, err)
	}
	return n, err == nil
}

// refuse keeps the first reason.
func (s *surveyor) refuse(f *ast.Field, format string, args ...any) {
	if s.err == nil {
		s.err = badRequestAt(f.Position, format, args...)
	}
}

// plus and times stop at the largest number instead of running over: fragments multiply.
func plus(a, b int) int {
	if a > math.MaxInt32-b {
		return math.MaxInt32
	}
	return a + b
}

func times(a, b int) int {
	if b != 0 && a > math.MaxInt32/b {
		return math.MaxInt32
	}
	return a * b
}
