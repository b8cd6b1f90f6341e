package onlineretail

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// RejectedPath returns where the rejected rows of a file are written to unless somebody says otherwise: into the working
// directory, under the file's name and ".rejected.csv".
func RejectedPath(file string) string { return filepath.Base(file) + ".rejected.csv" }

// writeRejected writes the rejected rows to a file that then takes the place of an older one; if there is none, it takes
// away an older file.
func (s *sheet) writeRejected(path string, messages map[int32]string) (err error) {
	if path == "" {
		return nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("onlineretail: writing the rejected rows: %w", err)
		}
	}()
	if !slices.ContainsFunc(s.rows, func(r row) bool { return r.class == rejected }) {
		if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	buffered := bufio.NewWriter(f)
	err = errors.Join(s.printRejected(buffered, messages), buffered.Flush(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// printRejected writes a table of the rejected rows: where they stand, why they are rejected, and their fields as the
// file has them.
func (s *sheet) printRejected(w io.Writer, messages map[int32]string) error {
	out := csv.NewWriter(w)
	record := append([]string{"Line", "Reason"}, Columns...)
	if err := out.Write(record); err != nil {
		return err
	}
	for i := range s.rows {
		r := &s.rows[i]
		if r.class != rejected {
			continue
		}
		why := s.explain(r.why)
		if message := messages[int32(i)]; message != "" {
			why += ": " + message
		}
		record[0], record[1] = strconv.Itoa(int(r.line)), why
		for c := range columns {
			record[c+2] = s.written[c].all[r.text[c]]
		}
		if err := out.Write(record); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}
