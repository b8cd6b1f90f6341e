package onlineretail

import (
	"bufio"
	"bytes"
	"compress/gzip"
	_ "embed" // the sample
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Source is a file to import.
type Source struct {
	// Name stands in messages.
	Name string
	// Open returns the file's content, which may be gzipped.
	Open func() (io.ReadCloser, error)
}

//go:embed sample/online-retail-2011-12-05.csv
var sample []byte

// Sample returns the invoices of one day, 2011-12-05, which are shipped with the program: 5,331 rows of 151 invoices.
// Source: Chen, D. (2015). Online Retail [Dataset]. UCI Machine Learning Repository. CC BY 4.0.
func Sample() Source {
	return Source{
		Name: "online-retail-2011-12-05.csv",
		Open: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(sample)), nil },
	}
}

// File returns the file at a path.
func File(path string) Source {
	return Source{Name: path, Open: func() (io.ReadCloser, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		info, err := f.Stat()
		if err == nil && info.IsDir() {
			err = errIsDirectory
		}
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return f, nil
	}}
}

var errIsDirectory = errors.New("is a directory")

// FileError says where a file is broken. Nothing of such a file is imported.
type FileError struct {
	// File is the source's name.
	File string
	// Line and Column count lines and bytes from 1; of a gzipped file, those of its content. Line is 0 where the file as
	// a whole cannot be read.
	Line, Column int
	// Problem is a sentence without its full stop.
	Problem string
}

func (e *FileError) Error() string {
	if e.Line == 0 {
		return e.File + ": " + e.Problem
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Problem)
}

// openText opens the source and returns its text, unpacked, and what puts an error of reading it into words.
func openText(s Source) (text io.Reader, problemOf func(error) string, closer io.Closer, err error) {
	f, err := s.Open()
	if err != nil {
		return nil, nil, nil, &FileError{File: s.Name, Problem: openProblem(err)}
	}
	buffered := bufio.NewReaderSize(f, 64<<10)
	// Whatever a short or failing read is about shows when the text is read.
	magic, _ := buffered.Peek(2)
	if !bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		return withoutMark(buffered), readProblem, f, nil
	}
	unpacked, err := gzip.NewReader(buffered)
	if err != nil {
		return nil, nil, nil, errors.Join(&FileError{File: s.Name, Problem: gzipProblem(err)}, f.Close())
	}
	return withoutMark(bufio.NewReaderSize(unpacked, 64<<10)), gzipProblem, f, nil
}

// withoutMark leaves out the byte-order mark that some programs put before UTF-8.
func withoutMark(r *bufio.Reader) io.Reader {
	if mark, _ := r.Peek(3); string(mark) == "\uFEFF" {
		_, _ = r.Discard(len(mark)) // it is in the buffer
	}
	return r
}

func readProblem(err error) string { return "the file cannot be read: " + err.Error() }

func openProblem(err error) string {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such file"
	case errors.Is(err, fs.ErrPermission):
		return "the file may not be read"
	case errors.Is(err, errIsDirectory):
		return "is a directory, not a file"
	default:
		return "the file cannot be opened: " + err.Error()
	}
}

func gzipProblem(err error) string {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return "the gzip data is cut off"
	case errors.Is(err, gzip.ErrChecksum):
		return "the gzip data is damaged: its checksum is wrong"
	case errors.Is(err, gzip.ErrHeader):
		return "the gzip data is damaged, or something else stands behind it"
	default:
		return "the gzip data is damaged: " + err.Error()
	}
}
