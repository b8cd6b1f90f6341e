package bestsellers_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTheDocumentQuotesTheCode keeps docs/adding-a-projection.md true: each block of code in it stands in the file that the text before
// links to.
func TestTheDocumentQuotesTheCode(t *testing.T) {
	t.Parallel()
	document, err := os.ReadFile("../adding-a-projection.md")
	if err != nil {
		t.Fatal(err)
	}
	link := regexp.MustCompile(`\]\(([^)#]+\.(?:go|graphqls))\)`)
	quoted, file := map[string]int{}, ""
	for i, part := range strings.Split(string(document), "```") {
		if i%2 == 0 {
			for _, l := range link.FindAllStringSubmatch(part, -1) {
				file = l[1]
			}
			continue
		}
		language, code, _ := strings.Cut(part, "\n")
		if language != "go" && language != "graphqls" {
			continue
		}
		source, err := os.ReadFile(filepath.Join("..", file))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(flat(string(source)), flat(code)) {
			t.Errorf("%s does not have:\n%s", file, code)
		}
		quoted[file]++
	}
	for _, file := range []string{"bestsellers/bestsellers.go", "bestsellers/bestsellers_test.go", "../cmd/millrace/wire.go"} {
		if quoted[file] == 0 {
			t.Errorf("nothing of %s is quoted", file)
		}
	}
}

// flat leaves indentation out: a quotation may begin in the middle of a function.
func flat(code string) string {
	lines := strings.Split(strings.TrimSpace(code), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimSpace(l)
	}
	return strings.Join(lines, "\n")
}
