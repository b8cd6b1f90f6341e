package payments

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestConcurrencyIsDocumented checks that operators are told how many calls a process makes to the provider at once.
func TestConcurrencyIsDocumented(t *testing.T) {
	t.Parallel()
	r := &Runner{o: Options{Concurrency: usualConcurrency}}
	want := fmt.Sprintf("| payments: the provider | %d first authorisations, %d captures, voids and refunds, and %d retries at once; no setting |",
		r.capacity(fresh), r.capacity(settling), r.capacity(retried))
	text, err := os.ReadFile(filepath.Join("..", "..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), want) {
		t.Errorf("README.md does not have %q", want)
	}
}
