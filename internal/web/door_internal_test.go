package web

import (
	"bufio"
	"bytes"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/http/httpguts"
	"pgregory.net/rapid"
)

func TestBodyLengthOfOneHead(t *testing.T) {
	for _, c := range []struct {
		lines  string
		length int64
		ok     bool
	}{
		{"Host: shop", 0, true},
		{"Host: shop\r\ncOnTeNt-LeNgTh:  12 ", 12, true},
		{"Host: sh\u00f6p\r\nContent-Length: 12", 12, true},
		{"Content-Length: 4611686018427387903", 1<<62 - 1, true},
		{"Content-Length: 4611686018427387904", 0, false},
		{"Content-Length: 18446744073709551615", 0, false},
		{"Content-Length: -1", 0, false},
		{"Content-Length: 3\u00a0", 0, false},
		{"Content-Length: 3\r\nContent-Length: 3", 0, false},
		{"tRaNsFeR-eNcOdInG: chunked", 0, false},
		{"uPgRaDe: h2c", 0, false},
		{"eXpEcT: 100-continue", 0, false},
		{"tRaIlEr: A", 0, false},
		{"A: \x7f", 0, false},
		{"A: \x1f", 0, false},
		{"A\u00e4: b", 0, false},
		{"Content-\u212aength: 3\r\nA : b", 0, false},
	} {
		if length, ok := bodyLength([]byte("POST / HTTP/1.1\r\n" + c.lines + headEnd)); ok != c.ok || ok && length != c.length {
			t.Errorf("%q: %d, %t; want %d, %t", c.lines, length, ok, c.length, c.ok)
		}
	}
}

// TestHeads holds any heads, some of them somewhat wrong, against what net/http makes of them: what is found to be beyond doubt, and understood, is so.
func TestHeads(t *testing.T) {
	targets := []string{"/", "/graphql", "/a/b", "/a//b", "//a", "/a%20b", "/a?b", "/a#b", "/\u00e9", "*", "http://shop/a", "a", "", "/a b", "/a:b", "/..", "/a;b"}
	names := []string{
		"Host", "Content-Length", "content-length", "Content-Length ", "Transfer-Encoding", "Connection", "connection", "Accept", "aCCept", "Authorization", "Pragma", "X-\u00e4", "",
		" A", "\tA", "A",
	}
	values := []string{
		"shop", "3", "3, 3", "+3", "0x3", "chunked", "keep-alive", "Keep-Alive, close", "close", "no-cache", "", " a  b ", "a", "a\tb", "3\t", "3\u00a0", "shop\u00a0", "\u0085a",
		"\u3000", "\x00", "\r", "a\nb", "shop shop", "shop/",
	}
	one := func(t *rapid.T, name string, usual string, others []string) string {
		if rapid.IntRange(0, 3).Draw(t, name+", rather") > 0 {
			return usual
		}
		return rapid.SampledFrom(others).Draw(t, name)
	}
	sure, understood := 0, 0
	rapid.Check(t, func(t *rapid.T) {
		text := "POST " + one(t, "target", "/graphql", targets) + one(t, "protocol", " HTTP/1.1", []string{" HTTP/1.0", "  HTTP/1.1", " HTTP/1.1 ", ""}) + "\r\n"
		if rapid.IntRange(0, 9).Draw(t, "host") > 0 {
			text += "Host: shop\r\n"
		}
		for range rapid.IntRange(0, 5).Draw(t, "fields") {
			text += one(t, "name", "Accept", names) + one(t, "colon", ": ", []string{":", ":  ", " : ", ":\t", ""}) +
				one(t, "value", "a", values) + one(t, "end of line", "\r\n", []string{"\r\n\r\n", "\n", "\n\n", "\r\n ", " \r\n", ""})
		}
		text, _, _ = strings.Cut(text+headEnd, headEnd)
		text += headEnd
		length, ok := bodyLength([]byte(text))
		if !ok {
			return
		}
		const body = "abcdefgh"
		from := bufio.NewReader(bytes.NewReader([]byte(text + body)))
		r, err := http.ReadRequest(from)
		seen := glimpses.Get().(*glimpse)
		defer seen.forget()
		plain := seen.read([]byte(text), []byte(body)[:min(length, int64(len(body)))], "")
		if err != nil || len(r.Header["Host"]) > 0 || !httpguts.ValidHostHeader(r.Host) { // the server hangs up
			if plain {
				t.Fatalf("%q: understood as %+v, by net/http as wrong: %v", text, seen.request, err)
			}
			return
		}
		sure++
		if left := from.Buffered(); left != len(body) || max(0, r.ContentLength) != length || len(r.TransferEncoding) > 0 {
			t.Fatalf("%q: a body of %d, to net/http of %d, %v, with %d left", text, length, r.ContentLength, r.TransferEncoding, left)
		}
		if !plain {
			return
		}
		understood++
		if g := &seen.request; r.Method != g.Method || *r.URL != *g.URL || r.RequestURI != g.RequestURI || r.Proto != g.Proto || r.Host != g.Host || r.Close ||
			!maps.EqualFunc(r.Header, g.Header, slices.Equal) {
			t.Fatalf("%q: understood as %+v, by net/http as %+v", text, g, r)
		}
	})
	if sure == 0 || understood == 0 {
		t.Errorf("%d heads were beyond doubt, %d requests understood", sure, understood)
	}
}
