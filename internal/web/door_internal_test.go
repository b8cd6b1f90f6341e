package web

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// TestBodyLength holds any heads, most of them somewhat wrong, against what net/http makes of them: whatever is found to be beyond doubt is so.
func TestBodyLength(t *testing.T) {
	pieces := []string{
		"POST / HTTP/1.1", "GET /a HTTP/1.1", "Host: shop", "Content-Length: 3", "content-length:3", "Content-Length: 3, 3", "Content-Length: +3", "Content-Length : 3",
		"Content-Length:", "Content-Length: 0x3", "Transfer-Encoding: chunked", "Transfer-Encoding:chunked", "A: b", " folded", "\tContent-Length: 5", ":", "A", "", "\x00", "\r",
		"\n", "\r\n", "\r\n", "\r\n", "\r\n", "\r\n\r\n", "\n\n", "\r\n\n", "\n\r\n",
	}
	sure := 0
	rapid.Check(t, func(t *rapid.T) {
		var head strings.Builder
		head.WriteString("POST / HTTP/1.1\r\nHost: shop\r\n")
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
		if left := from.Buffered(); left != len("abcdefgh") || max(0, r.ContentLength) != length || len(r.TransferEncoding) > 0 {
			t.Fatalf("%q: a body of %d, to net/http of %d, %v, with %d left", text, length, r.ContentLength, r.TransferEncoding, left)
		}
	})
	if sure == 0 {
		t.Error("nothing was beyond doubt")
	}
}
