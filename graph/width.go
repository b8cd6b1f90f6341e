package graph

import (
	"github.com/vektah/gqlparser/v2/ast"
	"github.com/vektah/gqlparser/v2/gqlerror"
)

// tooWide refuses a document, before it is validated, for the aliases that are written in it, and for the time that validation would take.
func (l Limits) tooWide(doc *ast.QueryDocument) gqlerror.List {
	var written int
	var count func(set ast.SelectionSet)
	count = func(set ast.SelectionSet) {
		for _, selection := range set {
			switch sel := selection.(type) {
			case *ast.Field:
				if sel.Alias != sel.Name {
					written++
				}
				count(sel.SelectionSet)
			case *ast.InlineFragment:
				count(sel.SelectionSet)
			}
		}
	}
	for _, op := range doc.Operations {
		count(op.SelectionSet)
	}
	for _, f := range doc.Fragments {
		count(f.SelectionSet)
	}
	if written > l.Aliases {
		return badRequest("the operation has %d aliases; at most %d are allowed", written, l.Aliases)
	}
	c := &comparer{limit: l.Comparisons, fragments: make(map[string]*ast.FragmentDefinition, len(doc.Fragments))}
	return c.document(doc)
}

// comparer counts what validation does at most to find out whether fields can be merged. It compares each field with all others that have its
// name at the same place of the answer, whichever fragments they are in, and once more for each inline fragment around them. It looks like that
// at each operation, and at each fragment for itself.
type comparer struct {
	limit, made int
	fragments   map[string]*ast.FragmentDefinition
	err         gqlerror.List
}

// part is one of the selection sets that an object of the answer is made of.
type part struct {
	ast.SelectionSet
	// times is how often validation compares its fields.
	times int
	// in is the fragment that it is in, nil for none.
	in *spread
}

// spread is a fragment where it is spread, perhaps in another.
type spread struct {
	*ast.FragmentDefinition
	in *spread
}

func (s *spread) within(f *ast.FragmentDefinition) bool {
	for ; s != nil; s = s.in {
		if s.FragmentDefinition == f {
			return true
		}
	}
	return false
}

// document says why a document takes more comparisons than are allowed, nil if it does not.
func (c *comparer) document(doc *ast.QueryDocument) gqlerror.List {
	for _, f := range doc.Fragments {
		if c.fragments[f.Name] == nil { // validation says that there are two
			c.fragments[f.Name] = f
		}
	}
	for _, op := range doc.Operations {
		c.object([]part{{op.SelectionSet, 1, nil}})
	}
	for _, f := range doc.Fragments {
		c.object([]part{{f.SelectionSet, 1, &spread{f, nil}}})
	}
	return c.err
}

// object counts the comparisons in an object, and in those below it.
func (c *comparer) object(parts []part) {
	fields := map[string][]part{}
	for _, p := range parts {
		c.collect(fields, p)
	}
	for _, same := range fields {
		c.object(same)
	}
}

// collect adds the fields of a part to those of its object. Spreads are like fields of one name: what each holds is compared with what the
// others do.
func (c *comparer) collect(fields map[string][]part, p part) {
	add := func(name string, sub part) {
		c.count(p.times * (2*len(fields[name]) + 1))
		fields[name] = append(fields[name], sub)
	}
	for _, selection := range p.SelectionSet {
		if c.err != nil {
			return
		}
		switch sel := selection.(type) {
		case *ast.Field:
			add(sel.Alias, part{sel.SelectionSet, p.times, p.in})
		case *ast.InlineFragment:
			c.count(p.times)
			c.collect(fields, part{sel.SelectionSet, p.times + 1, p.in})
		case *ast.FragmentSpread:
			add("...", part{})
			f := c.fragments[sel.Name]
			switch {
			case f == nil: // validation says that there is none
			case p.in.within(f):
				c.refuse(badRequestAt(sel.Position, "Cannot spread fragment %q within itself.", f.Name))
			default:
				c.collect(fields, part{f.SelectionSet, p.times, &spread{f, p.in}})
			}
		}
	}
}

func (c *comparer) count(n int) {
	if c.made += n; c.made > c.limit {
		c.refuse(badRequest("it would take more than %d comparisons to find out whether the fields of the document can be merged: "+
			"ask for each field once, and spread fragments less often", c.limit))
	}
}

// refuse keeps the first reason.
func (c *comparer) refuse(err gqlerror.List) {
	if c.err == nil {
		c.err = err
	}
}
