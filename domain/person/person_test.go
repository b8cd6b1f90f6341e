package person_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/millrace/millrace/domain/person"
	"github.com/millrace/millrace/domain/rule"
)

func TestForget(t *testing.T) {
	forgotten := func(key string) []person.Event { return []person.Event{person.Forgotten{Key: key}} }
	for _, test := range []struct {
		name  string
		given []person.Event
		key   string
		then  []person.Event
		code  rule.Code
	}{
		{name: "somebody who is known", key: "a", then: forgotten("a")},
		{name: "nobody who is known", code: rule.NotFound},
		{name: "somebody whose key has not been deleted yet", given: forgotten("a"), key: "a"},
		{name: "somebody who was forgotten", given: forgotten("a")},
		{name: "somebody who was forgotten and came back", given: forgotten("a"), key: "b", then: forgotten("b")},
	} {
		t.Run(test.name, func(t *testing.T) {
			var s person.State
			for _, e := range test.given {
				s = person.Evolve(s, e)
			}
			got, err := person.Forget{Key: test.key}.Decide(s)
			if rule.CodeOf(err) != test.code || !reflect.DeepEqual(got, test.then) {
				t.Fatalf("got %v, %v, want %v, code %q", got, err, test.then, test.code)
			}
		})
	}
}

// What was ever stored must decode for ever.
func TestStoredEventsDecode(t *testing.T) {
	for _, e := range person.Events() {
		data, err := os.ReadFile(filepath.Join("testdata", e.EventType()+".json"))
		if err != nil {
			t.Fatal(err)
		}
		v := reflect.New(reflect.TypeOf(e))
		if err := json.Unmarshal(data, v.Interface()); err != nil {
			t.Fatalf("%s: %v", e.EventType(), err)
		}
		if got := v.Elem().Interface(); got != (person.Forgotten{Key: "k1"}) {
			t.Fatalf("%s: got %v", e.EventType(), got)
		}
	}
}
