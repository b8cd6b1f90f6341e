package onlineretail

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/commands/commandtest"
)

func gzipped(tb testing.TB, content string) string {
	tb.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, content); err != nil {
		tb.Fatal(err)
	}
	if err := w.Close(); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

const good = "1,A,MUG,2,2011-12-05T10:00:00,1.25,7,EIRE\n"

func TestBrokenFiles(t *testing.T) {
	t.Parallel()
	packed := gzipped(t, header+strings.Repeat(good, 10))
	damaged := []byte(packed)
	damaged[len(damaged)-5] ^= 1
	for _, test := range []struct{ name, content, want string }{
		{"empty", "", "test.csv: the file is empty"},
		{"empty lines", "\n\n", "test.csv: the file is empty"},
		{"empty gzip", gzipped(t, ""), "test.csv: the file is empty"},
		{"a column is missing", strings.Replace(header, "UnitPrice", "Price", 1) + good,
			"test.csv:1:1: the header has no column UnitPrice; it must name " + strings.Join(Columns, ", ") + ", separated by commas"},
		{"semicolons", strings.ReplaceAll(header, ",", ";"),
			"test.csv:1:1: the header has no columns " + strings.Join(Columns, ", ") + "; it must name " + strings.Join(Columns, ", ") + ", separated by commas"},
		{"a column twice", "Country," + header, "test.csv:1:83: the column Country stands here a second time"},
		{"too few fields", header + good + "1,A,MUG\n", "test.csv:3:5: the row has 3 fields, the header 8"},
		{"too many fields", header + strings.Replace(good, "EIRE", "EIRE,x", 1), "test.csv:2:43: the row has 9 fields, the header 8"},
		{"a quantity with a point", header + strings.Replace(good, ",2,", ",2.0,", 1),
			`test.csv:2:9: the quantity must be a whole number, not "2.0"`},
		{"no quantity", header + good + strings.Replace(good, ",2,", ",,", 1), `test.csv:3:9: the quantity must be a whole number, not ""`},
		{"a price with a comma", header + strings.Replace(good, "1.25", `"1,25"`, 1),
			`test.csv:2:31: the price must be a decimal number of at most 18 digits, not "1,25"`},
		{"a price that is huge", header + strings.Replace(good, "1.25", strings.Repeat("9", 60), 1),
			`test.csv:2:31: the price must be a decimal number of at most 18 digits, not "` + strings.Repeat("9", 40) + `..."`},
		{"an American date", header + strings.Replace(good, "2011-12-05T10:00:00", "12/5/2011 10:00", 1),
			`test.csv:2:11: the date must be written as 2011-12-05T08:38:00, not "12/5/2011 10:00"`},
		{"a day that no year has", header + strings.Replace(good, "2011-12-05", "2011-02-29", 1),
			`test.csv:2:11: the date must be written as 2011-12-05T08:38:00, not "2011-02-29T10:00:00"`},
		{"Latin-1", header + good + "1,A,\xa3 MUG,2,2011-12-05T10:00:00,1.25,7,EIRE\n",
			"test.csv:3:5: the byte 0xA3 is not UTF-8; save the file in that encoding"},
		{"UTF-16", "\xff\xfeI\x00n\x00v\x00", "test.csv:1:1: the byte 0xFF is not UTF-8; save the file in that encoding"},
		{"cut off in a letter", header + "1,A,\xc2", "test.csv:2:5: the byte 0xC2 is not UTF-8; save the file in that encoding"},
		{"a zero byte", header + "1,A,\x00", "test.csv:2:5: a zero byte: this is not a text in UTF-8"},
		{"an earlier mistake comes first", header + strings.Replace(good, ",2,", ",x,", 1) + "\xff",
			`test.csv:2:9: the quantity must be a whole number, not "x"`},
		{"a quote inside", header + good + `1,A,5" NAIL,2,2011-12-05T10:00:00,1.25,7,EIRE` + "\n",
			"test.csv:3:6: this is not CSV: a quote in a field that is not quoted"},
		{"a quote that does not end", header + "1,A,\"MUG\n" + good + good,
			"test.csv:4:43: this is not CSV: the quoted field of the row that begins in line 2 does not end as it should"},
		{"gzip cut off", packed[:len(packed)/2], "test.csv:1:"},
		{"gzip without its end", packed[:len(packed)-6], "test.csv:12:1: the gzip data is cut off"},
		{"gzip of nothing", "\x1f\x8b", "test.csv: the gzip data is cut off"},
		{"gzip that is none", "\x1f\x8b\x00\x00 a text", "test.csv: the gzip data is damaged, or something else stands behind it"},
		{"gzip with another checksum", string(damaged), "test.csv:12:1: the gzip data is damaged: its checksum is wrong"},
		{"gzip with more behind it", packed + "rest of the file", "test.csv:12:1: the gzip data is damaged, or something else stands behind it"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, oneByOne := range []bool{false, true} {
				src := text(test.content)
				if oneByOne {
					src.Open = func() (io.ReadCloser, error) {
						return io.NopCloser(iotest.OneByteReader(strings.NewReader(test.content))), nil
					}
				}
				k := commandtest.New(t)
				o := options(t, k, src)
				o.RejectedPath = filepath.Join(t.TempDir(), "rejected.csv")
				_, err := Import(t.Context(), o)
				var broken *FileError
				if !errors.As(err, &broken) || !strings.HasPrefix(err.Error(), test.want) {
					t.Errorf("got error %v, want %s", err, test.want)
				}
				if n := len(k.Log()); n > 0 {
					t.Errorf("%d events were written", n)
				}
				if _, err := os.Stat(o.RejectedPath); err == nil {
					t.Error("there is a file of rejected rows")
				}
			}
		})
	}
}

func TestFilesThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for path, want := range map[string]string{
		filepath.Join(dir, "none.csv"): "none.csv: there is no such file",
		dir:                            ": is a directory, not a file",
	} {
		_, err := Import(t.Context(), options(t, commandtest.New(t), File(path)))
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: got error %v, want %s", path, err, want)
		}
	}
	_, err := Import(t.Context(), options(t, commandtest.New(t), Source{Name: "x", Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader(header), iotest.ErrReader(errors.New("the disk is on fire")))), nil
	}}))
	if want := "x:2:1: the file cannot be read: the disk is on fire"; err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
}

// endless is a text that begins somehow and then repeats one byte for ever. It counts what is read of it.
type endless struct {
	begin io.Reader
	then  byte
	n     int
}

func (e *endless) Read(p []byte) (int, error) {
	n, err := e.begin.Read(p)
	if errors.Is(err, io.EOF) {
		for i := range p {
			p[i] = e.then
		}
		n = len(p)
	}
	e.n += n
	return n, nil
}

// It does not run in parallel: it looks at what the whole process allocates.
func TestLongLines(t *testing.T) {
	for name, test := range map[string]struct {
		begin string
		then  byte
		want  string
	}{
		"a field":              {header + good + "1,A,", 'x', "test.csv:3:1048577: the row is longer than 1048576 bytes"},
		"the header":           {"", 'x', "test.csv:1:1048577: the row is longer than 1048576 bytes"},
		"a quote without end":  {header + good + `1,A,"`, '\n', "test.csv:3:1048577: the row is longer than 1048576 bytes"},
		"commas":               {header + good, ',', "test.csv:3:1048577: the row is longer than 1048576 bytes"},
		"lines without a text": {header + good, '\n', "test.csv:3:1048577: the row is longer than 1048576 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			in := &endless{begin: strings.NewReader(test.begin), then: test.then}
			src := Source{Name: "test.csv", Open: func() (io.ReadCloser, error) { return io.NopCloser(in), nil }}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := Import(t.Context(), options(t, commandtest.New(t), src))
			runtime.ReadMemStats(&after)
			if err == nil || err.Error() != test.want {
				t.Errorf("got error %v, want %s", err, test.want)
			}
			if in.n > 2*maxRecord {
				t.Errorf("%d bytes were read", in.n)
			}
			if grown := after.TotalAlloc - before.TotalAlloc; grown > 256<<20 {
				t.Errorf("%d bytes were allocated", grown)
			}
		})
	}
	exactly := header + "1,A,"
	rest := ",2,2011-12-05T10:00:00,1.25,7,EIRE\n"
	for _, over := range []int{0, 1} {
		line := exactly + strings.Repeat("x", maxRecord-len("1,A,")-len(rest)+over) + rest
		_, err := Import(t.Context(), options(t, commandtest.New(t), text(line)))
		if (err != nil) != (over > 0) {
			t.Errorf("a line of %d bytes: %v", maxRecord+over, err)
		}
	}
}

