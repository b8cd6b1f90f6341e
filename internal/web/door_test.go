package web_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/millrace/millrace/internal/web"
)

// crowdedServer answers requests whose body has a "!" at a glance, and echoes the bodies of all others.
type crowdedServer struct {
	net.Listener
	read     atomic.Int64  // bytes, over all connections
	waiting  atomic.Bool   // for more than a byte
	reads    chan struct{} // has an element when either has changed
	release  chan struct{} // lets a body of "slow" be answered
	held     chan struct{} // is closed when a body of "hold!" has come, which is answered when the server drains
	drain    func()
	health   web.Health
	address  string
	crowded  atomic.Bool
	glanced  atomic.Int64
	answered atomic.Int64
}

func startCrowded(t *testing.T) *crowdedServer {
	t.Helper()
	s := &crowdedServer{reads: make(chan struct{}, 1), release: make(chan struct{}), held: make(chan struct{})}
	s.crowded.Store(true)
	var err error
	if s.Listener, err = web.Listen(t.Context(), "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	s.address = s.Addr().String()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	s.drain = cancel
	served := make(chan error, 1)
	go func() {
		served <- web.Serve(ctx, s, web.Options{
			Health: &s.health,
			Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s.answered.Add(1)
				body, _ := io.ReadAll(r.Body)
				if string(body) == "slow" {
					<-s.release
				}
				_, _ = w.Write(body)
			}),
			Glance: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if !bytes.Contains(body, []byte("!")) {
					return
				}
				s.glanced.Add(1)
				if string(body) == "hold!" {
					close(s.held)
					s.awaitDrain(r.Context())
				}
				w.Header().Set("Retry-After", "1")
				w.WriteHeader(http.StatusServiceUnavailable)
				_, _ = w.Write(append([]byte("refused "), body...))
			}),
			Crowded: s.crowded.Load,
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return s
}

// Accept returns a connection whose reads are counted.
func (s *crowdedServer) Accept() (net.Conn, error) {
	c, err := s.Listener.Accept()
	return &countedConn{c, s}, err
}

type countedConn struct {
	net.Conn
	server *crowdedServer
}

func (c *countedConn) Read(p []byte) (int, error) {
	if len(p) > 1 {
		c.server.waiting.Store(true)
		c.server.changed()
	}
	n, err := c.Conn.Read(p)
	c.server.read.Add(int64(n))
	c.server.waiting.Store(false)
	c.server.changed()
	return n, err
}

func (s *crowdedServer) changed() {
	select {
	case s.reads <- struct{}{}:
	default:
	}
}

// awaitWaiting returns once the server waits for a request. Until then it may look ahead at the next one.
func (s *crowdedServer) awaitWaiting() {
	for !s.waiting.Load() {
		<-s.reads
	}
}

// awaitRead returns once the server has read so many bytes.
func (s *crowdedServer) awaitRead(bytes int64) {
	for s.read.Load() < bytes {
		<-s.reads
	}
}

// awaitDrain returns once the server drains.
func (s *crowdedServer) awaitDrain(ctx context.Context) {
	for ready := true; ready; {
		w := httptest.NewRecorder()
		s.health.Handler(nil).ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/readyz", nil))
		ready = w.Code == http.StatusOK
	}
}

func (s *crowdedServer) dial(t testing.TB) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := net.Dial("tcp", s.address)
	if err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

func post(body string, headers ...string) string {
	head := "POST / HTTP/1.1\r\nHost: shop\r\n"
	for _, h := range headers {
		head += h + "\r\n"
	}
	return head + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
}

// heard reads an answer.
func heard(from *bufio.Reader) (status int, body string, err error) {
	r, err := http.ReadResponse(from, nil)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = r.Body.Close() }()
	text, err := io.ReadAll(r.Body)
	return r.StatusCode, string(text), err
}

// TestDoor sends requests over one connection, one after the other's answer, and checks who answers them.
func TestDoor(t *testing.T) {
	for name, c := range map[string]struct {
		requests []string // each in pieces that are sent apart, with | between them
		want     []string // the answers; those of the door begin with "refused"
	}{
		"the first request is the server's":        {[]string{post("a!")}, []string{"a!"}},
		"those after it are refused at a glance":   {[]string{post("a"), post("b!"), post("c!")}, []string{"a", "refused b!", "refused c!"}},
		"and others not":                           {[]string{post("a"), post("b!"), post("c"), post("d!")}, []string{"a", "refused b!", "c", "refused d!"}},
		"what comes in two pieces is the server's": {[]string{post("a"), strings.Replace(post("b!"), "b!", "|b!", 1), post("c!")}, []string{"a", "b!", "refused c!"}},
		"a long body too":                          {[]string{post("a"), post(strings.Repeat("b!", 9_000)), post("c!")}, []string{"a", strings.Repeat("b!", 9_000), "refused c!"}},
		"and a head in two pieces":                 {[]string{post("a"), strings.Replace(post("b!"), "Host", "|Host", 1), post("c!")}, []string{"a", "b!", "refused c!"}},
		"an empty line that is none to all": {
			[]string{post("a"), "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\nb!", post("c!")}, []string{"a", "b!", "c!"},
		},
		"and two at once, and all behind them": {[]string{post("a"), post("b!") + post("c!"), post("d!")}, []string{"a", "b!", "c!", "d!"}},
		"a chunked body": {
			[]string{post("a"), "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nb!\r\n0\r\n\r\n", post("c!")},
			[]string{"a", "b!", "c!"},
		},
		"lines without a carriage return": {[]string{post("a"), strings.Replace(post("b!"), "shop\r\n", "shop\n", 1), post("c!")}, []string{"a", "b!", "c!"}},
		"who asks whether to go on":       {[]string{post("a"), post("b!", "Expect: whatever")}, []string{"a", ""}},
		"who hangs up":                    {[]string{post("a"), post("b!", "Connection: close")}, []string{"a", "b!"}},
		"a GET":                           {[]string{post("a"), "GET / HTTP/1.1\r\nHost: shop\r\n\r\n", post("b!")}, []string{"a", "", "refused b!"}},
		"two lengths":                     {[]string{post("a"), post("b!", "Content-Length: 2")}, []string{"a", "b!"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startCrowded(t)
			conn, from := s.dial(t)
			defer func() { _ = conn.Close() }()
			want, sent := c.want, int64(0)
			for _, request := range c.requests {
				s.awaitWaiting()
				pieces := strings.Split(request, "|")
				for i, piece := range pieces {
					if _, err := io.WriteString(conn, piece); err != nil {
						t.Fatal(err)
					}
					sent += int64(len(piece))
					if i < len(pieces)-1 {
						s.awaitRead(sent)
					}
				}
				for range strings.Count(request, " HTTP/1.1\r\n") {
					_, body, err := heard(from)
					if err != nil {
						t.Fatal(err)
					}
					if body != want[0] {
						t.Errorf("%.80q was answered with %.80q instead of %.80q", request, body, want[0])
					}
					want = want[1:]
				}
			}
		})
	}
}

