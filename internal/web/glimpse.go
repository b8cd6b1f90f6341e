package web

import (
	"bytes"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// glimpse is a request as far as it can be understood at the door, and the answer to it: an [http.ResponseWriter]. What it is made of is used again,
// since in a crowd there are thousands in a second, and the garbage of those who are refused makes those late who are not.
type glimpse struct {
	request http.Request
	url     url.URL
	values  [mostFields]string
	body    bytes.Reader

	header http.Header
	status int
	says   []byte // the answer's body
	sent   []byte // the whole answer
}

const (
	// mostFields is how many header fields a request may have that is understood at the door.
	mostFields = 32
	// mostKept is how many bytes of answers' memory is used again.
	mostKept = 64 << 10
)

var glimpses = sync.Pool{New: func() any {
	return &glimpse{request: http.Request{Header: make(http.Header, 16)}, header: make(http.Header, 16)}
}}

// read understands a request whose length is beyond doubt. It does not where the request is not as plain as those of nearly all clients, or wrong.
func (g *glimpse) read(head, body []byte, peer string) bool {
	line, rest, _ := strings.Cut(strings.TrimSuffix(string(head), headEnd), "\r\n")
	target, ok := strings.CutSuffix(strings.TrimPrefix(line, "POST "), " HTTP/1.1")
	if !ok || !isPlain(target) {
		return false
	}
	header := g.request.Header
	for n := 0; rest != ""; n++ {
		line, rest, _ = strings.Cut(rest, "\r\n")
		name, value, ok := strings.Cut(line, ":")
		if !ok || n == len(g.values) {
			return false
		}
		name, value = textproto.CanonicalMIMEHeaderKey(name), strings.Trim(value, " ") // there are no tabs
		if before := header[name]; before != nil {
			header[name] = append(before, value)
			continue
		}
		g.values[n] = value
		header[name] = g.values[n : n+1 : n+1]
	}
	host := header["Host"]
	if len(host) != 1 || host[0] == "" || !httpguts.ValidHostHeader(host[0]) {
		return false
	}
	if httpguts.HeaderValuesContainsToken(header["Connection"], "close") || header["Pragma"] != nil { // of which net/http makes more than a field
		return false
	}
	delete(header, "Host")
	g.url = url.URL{Path: target}
	g.body.Reset(body)
	g.request = http.Request{
		Method: http.MethodPost, URL: &g.url, RequestURI: target, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: header, Host: host[0],
		Body: io.NopCloser(&g.body), ContentLength: int64(len(body)), RemoteAddr: peer,
	}
	return true
}

// forget makes the glimpse ready for another request, unless it has become large.
func (g *glimpse) forget() {
	if cap(g.says)+cap(g.sent) > mostKept {
		return
	}
	clear(g.request.Header)
	clear(g.header)
	clear(g.values[:])
	g.body.Reset(nil)
	g.request, g.url = http.Request{Header: g.request.Header}, url.URL{}
	g.status, g.says, g.sent = 0, g.says[:0], g.sent[:0]
	glimpses.Put(g)
}

// isPlain reports whether a request's target is a path that is spelled as it is meant.
func isPlain(target string) bool {
	if !strings.HasPrefix(target, "/") {
		return false
	}
	for i := range len(target) {
		b := target[i]
		if (b|0x20 < 'a' || b|0x20 > 'z') && (b < '0' || b > '9') && !strings.ContainsRune("/-_.", rune(b)) {
			return false
		}
	}
	return true
}

func (g *glimpse) Header() http.Header { return g.header }

// SetWriteDeadline is for [http.ResponseController]; the door sets its own.
func (g *glimpse) SetWriteDeadline(time.Time) error { return nil }

func (g *glimpse) WriteHeader(status int) {
	if g.status == 0 {
		g.status = status
	}
}

func (g *glimpse) Write(text []byte) (int, error) {
	g.WriteHeader(http.StatusOK)
	g.says = append(g.says, text...)
	return len(text), nil
}

// text returns the answer as it is sent. It is good until the next request.
func (g *glimpse) text(now time.Time) []byte {
	delete(g.header, "Date")
	delete(g.header, "Content-Length")
	t := append(g.sent[:0], "HTTP/1.1 "...)
	t = append(append(strconv.AppendInt(t, int64(g.status), 10), ' '), http.StatusText(g.status)...)
	t = now.UTC().AppendFormat(append(t, "\r\nDate: "...), http.TimeFormat)
	t = strconv.AppendInt(append(t, "\r\nContent-Length: "...), int64(len(g.says)), 10)
	t = append(t, "\r\n"...)
	sent := bytes.NewBuffer(t)
	_ = g.header.Write(sent) // into memory
	sent.WriteString("\r\n")
	sent.Write(g.says)
	g.sent = sent.Bytes()
	return g.sent
}
