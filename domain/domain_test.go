package domain_test

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/millrace/millrace/domain"
)

func TestEveryEventIsListedOnceUnderAWellFormedName(t *testing.T) {
	t.Parallel()
	form := regexp.MustCompile(`^[a-z]+\.[a-z]+(_[a-z]+)*(\.v[2-9])?$`)
	seen := make(map[string]bool)
	for _, e := range domain.Events() {
		named, ok := e.(interface{ EventType() string })
		if !ok {
			t.Errorf("%T has no stored name", e)
			continue
		}
		name := named.EventType()
		if seen[name] || !form.MatchString(name) {
			t.Errorf("%T is stored as %q", e, name)
		}
		seen[name] = true
	}
	files, err := filepath.Glob(filepath.Join("*", "testdata", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		if !seen[name] {
			t.Errorf("%s is of an event that is not listed", file)
		}
		delete(seen, name)
	}
	for name := range seen {
		t.Errorf("no module has a stored %s", name)
	}
}