// TestDoorLooksAhead sends the first byte of a request while the one before it is being answered, when net/http reads it to see whether the client is there
// still: that request is the server's, and those behind it are refused at a glance again.
func TestDoorLooksAhead(t *testing.T) {
	s := startCrowded(t)
	conn, from := s.dial(t)
	defer func() { _ = conn.Close() }()
	say := func(text string) {
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
	}
	hear := func(want string) {
		if _, body, err := heard(from); err != nil || body != want {
			t.Errorf("%q, %v instead of %q", body, err, want)
		}
	}
	slow, next := post("slow"), post("b!")
	say(slow)
	s.awaitRead(int64(len(slow)))
	say(next[:1])
	s.awaitRead(int64(len(slow) + 1))
	close(s.release)
	hear("slow")
	say(next[1:])
	hear("b!")
	s.awaitWaiting()
	say(post("c!"))
	hear("refused c!")
}

// TestDoorDrains ends the server while a request is being answered at a glance: it is answered to its end.
func TestDoorDrains(t *testing.T) {
	s := startCrowded(t)
	conn, from := s.dial(t)
	defer func() { _ = conn.Close() }()
	for _, body := range []string{"a", "hold!"} {
		s.awaitWaiting()
		if _, err := io.WriteString(conn, post(body)); err != nil {
			t.Fatal(err)
		}
		if body == "hold!" {
			<-s.held
			s.drain()
		}
		if _, got, err := heard(from); err != nil || !strings.HasSuffix(got, body) {
			t.Errorf("%q, %v", got, err)
		}
	}
}

// TestDoorIsOpen checks that nothing is answered at a glance while there is no crowd.
func TestDoorIsOpen(t *testing.T) {
	s := startCrowded(t)
	s.crowded.Store(false)
	conn, from := s.dial(t)
	defer func() { _ = conn.Close() }()
	for range 3 {
		_, _ = io.WriteString(conn, post("a!"))
		if _, body, err := heard(from); err != nil || body != "a!" {
			t.Errorf("%q, %v", body, err)
		}
	}
	if s.glanced.Load() != 0 || s.answered.Load() != 3 {
		t.Errorf("%d were answered at a glance, %d by the server", s.glanced.Load(), s.answered.Load())
	}
}

// TestDoorKeepsOrder sends any requests, in any pieces, also several before the first answer: each is answered once, in order, and with its own answer,
// whoever gives it.
func TestDoorKeepsOrder(t *testing.T) {
	s := startCrowded(t)
	rapid.Check(t, func(t *rapid.T) {
		conn, err := net.Dial("tcp", s.address)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		from := bufio.NewReader(conn)
		asked := 0
		for range rapid.IntRange(1, 12).Draw(t, "turns") {
			var bodies []string
			var text string
			for range rapid.IntRange(1, 3).Draw(t, "at once") {
				asked++
				body := fmt.Sprintf("%d%s%s", asked, rapid.SampledFrom([]string{"", "!"}).Draw(t, "mark"),
					strings.Repeat(post("x!"), rapid.SampledFrom([]int{0, 0, 0, 1, 100}).Draw(t, "length")))
				bodies = append(bodies, body)
				text += post(body)
			}
			for len(text) > 0 {
				n := rapid.IntRange(1, len(text)).Draw(t, "piece")
				if _, err := io.WriteString(conn, text[:n]); err != nil {
					t.Fatal(err)
				}
				text = text[n:]
			}
			for _, body := range bodies {
				status, got, err := heard(from)
				if err != nil {
					t.Fatal(err)
				}
				if status == http.StatusServiceUnavailable {
					body = "refused " + body
				}
				if got != body {
					t.Fatalf("%.60q was answered instead of %.60q", got, body)
				}
			}
		}
	})
	if s.glanced.Load() == 0 || s.answered.Load() == 0 {
		t.Errorf("%d were answered at a glance, %d by the server", s.glanced.Load(), s.answered.Load())
	}
}
