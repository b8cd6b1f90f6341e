package given

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// Stored checks that testdata holds one stored JSON of every event of the closed set, and of nothing else, and that each
// is read without a field left over and written back as it was. These files stand for the events in every log: they may
// be added to, never changed.
func Stored[E interface{ EventType() string }](t *testing.T, closed ...E) {
	t.Helper()
	names := make(map[string]bool)
	for _, e := range closed {
		name := e.EventType()
		if names[name] {
			t.Errorf("two events are stored as %s", name)
		}
		names[name] = true
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file, err := os.ReadFile(filepath.Join("testdata", name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			p := reflect.New(reflect.TypeOf(e))
			d := json.NewDecoder(bytes.NewReader(file))
			d.DisallowUnknownFields()
			if err := d.Decode(p.Interface()); err != nil {
				t.Fatalf("decoding: %v", err)
			}
			var want bytes.Buffer
			if err := json.Compact(&want, file); err != nil {
				t.Fatal(err)
			}
			if got := stored(t, p.Interface()); got != want.String() {
				t.Errorf("comes back as\n%s, was\n%s", got, want.String())
			}
		})
	}
	files, err := filepath.Glob(filepath.Join("testdata", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !names[strings.TrimSuffix(filepath.Base(file), ".json")] {
			t.Errorf("%s is of no event that this module can read", file)
		}
	}
}
