package onlineretail

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// maxRecord is how many bytes a row may have. Whatever is longer is no invoice line, and is not read to its end.
const maxRecord = 1 << 20

// guard hands a text on as long as it is UTF-8 without zero bytes and its rows are not too long. What it has against the
// text it keeps in problem, because the CSV reader behind it may turn an error into another one.
type guard struct {
	text io.Reader
	// problemOf words an error of text.
	problemOf func(error) string

	line, column int   // of the next byte
	handed       int64 // bytes
	recordAt     int64 // where the row begins that is being read; set by whoever reads rows
	recordLine   int   // and its line
	unfinished   []byte
	problem      *FileError // without a file
}

func newGuard(text io.Reader, problemOf func(error) string) *guard {
	return &guard{text: text, problemOf: problemOf, line: 1, column: 1, recordLine: 1}
}

func (g *guard) Read(p []byte) (int, error) {
	if g.problem != nil {
		return 0, g.problem
	}
	n, err := g.text.Read(p)
	if at := g.check(p[:n]); at >= 0 {
		return at, g.problem // what stands before may still complete rows, and their problems come first
	}
	g.handed += int64(n)
	if g.handed-g.recordAt > maxRecord+readAhead {
		g.problem = tooLong(g.recordLine)
		return 0, g.problem
	}
	switch {
	case errors.Is(err, io.EOF) && len(g.unfinished) > 0:
		g.problem = &FileError{Line: g.line, Column: g.column, Problem: notUTF8(g.unfinished[0])}
		return n, g.problem
	case err != nil && !errors.Is(err, io.EOF):
		g.problem = &FileError{Line: g.line, Column: g.column, Problem: g.problemOf(err)}
		return n, g.problem
	}
	return n, err
}

// readAhead is how many bytes encoding/csv reads beyond the row that it returns.
const readAhead = 4096

func tooLong(line int) *FileError {
	return &FileError{Line: line, Column: maxRecord + 1, Problem: fmt.Sprintf("the row is longer than %d bytes", maxRecord)}
}

// check moves line and column over the bytes and returns -1, or sets the problem and returns where it is among them.
func (g *guard) check(p []byte) (bad int) {
	begin := 0
	for len(g.unfinished) > 0 && begin < len(p) {
		g.unfinished = append(g.unfinished, p[begin])
		begin++
		if !utf8.FullRune(g.unfinished) {
			continue
		}
		if r, size := utf8.DecodeRune(g.unfinished); r == utf8.RuneError && size == 1 {
			g.problem = &FileError{Line: g.line, Column: g.column, Problem: notUTF8(g.unfinished[0])}
			return 0
		}
		g.column += len(g.unfinished)
		g.unfinished = g.unfinished[:0]
	}
	rest := p[begin:]
	for back := 1; back <= min(utf8.UTFMax-1, len(rest)); back++ {
		if tail := rest[len(rest)-back:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				g.unfinished = append(g.unfinished, tail...)
				rest = rest[:len(rest)-back]
			}
			break
		}
	}
	problem := ""
	end := len(rest)
	if zero := bytes.IndexByte(rest, 0); zero >= 0 {
		end, problem = zero, "a zero byte: this is not a text in UTF-8"
	}
	if !utf8.Valid(rest[:end]) {
		for i := 0; i < end; {
			r, size := utf8.DecodeRune(rest[i:end])
			if r == utf8.RuneError && size == 1 {
				end, problem = i, notUTF8(rest[i])
				break
			}
			i += size
		}
	}
	g.line += bytes.Count(rest[:end], []byte{'\n'})
	if last := bytes.LastIndexByte(rest[:end], '\n'); last >= 0 {
		g.column = end - last
	} else {
		g.column += end
	}
	if problem == "" {
		return -1
	}
	g.problem = &FileError{Line: g.line, Column: g.column, Problem: problem}
	return begin + end
}

func notUTF8(b byte) string {
	return fmt.Sprintf("the byte 0x%02X is not UTF-8; save the file in that encoding", b)
}
