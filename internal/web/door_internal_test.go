package web

import (
	"bufio"
	"bytes"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

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

// TestHeads holds any heads, most of them somewhat wrong, against what net/http makes of them: what is found to be beyond doubt, and understood, is so.
func TestHeads(t *testing.T) {
	targets := []string{"/", "/", "/graphql", "/a/b", "/a//b", "//a", "/a%20b", "/a?b", "/a#b", "/\u00e9", "*", "http://shop/a", "a", "", "/a b", "/a:b", "/..", "/a;b"}
	pieces := []string{
		"POST / HTTP/1.1", "GET /a HTTP/1.1", "Host: shop", "Host:", "accept:  a b ", "Accept: c", "X-a:", "Connection: Keep-Alive, close", "connection: keep-alive", "Pragma: no-cache", "Content-Length: 3", "content-length:3", "Content-Length: 3, 3", "Content-Length: +3", "Content-Length : 3",
		"Content-Length:", "Content-Length: 0x3", "Transfer-Encoding: chunked", "Transfer-Encoding:chunked", "A: b", " folded", "\tContent-Length: 5", ":", "A", "", "\x00", "\r",
		"\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n\r\n", "\n\n", "\r\n\n", "\n\r\n",
	}
	sure, understood := 0, 0
	seen := &glimpse{request: http.Request{Header: http.Header{}}, header: http.Header{}} // the same for all, as at the door
	rapid.Check(t, func(t *rapid.T) {
		var head strings.Builder
		head.WriteString("POST " + rapid.SampledFrom(targets).Draw(t, "target") + rapid.SampledFrom([]string{" HTTP/1.1", " HTTP/1.0", "  HTTP/1.1", " HTTP/1.1 "}).Draw(t, "protocol"))
		head.WriteString("\r\nHost: shop\r\n")
		for range rapid.IntRange(0, 8).Draw(t, "pieces") {
			head.WriteString(rapid.SampledFrom(pieces).Draw(t, "piece"))
			if rapid.Bool().Draw(t, "end of line") {
				head.WriteString("\r\n")
			}
		}
		head.WriteString(headEnd)
		text, _, _ := strings.Cut(head.String(), headEnd)
		text += headEnd
		length, ok := bodyLength([]byte(text))
		if !ok {
			return
		}
		from := bufio.NewReader(bytes.NewReader([]byte(text + "abcdefgh")))
		r, err := http.ReadRequest(from)
		if err != nil {
			return // the server hangs up
		}
		sure++
		if seen.read([]byte(text), []byte("abcdefgh")[:min(length, 8)], "") {
			understood++
			if g := &seen.request; r.Method != g.Method || *r.URL != *g.URL || r.RequestURI != g.RequestURI || r.Proto != g.Proto || r.Host != g.Host || r.Close ||
				!maps.EqualFunc(r.Header, g.Header, slices.Equal) {
				t.Fatalf("%q: understood as %+v, by net/http as %+v", text, g, r)
			}
		}
		if left := from.Buffered(); left != len("abcdefgh") || max(0, r.ContentLength) != length || len(r.TransferEncoding) > 0 {
			t.Fatalf("%q: a body of %d, to net/http of %d, %v, with %d left", text, length, r.ContentLength, r.TransferEncoding, left)
		}
	})
	if sure == 0 || understood == 0 {
		t.Errorf("%d heads were beyond doubt, %d requests understood", sure, understood)
	}
	t.Logf("%d heads were beyond doubt, %d requests understood", sure, understood)
}
