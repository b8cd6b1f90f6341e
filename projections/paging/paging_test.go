package paging_test

import (
	"errors"
	"testing"

	"github.com/millrace/millrace/domain/rule"
	"github.com/millrace/millrace/projections/paging"
)

func TestBadCursorsAreInvalid(t *testing.T) {
	numbers := paging.Order{Name: "relevance", Key: "rank", Type: "float8", ID: "id", Valid: paging.IsNumber}
	for name, c := range map[string]struct {
		cursor string
		valid  bool
	}{
		"a number":          {numbers.Cursor("0.6079271", "a"), true},
		"a small number":    {numbers.Cursor("1e-20", "a"), true},
		"nothing":           {numbers.Cursor("0", "a"), true},
		"hexadecimal":       {numbers.Cursor("0x1p-2", "a"), false},
		"underscores":       {numbers.Cursor("0x_1p-2", "a"), false},
		"not a number":      {numbers.Cursor("NaN", "a"), false},
		"infinite":          {numbers.Cursor("Infinity", "a"), false},
		"too large":         {numbers.Cursor("1e400", "a"), false},
		"too small":         {numbers.Cursor("1e-400", "a"), false},
		"an id with a NUL":  {numbers.Cursor("1", "a\x00b"), false},
		"of another order":  {paging.Order{Name: "price"}.Cursor("1", "a"), false},
		"not even a cursor": {"relevance", false},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := numbers.Clauses(paging.Window{First: 1, After: c.cursor}, nil)
			refused, ok := errors.AsType[*rule.Error](err)
			if c.valid && err != nil || !c.valid && (!ok || refused.Code != rule.Invalid || refused.Field[0] != "after") {
				t.Errorf("got %v", err)
			}
		})
	}
}
