package onlineretail

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/millrace/millrace/domain/money"
)

// readSheet reads and checks a whole file. Its errors are *FileError, or that of ctx.
func readSheet(
	ctx context.Context, src Source, currency money.Currency, location *time.Location, seen func(rows int),
) (_ *sheet, err error) {
	text, problemOf, closer, err := openText(src)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, closer.Close()) }()
	s := &sheet{name: src.Name, currency: currency, location: location}
	in := newReader(text, problemOf)
	places, err := in.header()
	if err != nil {
		return nil, in.located(src.Name, err)
	}
	var fields [columns]string
	for {
		record, err := in.record()
		if errors.Is(err, io.EOF) {
			return s, nil
		}
		if err == nil {
			for c, at := range places {
				fields[c] = record[at]
			}
			line, _ := in.csv.FieldPos(0)
			err = s.add(line, &fields)
		}
		if wrong := (*fieldError)(nil); errors.As(err, &wrong) {
			line, column := in.csv.FieldPos(places[wrong.column])
			err = &FileError{Line: line, Column: column, Problem: wrong.problem}
		}
		if err != nil {
			return nil, in.located(src.Name, err)
		}
		const stride = 20_000
		if len(s.rows)%stride == 0 {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			seen(len(s.rows))
		}
	}
}

// reader reads records of one width that are not too long.
type reader struct {
	guard *guard
	csv   *csv.Reader
	width int
}

func newReader(text io.Reader, problemOf func(error) string) *reader {
	g := newGuard(text, problemOf)
	r := &reader{guard: g, csv: csv.NewReader(g)}
	r.csv.FieldsPerRecord = -1
	r.csv.ReuseRecord = true
	return r
}

// header reads the first record and returns where in a record the columns stand.
func (r *reader) header() (places [columns]int, err error) {
	names, err := r.record()
	if errors.Is(err, io.EOF) {
		return places, &FileError{Problem: "the file is empty"}
	}
	if err != nil {
		return places, err
	}
	for i, name := range names {
		names[i] = strings.TrimSpace(name)
	}
	var missing []string
	for c, name := range Columns {
		at := slices.Index(names, name)
		if at < 0 {
			missing = append(missing, name)
			continue
		}
		if again := slices.Index(names[at+1:], name); again >= 0 {
			line, column := r.csv.FieldPos(at + 1 + again)
			return places, &FileError{Line: line, Column: column, Problem: fmt.Sprintf("the column %s stands here a second time", name)}
		}
		places[c] = at
	}
	if len(missing) > 0 {
		line, column := r.csv.FieldPos(0)
		noun := "column"
		if len(missing) > 1 {
			noun = "columns"
		}
		return places, &FileError{Line: line, Column: column, Problem: fmt.Sprintf(
			"the header has no %s %s; it must name %s, separated by commas", noun, strings.Join(missing, ", "), strings.Join(Columns, ", "))}
	}
	r.width = len(names)
	return places, nil
}

// record returns the next record, whose fields are valid until the next call.
func (r *reader) record() ([]string, error) {
	record, err := r.csv.Read()
	if err != nil {
		return nil, err
	}
	line, _ := r.csv.FieldPos(0)
	end := r.csv.InputOffset()
	if end-r.guard.recordAt > maxRecord {
		return nil, tooLong(line)
	}
	last, _ := r.csv.FieldPos(len(record) - 1)
	r.guard.recordAt, r.guard.recordLine = end, last+1+strings.Count(record[len(record)-1], "\n")
	if r.width == 0 || len(record) == r.width {
		return record, nil
	}
	line, column := r.csv.FieldPos(min(len(record)-1, r.width))
	return nil, &FileError{Line: line, Column: column, Problem: fmt.Sprintf("the row has %d fields, the header %d", len(record), r.width)}
}

// located says of an error which file it is about, and prefers what the guard found before.
func (r *reader) located(name string, err error) error {
	broken := &FileError{Problem: err.Error()}
	if syntax := (*csv.ParseError)(nil); errors.As(err, &syntax) {
		broken = &FileError{Line: syntax.Line, Column: syntax.Column, Problem: syntaxProblem(syntax)}
	} else {
		errors.As(err, &broken)
	}
	if g := r.guard.problem; g != nil && (broken.Line == 0 || broken.Line >= g.Line) {
		broken = g
	}
	return &FileError{File: name, Line: broken.Line, Column: broken.Column, Problem: broken.Problem}
}

func syntaxProblem(err *csv.ParseError) string {
	switch {
	case errors.Is(err.Err, csv.ErrQuote):
		return fmt.Sprintf("this is not CSV: the quoted field of the row that begins in line %d does not end as it should", err.StartLine)
	case errors.Is(err.Err, csv.ErrBareQuote):
		return "this is not CSV: a quote in a field that is not quoted"
	default:
		return "this is not CSV: " + err.Err.Error()
	}
}
