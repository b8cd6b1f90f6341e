package onlineretail

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/commands/commandtest"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/internal/es"
)

const header = "InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"

// text is a source of the name test.csv.
func text(content string) Source {
	return Source{Name: "test.csv", Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }}
}

// lines is a file with a header and rows whose fields are parted by blanks; _ stands for an empty field.
func lines(rows ...string) Source {
	var b strings.Builder
	b.WriteString(header)
	for _, r := range rows {
		fields := strings.Fields(r)
		for i, f := range fields {
			fields[i] = strings.ReplaceAll(strings.TrimPrefix(f, "_"), "_", " ")
		}
		b.WriteString(strings.Join(fields, ",") + "\n")
	}
	return text(b.String())
}

func options(tb testing.TB, k *commandtest.Kit, src Source) Options {
	return Options{Source: src, Commands: k.App, Executor: k, Reader: k, Location: london(tb)}
}

func imported(tb testing.TB, k *commandtest.Kit, src Source) Result {
	tb.Helper()
	r, err := Import(tb.Context(), options(tb, k, src))
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

// told returns the log as lines to be compared. Products, whose ids are random, go by their SKU.
func told(events []es.Event) []string {
	var ids []string
	for _, e := range events {
		if fact, ok := e.Fact.(catalog.Created); ok {
			ids = append(ids, fact.ID, "product of "+fact.Variants[0].SKU)
		}
	}
	named := strings.NewReplacer(ids...)
	out := make([]string, len(events))
	for i, e := range events {
		out[i] = named.Replace(fmt.Sprintf("%s %s %s %s", e.OccurredAt.UTC().Format("2006-01-02T15:04:05"), e.Stream, e.Type, e.Data))
	}
	return out
}

// wantSame fails the test at the first line that differs.
func wantSame(tb rapid.TB, got, want []string) {
	tb.Helper()
	for i := range max(len(got), len(want)) {
		g, w := "nothing", "nothing"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			tb.Fatalf("event %d is\n%s\nwant\n%s", i+1, g, w)
		}
	}
}

// failing executes a number of commands, after which the log is not available. The last one's answer is lost.
type failing struct {
	es.Executor
	left int
}

func (f *failing) ExecuteAll(ctx context.Context, cs []es.Command) ([]es.Outcome, []error) {
	n := min(f.left, len(cs))
	f.left -= n
	outcomes, errs := f.Executor.ExecuteAll(ctx, cs[:n])
	for range cs[n:] {
		outcomes, errs = append(outcomes, es.Outcome{}), append(errs, es.ErrUnavailable)
	}
	if n > 0 && n < len(cs) && errs[n-1] == nil {
		errs[n-1] = es.ErrOutcomeUnknown
	}
	return outcomes, errs
}
