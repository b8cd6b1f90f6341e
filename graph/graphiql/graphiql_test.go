package graphiql

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestSums checks that the parts are what README.md says they are.
func TestSums(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := files.ReadDir("assets")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		packed, err := files.ReadFile("assets/" + e.Name())
		if err != nil {
			t.Fatal(err)
		}
		plain, err := unpack(packed)
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(plain)
		row := regexp.MustCompile("`" + regexp.QuoteMeta(strings.TrimSuffix(e.Name(), ".gz")) + "` \\|.*`" + hex.EncodeToString(sum[:]) + "`")
		if !row.Match(readme) {
			t.Errorf("README.md does not have %s with the sum %x", e.Name(), sum)
		}
	}
}

// TestPage checks that the page and all that it names are served, and nothing from anywhere else.
func TestPage(t *testing.T) {
	server := httptest.NewServer(Handler("/graphql"))
	defer server.Close()
	get := func(path string) (status int, header http.Header, body string) {
		res, err := http.Get(server.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = res.Body.Close() }()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, res.Header, string(text)
	}
	status, header, page := get("/")
	if status != http.StatusOK || !strings.Contains(page, `data-endpoint="/graphql"`) {
		t.Fatalf("%d %s", status, page)
	}
	if strings.Contains(page, "//") {
		t.Error("the page names another server")
	}
	if got := header.Get("Content-Security-Policy"); !strings.Contains(got, "default-src 'none'; script-src 'self';") {
		t.Errorf("the policy is %s", got)
	}
	parts := regexp.MustCompile(`(?:src|href)="(/[^"]*)"`).FindAllStringSubmatch(page, -1)
	if len(parts) < 7 {
		t.Fatalf("the page has the parts %v", parts)
	}
	for _, part := range parts {
		if status, _, body := get(part[1]); status != http.StatusOK || body == "" || body[0] == '\x1f' {
			t.Errorf("%s: %d", part[1], status)
		}
	}
	for _, path := range []string{"/graphiql/page.html", "/graphiql/assets", "/graphiql/..%2fgraphiql.go", "/elsewhere"} {
		if status, _, _ := get(path); status != http.StatusNotFound {
			t.Errorf("%s: %d", path, status)
		}
	}
}
