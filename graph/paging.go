package graph

import (
	"encoding/base64"
	"strings"

	"github.com/millrace/millrace/graph/model"
	"github.com/millrace/millrace/projections/paging"
)

// window returns the part of a list that the arguments ask for. That the sizes are in their limits has been seen to
// before anything ran; empty says that a page of no elements was asked for.
func window(first *int, after *string, last *int, before *string, usual int) (w paging.Window, empty bool, err error) {
	switch {
	case first != nil:
		w.First = *first
	case last != nil:
		w.Last = *last
	default:
		w.First = usual
	}
	if w.After, err = openCursor("after", after); err != nil {
		return w, false, err
	}
	if w.Before, err = openCursor("before", before); err != nil {
		return w, false, err
	}
	return w, w.First == 0 && w.Last == 0, nil
}

// sealCursor makes a row's key opaque.
func sealCursor(key string) string { return base64.RawURLEncoding.EncodeToString([]byte(key)) }

func openCursor(argument string, cursor *string) (string, error) {
	if cursor == nil || *cursor == "" {
		return "", nil
	}
	key, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(*cursor, "="))
	if err != nil || len(key) == 0 || !model.Plain(string(key)) || strings.Contains(string(key), `\u0000`) {
		return "", problem(BadUserInput, "%s is not a cursor of this list", argument)
	}
	return string(key), nil
}

// cursors returns the cursors of a page's rows.
func cursors[T any](p paging.Page[T]) func(i int) string {
	return func(i int) string { return sealCursor(p.Rows[i].Cursor()) }
}

// pageInfo says where a page lies, given its first and last cursors.
func pageInfo[T any](p paging.Page[T]) model.PageInfo {
	info := model.PageInfo{HasNextPage: p.HasNext, HasPreviousPage: p.HasPrevious}
	if n := len(p.Rows); n > 0 {
		start, end := sealCursor(p.Rows[0].Cursor()), sealCursor(p.Rows[n-1].Cursor())
		info.StartCursor, info.EndCursor = &start, &end
	}
	return info
}
