package bench

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// longLog is how many events a log has to have at least for what is measured of long ones.
const longLog = 1_000_000

// longShop returns the imported shop with a log of at least longLog events, unless only the shipped sample is imported: the same
// invoices come in under other numbers until it is so long.
func (l *lab) longShop(ctx context.Context) (*shop, error) {
	s, err := l.importedShop(ctx)
	if err != nil || l.File == "" {
		return s, err
	}
	for ; s.events < longLog; s.years++ {
		file := l.newDir(fmt.Sprintf("again-%d.csv", s.years))
		if err := renumbered(l.File, file, s.years); err != nil {
			return nil, err
		}
		l.say("importing the same under other numbers: the log has %d events", s.events)
		bounded, cancel := context.WithTimeout(ctx, importTimeout)
		_, err := s.call(bounded, nil, "import", "orders", file, "--json")
		cancel()
		if err := errors.Join(err, os.Remove(file)); err != nil {
			return nil, err
		}
		if _, err := s.catchUp(ctx); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// renumbered writes an invoice file again with another digit before each number: 536365 becomes 1536365, C536379 C1536379.
func renumbered(from, to string, digit int) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("bench: reading the invoices: %w", err)
	}
	var in io.Reader = bytes.NewReader(content)
	if bytes.HasPrefix(content, []byte{0x1f, 0x8b}) { // gzip, RFC 1952
		if in, err = gzip.NewReader(in); err != nil {
			return fmt.Errorf("bench: reading the invoices: %w", err)
		}
	}
	rows, err := csv.NewReader(in).ReadAll()
	if err != nil {
		return fmt.Errorf("bench: reading the invoices: %w", err)
	}
	for i := range rows {
		if i == 0 { // the header
			continue
		}
		number := strings.TrimLeft(rows[i][0], "AC")
		rows[i][0] = strings.TrimSuffix(rows[i][0], number) + fmt.Sprint(digit) + number
	}
	var out bytes.Buffer
	if err := csv.NewWriter(&out).WriteAll(rows); err != nil {
		return fmt.Errorf("bench: writing the invoices: %w", err)
	}
	if err := os.WriteFile(to, out.Bytes(), 0o600); err != nil {
		return fmt.Errorf("bench: writing the invoices: %w", err)
	}
	return nil
}
