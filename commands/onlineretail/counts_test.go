package onlineretail

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/millrace/millrace/commands/commandtest"
)

// fullFileVariable is the environment variable that names the whole data set, all 541,909 lines.
const fullFileVariable = "MILLRACE_ONLINE_RETAIL"

// fullFile returns where the whole data set is. It is not shipped with the project.
func fullFile() (path string, ok bool) {
	path = os.Getenv(fullFileVariable)
	if path == "" {
		path = filepath.Join("..", "..", "..", "shared", "data", "online-retail.csv.gz")
	}
	_, err := os.Stat(path)
	return path, err == nil
}

func london(tb testing.TB) *time.Location {
	tb.Helper()
	location, err := time.LoadLocation("Europe/London")
	if err != nil {
		tb.Fatal(err)
	}
	return location
}

func read(tb testing.TB, src Source) *sheet {
	tb.Helper()
	s, err := readSheet(tb.Context(), src, "GBP", london(tb), func(int) {})
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// planned returns the plan of a file on an empty log.
func planned(tb testing.TB, src Source) *plan {
	tb.Helper()
	p, err := makePlan(tb.Context(), commandtest.New(tb), read(tb, src), func(int64, int64) {})
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func TestCountsOfTheSampleDay(t *testing.T) {
	t.Parallel()
	got := planned(t, Sample()).sheet.summary()
	want := Summary{
		Rows: 5331, Amount: "57751.32",
		Sales:       Sales{Rows: 5297, Orders: 127, Amount: "88741.96"},
		Returns:     Count{Rows: 1, Amount: "-238.00"},
		Corrections: Count{Rows: 8, Amount: "0.00"},
		Rejected: Rejected{Rows: 25, Amount: "-30752.64", Reasons: map[string]int{
			"return of more than the customer had bought before": 23, "return without a customer": 2,
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestCountsOfTheWholeDataSet(t *testing.T) {
	t.Parallel()
	path, ok := fullFile()
	if !ok {
		t.Logf("%s does not name the whole data set, and it is not at %s: only the sample day has been counted", fullFileVariable, path)
		return
	}
	start := time.Now()
	s := read(t, File(path))
	t.Logf("%d rows read and checked in %s", len(s.rows), time.Since(start).Round(time.Millisecond))
	start = time.Now()
	p, err := makePlan(t.Context(), commandtest.New(t), s, func(int64, int64) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d steps and %d products planned in %s", len(p.steps), len(p.products), time.Since(start).Round(time.Millisecond))
	got := s.summary()
	want := Summary{
		Rows: 541_909, Amount: "9747747.934",
		Sales:       Sales{Rows: 530_140, Orders: 19_964, Amount: "10666684.54"},
		Returns:     Count{Rows: 7_518, Amount: "-468748.19"},
		Corrections: Count{Rows: 2_475, Amount: "0.00"},
		Rejected: Rejected{Rows: 1_776, Amount: "-450188.416", Reasons: map[string]int{
			"return of more than the customer had bought before": 1_387, "return without a customer": 383,
			"price with more than 2 decimals": 4, "price below zero": 2,
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got, want := len(s.skus.all), 3958; got != want {
		t.Errorf("%d SKUs, want %d", got, want)
	}
}
