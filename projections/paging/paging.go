// Package paging cuts ordered lists into pages by keys, so that a page costs the same wherever it lies.
package paging

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/millrace/millrace/domain/rule"
)

// Window is the part of a list that a page shows. Exactly one of First and Last is above zero.
type Window struct {
	First, Last int
	// After and Before are the Cursors of rows, "" for none. A cursor that the list cannot read is a rule.Invalid
	// error at "after" or "before".
	After, Before string
}

// Page is a part of a list, in the order of the list also when the last rows were asked for.
type Page[T any] struct {
	Rows []Row[T]
	// HasPrevious and HasNext say whether the list goes on before and behind the page.
	HasPrevious, HasNext bool
}

// Row is an element of a list with its place in the list's order.
type Row[T any] struct {
	// Cursor returns the row's key in the order of the list; few of them are asked for.
	Cursor func() string
	Value  *T
}

// Order is the order of a list: by a key, ties by an id. Both are SQL expressions.
type Order struct {
	// Name tells orders apart, so that a cursor is not read in another order than its own.
	Name string
	// Key is the expression that rows are ordered by, and Type the SQL type that its text form is cast to.
	Key, Type string
	// ID is the unique column that breaks ties, of type text.
	ID string
	// Descending reverses both.
	Descending bool
	// Valid reports whether a text is a key: cursors come from clients.
	Valid func(key string) bool
}

// Cursor returns the place of a row with that key and id.
func (o Order) Cursor(key, id string) string {
	text, err := json.Marshal([3]string{o.Name, key, id})
	if err != nil {
		panic(err) // three strings can always be encoded
	}
	return string(text)
}

func (o Order) parse(field, cursor string) (key, id string, err error) {
	var parts [3]string
	if err := json.Unmarshal([]byte(cursor), &parts); err != nil || parts[0] != o.Name || !o.Valid(parts[1]) || !IsText(parts[2]) {
		return "", "", &rule.Error{Code: rule.Invalid, Field: []string{field}, Message: fmt.Sprintf("%s is not a cursor of this list in this order", field)}
	}
	return parts[1], parts[2], nil
}

// Clauses are the parts of a statement that cut out a window.
type Clauses struct {
	// Where is a condition, "true" if there is nothing to ask for.
	Where string
	// OrderBy is what stands behind ORDER BY.
	OrderBy string
	// Limit is one row more than the page has, which tells whether the list goes on.
	Limit int
	// Args are the statement's arguments with those of the clauses at the end.
	Args []any

	size     int
	backward bool
	window   Window
}

// Clauses returns the clauses for a window, whose arguments are numbered behind args.
func (o Order) Clauses(w Window, args []any) (Clauses, error) {
	c := Clauses{Where: "true", Args: args, size: w.First, window: w}
	if w.Last > 0 {
		c.backward, c.size = true, w.Last
	}
	c.Limit = c.size + 1
	forward, back := ">", "<"
	if o.Descending {
		forward, back = "<", ">"
	}
	for _, bound := range []struct{ field, cursor, operator string }{{"after", w.After, forward}, {"before", w.Before, back}} {
		if bound.cursor == "" {
			continue
		}
		key, id, err := o.parse(bound.field, bound.cursor)
		if err != nil {
			return Clauses{}, err
		}
		n := len(c.Args)
		c.Where += fmt.Sprintf(" AND (%s, %s) %s ($%d::text::%s, $%d::text)", o.Key, o.ID, bound.operator, n+1, o.Type, n+2)
		c.Args = append(c.Args, key, id)
	}
	direction := "ASC"
	if o.Descending != c.backward {
		direction = "DESC"
	}
	c.OrderBy = fmt.Sprintf("%s %s, %s %s", o.Key, direction, o.ID, direction)
	return c, nil
}

// Cut makes the page of the rows found by a statement with the clauses.
func Cut[T any](c Clauses, rows []Row[T]) Page[T] {
	more := len(rows) > c.size
	if more {
		rows = rows[:c.size]
	}
	if c.backward {
		slices.Reverse(rows)
		return Page[T]{Rows: rows, HasPrevious: more, HasNext: c.window.Before != ""}
	}
	return Page[T]{Rows: rows, HasPrevious: c.window.After != "", HasNext: more}
}
