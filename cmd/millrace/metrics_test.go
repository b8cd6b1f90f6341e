package main

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestMetricsAreDocumented checks that docs/metrics.md has every metric that the program registers, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	const root = "../.."
	registered := map[string]bool{}
	definition := regexp.MustCompile(`(?:Name:\s*|NewDesc\(\s*)"(millrace_[a-z_]+)"`)
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() != ".." && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "bench"):
			return filepath.SkipDir
		case filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		content, err := os.ReadFile(path)
		for _, found := range definition.FindAllStringSubmatch(string(content), -1) {
			registered[found[1]] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(registered) < 50 {
		t.Fatalf("only %d metrics were found: %v", len(registered), registered)
	}
	text, err := os.ReadFile(filepath.Join(root, "docs", "metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, found := range regexp.MustCompile("`(millrace_[a-z_]+)").FindAllStringSubmatch(string(text), -1) {
		documented[found[1]] = true
	}
	for _, name := range slices.Sorted(maps.Keys(registered)) {
		if !documented[name] {
			t.Errorf("%s is not documented", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(documented)) {
		if !registered[name] {
			t.Errorf("%s is documented and does not exist", name)
		}
	}
}
