package invoice_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/millrace/millrace/domain/invoice"
	"github.com/millrace/millrace/domain/rule"
)

func TestImportLines(t *testing.T) {
	done := func(places ...int) []invoice.Event { return []invoice.Event{invoice.LinesImported{Lines: places}} }
	for _, test := range []struct {
		name  string
		given []invoice.Event
		when  []int
		then  []invoice.Event
		code  rule.Code
	}{
		{name: "the first lines", when: []int{3, 1, 3}, then: done(1, 3)},
		{name: "only what is new", given: done(1, 3), when: []int{1, 2, 3}, then: done(2)},
		{name: "nothing new", given: append(done(2), done(1)...), when: []int{1, 2}},
		{name: "a place that no line has", when: []int{1, 0}, code: rule.Invalid},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s invoice.State
			for _, e := range test.given {
				s = invoice.Evolve(s, e)
			}
			got, err := invoice.ImportLines{Lines: test.when}.Decide(s)
			if rule.CodeOf(err) != test.code {
				t.Fatalf("got error %v, want code %q", err, test.code)
			}
			if !reflect.DeepEqual(got, test.then) {
				t.Fatalf("got %v, want %v", got, test.then)
			}
			for _, e := range got {
				s = invoice.Evolve(s, e)
			}
			if again, err := (invoice.ImportLines{Lines: test.when}).Decide(s); test.code == "" && (err != nil || len(again) > 0) {
				t.Fatalf("repeated: got %v, %v, want nothing", again, err)
			}
		})
	}
}

func TestEvolveLeavesOlderStatesAlone(t *testing.T) {
	first := invoice.Evolve(invoice.State{}, invoice.LinesImported{Lines: []int{5, 7}})
	invoice.Evolve(first, invoice.LinesImported{Lines: []int{1}})
	if want := []int{5, 7}; !reflect.DeepEqual(first.Lines, want) {
		t.Fatalf("got %v, want %v", first.Lines, want)
	}
}

// What was ever stored must decode for ever.
func TestStoredEventsDecode(t *testing.T) {
	for _, e := range invoice.Events() {
		data, err := os.ReadFile(filepath.Join("testdata", e.EventType()+".json"))
		if err != nil {
			t.Fatal(err)
		}
		v := reflect.New(reflect.TypeOf(e))
		if err := json.Unmarshal(data, v.Interface()); err != nil {
			t.Fatalf("%s: %v", e.EventType(), err)
		}
		want := invoice.LinesImported{Lines: []int{1, 2, 12}}
		if got := v.Elem().Interface(); !reflect.DeepEqual(got, want) {
			t.Fatalf("%s: got %v, want %v", e.EventType(), got, want)
		}
	}
}