func TestFormsOfAFile(t *testing.T) {
	t.Parallel()
	want := `{"rows":1,"amount":"2.50","sales":{"rows":1,"orders":1,"amount":"2.50"},"returns":{"rows":0,"amount":"0.00"},` +
		`"corrections":{"rows":0,"amount":"0.00"},"rejected":{"rows":0,"amount":"0.00","reasons":{}},"doneBefore":0}`
	for name, content := range map[string]string{
		"plain":             header + good,
		"no line end":       header + strings.TrimSuffix(good, "\n"),
		"Windows":           strings.ReplaceAll(header+good, "\n", "\r\n"),
		"byte-order mark":   "\uFEFF" + header + good,
		"mark and quotes":   "\uFEFF\"" + strings.ReplaceAll(strings.TrimSpace(header), ",", `","`) + "\"\n" + good,
		"empty lines":       "\n" + header + "\n" + good + "\n",
		"blanks":            strings.ReplaceAll(header, ",", " , ") + strings.ReplaceAll(good, ",", " , "),
		"another order":     "x,Country,CustomerID,UnitPrice,InvoiceDate,Quantity,Description,StockCode,InvoiceNo\ny,EIRE,7,1.25,2011-12-05 10:00,2,MUG,A,1\n",
		"gzip":              gzipped(t, header+good),
		"gzip of two parts": gzipped(t, header) + gzipped(t, good),
		"gzip with a mark":  gzipped(t, "\uFEFF"+header+good),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := commandtest.New(t)
			if got := imported(t, k, text(content)).Summary.String(); got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	k := commandtest.New(t)
	if got := imported(t, k, text(header)); got.Summary.Rows != 0 || got.Summary.Amount != "0.00" {
		t.Errorf("a header alone: got %s", got.Summary)
	}
}

// However a text comes in pieces, the guard finds its first bad byte, and line and column of it.
func TestGuardFindsTheFirstBadByte(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		content := strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "\n", "£", "€", "😀", "\xff", "\xe2\x82", "\xf0\x9f\x98", "\x80", "\x00"}), 0, 12).
			Draw(t, "content"), "")
		want, line, column := "", 1, 1
		for i := 0; i < len(content); {
			r, size := utf8.DecodeRuneInString(content[i:])
			if content[i] == 0 || r == utf8.RuneError && size == 1 {
				want = fmt.Sprintf("%d:%d", line, column)
				break
			}
			if r == '\n' {
				line, column = line+1, 1
			} else {
				column += size
			}
			i += size
		}
		g := newGuard(strings.NewReader(content), readProblem)
		var out bytes.Buffer
		var err error
		for err == nil {
			p := make([]byte, rapid.IntRange(1, 5).Draw(t, "piece"))
			var n int
			n, err = g.Read(p)
			out.Write(p[:n])
		}
		got := ""
		if g.problem != nil {
			got = fmt.Sprintf("%d:%d", g.problem.Line, g.problem.Column)
		}
		if got != want {
			t.Fatalf("%q: got a problem at %q, want %q", content, got, want)
		}
		if want == "" && out.String() != content {
			t.Fatalf("got %q, want %q", out.String(), content)
		}
	})
}

// Whatever a file holds, it is refused as a whole with the place, or its classes add up.
func FuzzRead(f *testing.F) {
	f.Add(header + good)
	f.Add(header + "C1,a ,\"A \"\"MUG\"\"\",-2,2011-12-05 10:00,0.001,,EIRE\r\n")
	f.Add("\x1f\x8b")
	f.Add("\uFEFF" + strings.ReplaceAll(header, ",", "\t"))
	f.Fuzz(func(t *testing.T, content string) {
		s, err := readSheet(t.Context(), text(content), "GBP", time.UTC, func(int) {})
		if broken := (*FileError)(nil); err != nil && (!errors.As(err, &broken) || broken.File != "test.csv" || broken.Problem == "") {
			t.Fatalf("got error %v", err)
		}
		if err != nil {
			return
		}
		p, err := makePlan(t.Context(), commandtest.New(t), s, func(int64, int64) {})
		if err != nil {
			t.Fatal(err)
		}
		got := s.summary()
		if got.Sales.Rows+got.Returns.Rows+got.Corrections.Rows+got.Rejected.Rows != got.Rows || p.before != got.Rejected.Rows {
			t.Fatalf("the classes do not add up: %s, of which %d need no step", got, p.before)
		}
	})
}
