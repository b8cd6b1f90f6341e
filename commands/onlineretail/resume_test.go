package onlineretail

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/commands/commandtest"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/internal/es"
)

// invoices draws a year of a small shop with many returns. Invoices keep to themselves unless they may be mixed.
func invoices(t *rapid.T, mixed bool) [][]string {
	one := rapid.Custom(func(t *rapid.T) string {
		return fmt.Sprintf("%s %s %d %s",
			rapid.SampledFrom([]string{"A", "A", "a", "B"}).Draw(t, "code"),
			rapid.SampledFrom([]string{"MUG", "POT", "_"}).Draw(t, "description"),
			rapid.IntRange(1, 6).Draw(t, "units"),
			rapid.SampledFrom([]string{"1.00", "1.00", "2.5", "0", "0.001"}).Draw(t, "price"))
	})
	var all [][]string
	minute := 0
	for n := range rapid.IntRange(2, 12).Draw(t, "invoices") {
		kind := rapid.SampledFrom([]string{"", "C"}).Draw(t, "kind")
		customer := rapid.SampledFrom([]string{"7", "7", "7", "8", "_"}).Draw(t, "customer")
		minute += rapid.IntRange(0, 1).Draw(t, "minutes")
		var rows []string
		for range rapid.IntRange(1, 4).Draw(t, "rows") {
			f := strings.Fields(one.Draw(t, "row"))
			sign := ""
			if kind == "C" || rapid.IntRange(0, 5).Draw(t, "loss") == 0 {
				sign = "-"
			}
			quantity, _ := strconv.Atoi(f[2])
			if kind == "" {
				quantity += 3 // so that most returns are covered
			}
			rows = append(rows, fmt.Sprintf("%s%d %s %s %s%d 2011-05-05T10:%02d:00 %s %s EIRE", kind, 100+n, f[0], f[1], sign, quantity, minute, f[3], customer))
		}
		if mixed && n > 0 && rapid.Bool().Draw(t, "mixed") {
			// Some of its rows stand among those of the invoice before it.
			last := all[len(all)-1]
			at := rapid.IntRange(0, len(last)).Draw(t, "at")
			all[len(all)-1] = slices.Insert(slices.Clone(last), at, rows[0])
			rows = rows[1:]
		}
		all = append(all, rows)
	}
	return all
}

// An import that is killed any number of times and started again ends in the very log of one that was not.
func TestInterruptedImportsEndInTheSameLog(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		src := lines(slices.Concat(invoices(r, true)...)...)
		whole := commandtest.New(t)
		want := imported(t, whole, src).Summary

		k := commandtest.New(t)
		var got Result
		for err := errors.New("not begun"); err != nil; {
			o := options(t, k, src)
			o.Patience = time.Nanosecond
			o.ChunkEvents = rapid.IntRange(1, 60).Draw(r, "chunk")
			o.Executor = &failing{Executor: k, left: rapid.IntRange(0, 12).Draw(r, "commands")}
			if got, err = Import(t.Context(), o); err != nil && !errors.Is(err, es.ErrUnavailable) && !errors.Is(err, es.ErrOutcomeUnknown) {
				r.Fatal(err)
			}
		}
		wantSame(r, told(k.Log()), told(whole.Log()))
		got.Summary.DoneBefore = 0
		if got.Summary.String() != want.String() {
			r.Fatalf("got  %s\nwant %s", got.Summary, want)
		}

		again := imported(t, k, src)
		if n := len(k.Log()) - len(whole.Log()); n != 0 {
			r.Fatalf("importing again adds %d events", n)
		}
		if done := want.Rows - want.Rejected.Rows; again.Summary.DoneBefore != done || again.Position != int64(len(k.Log())) {
			r.Fatalf("importing again: got %+v, want %d done before", again, done)
		}
	})
}

// Files that overlap, imported in their order, do to every stream what one file with all of it does.
func TestOverlappingFilesDoWhatOneFileDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		all := invoices(r, false)
		end := rapid.IntRange(0, len(all)).Draw(r, "end of the first file")
		begin := rapid.IntRange(0, end).Draw(r, "begin of the second file")
		whole, k := commandtest.New(t), commandtest.New(t)
		imported(t, whole, lines(slices.Concat(all...)...))
		imported(t, k, lines(slices.Concat(all[:end]...)...))
		imported(t, k, lines(slices.Concat(all[begin:]...)...))
		wantSame(r, effects(k), effects(whole))
		n := len(k.Log())
		imported(t, k, lines(slices.Concat(all...)...))
		if more := len(k.Log()) - n; more != 0 {
			r.Fatalf("the file with all of it adds %d events", more)
		}
	})
}

// effects lists by stream what was sold, returned, lost and found. Openings, titles and prices of products depend on
// what a file knows of the rest of the year.
func effects(k *commandtest.Kit) []string {
	byStream := map[string][]string{}
	for _, e := range k.Log() {
		switch es.CategoryOf(e.Stream) {
		case "product", "slug":
			continue
		}
		if e.Type == "stock.received" || e.Type == "stock.opened" {
			continue
		}
		what := e.Type + " " + string(e.Data)
		if fact, ok := e.Fact.(order.Placed); ok {
			for i := range fact.Lines {
				fact.Lines[i].Title, fact.Lines[i].Product = "", ""
			}
			what = fmt.Sprint(e.Type, fact)
		}
		byStream[e.Stream] = append(byStream[e.Stream], what)
	}
	var out []string
	for _, stream := range slices.Sorted(maps.Keys(byStream)) {
		for _, what := range byStream[stream] {
			out = append(out, stream+" "+what)
		}
	}
	return out
}

// Whatever parts of a file are imported, in whatever order, nothing is done twice and all sales are there in the end.
func TestFilesInAnyOrderDoNothingTwice(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		all := invoices(r, false)
		k := commandtest.New(t)
		for range rapid.IntRange(1, 4).Draw(r, "files") {
			begin := rapid.IntRange(0, len(all)-1).Draw(r, "begin")
			end := rapid.IntRange(begin+1, len(all)).Draw(r, "end")
			s := imported(t, k, lines(slices.Concat(all[begin:end]...)...)).Summary
			if s.Sales.Rows+s.Returns.Rows+s.Corrections.Rows+s.Rejected.Rows != s.Rows {
				r.Fatalf("the rows do not add up: %s", s)
			}
		}
		src := lines(slices.Concat(all...)...)
		imported(t, k, src)
		whole := commandtest.New(t)
		imported(t, whole, src)
		of := func(k *commandtest.Kit, types ...string) []string {
			var out []string
			for _, e := range k.Log() {
				if slices.Contains(types, e.Type) {
					out = append(out, e.Stream+" "+string(e.Data))
				}
			}
			slices.Sort(out)
			return out
		}
		wantSame(r, of(k, "stock.sold", "order.fulfilled", "payment.captured", "stock.adjusted"),
			of(whole, "stock.sold", "order.fulfilled", "payment.captured", "stock.adjusted"))
		n := len(k.Log())
		if again := imported(t, k, src).Summary; again.DoneBefore+again.Rejected.Rows != again.Rows || len(k.Log()) != n {
			r.Fatalf("importing again adds %d events: %s", len(k.Log())-n, again)
		}
	})
}
