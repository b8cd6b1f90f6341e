package web

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// door answers requests on their connections, before the server hears of them, while there are too many: what net/http does for each request costs several
// times what it takes to say no. It looks only at requests that lie in one piece between two others, since nothing but the server can tell where the others
// end: a connection on which something else comes is left to the server for good.
type door struct {
	// glance answers what needs no more than a look, and writes nothing of any other request.
	glance http.Handler
	// crowded tells whether there are too many requests.
	crowded func() bool
}

// listen has the connections of a listener go through the door; their server has to call state.
func (d *door) listen(l net.Listener) net.Listener { return &doorListener{l, d} }

type doorListener struct {
	net.Listener
	door *door
}

// Accept returns the next connection.
func (l *doorListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &doorConn{Conn: c, door: l.door, between: true}, nil
}

// state is an [http.Server]'s ConnState.
func (d *door) state(c net.Conn, state http.ConnState) {
	if at, ok := c.(*doorConn); ok && state == http.StateIdle {
		at.between, at.settled = at.rest == 0, true
	}
}

// doorConn is a connection through the door. The server calls Read and state one after the other.
type doorConn struct {
	net.Conn
	door *door
	peer string

	// left says that the connection is left to the server for good.
	left bool
	// between says that what is read next begins a request, and settled that one has been answered before, so that the server waits for the next
	// without a deadline for its header.
	between, settled bool
	// rest is how much of a request is still to come.
	rest int64
}

// Read reads what the server has to hear.
func (c *doorConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if n == 0 || c.left {
			return n, err
		}
		answered, passing := c.pass(p[:n])
		if passing != nil {
			return 0, passing
		}
		if !answered {
			return n, err
		}
		if err != nil {
			return 0, err
		}
	}
}

// pass follows what has been read, and reports whether it was a request that has been answered.
func (c *doorConn) pass(read []byte) (answered bool, err error) {
	n := int64(len(read))
	if c.rest > 0 {
		c.left = n > c.rest
		c.rest -= n
		return false, nil
	}
	head, whole, ok := frame(read)
	if !c.between || !ok || n > whole {
		c.left = true
		return false, nil
	}
	if n == whole && c.settled && c.door.crowded() {
		if answered, err = c.answer(read, head); answered {
			return true, err
		}
	}
	c.between, c.rest = false, whole-n
	return false, nil
}

// frame returns how long the head of a request is and how long the whole of it. It is not ok where that is not beyond doubt.
func frame(read []byte) (head int, whole int64, ok bool) {
	head = bytes.Index(read, []byte("\r\n\r\n"))
	if head < 0 {
		return 0, 0, false
	}
	head += 4
	length, lengths := int64(0), 0
	for line := range bytes.SplitSeq(read[:head-2], []byte("\n")) {
		if len(line) == 0 {
			break // behind the last
		}
		if line[len(line)-1] != '\r' {
			return 0, 0, false
		}
		name, value, _ := bytes.Cut(line[:len(line)-1], []byte(":"))
		switch len(name) {
		case len("Content-Length"):
			if bytes.EqualFold(name, []byte("Content-Length")) {
				parsed, err := strconv.ParseUint(string(bytes.TrimSpace(value)), 10, 62)
				if err != nil {
					return 0, 0, false
				}
				length = int64(parsed)
				lengths++
			}
		case len("Transfer-Encoding"):
			if bytes.EqualFold(name, []byte("Transfer-Encoding")) {
				return 0, 0, false
			}
		case len("Upgrade"), len("Expect"):
			if bytes.EqualFold(name, []byte("Upgrade")) || bytes.EqualFold(name, []byte("Expect")) {
				return 0, 0, false
			}
		}
	}
	return head, int64(head) + length, lengths <= 1
}

var doorReaders = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 4<<10) }}

// answer answers a whole request, if a glance is enough for that.
func (c *doorConn) answer(read []byte, head int) (answered bool, err error) {
	if !bytes.HasPrefix(read, []byte("POST ")) {
		return false, nil
	}
	reader := doorReaders.Get().(*bufio.Reader)
	defer doorReaders.Put(reader)
	reader.Reset(bytes.NewReader(read[:head]))
	r, err := http.ReadRequest(reader)
	if err != nil || !r.ProtoAtLeast(1, 1) || r.Close {
		return false, nil // the server says what is wrong with it
	}
	if c.peer == "" {
		c.peer = c.RemoteAddr().String()
	}
	r.RemoteAddr, r.Body = c.peer, io.NopCloser(bytes.NewReader(read[head:]))
	w := doorAnswer{header: make(http.Header, 8)}
	c.door.glance.ServeHTTP(&w, r)
	if w.status == 0 {
		return false, nil
	}
	now := time.Now()
	// The server's own deadline for the next request would else end a connection that has never been idle.
	_ = c.SetReadDeadline(now.Add(idleTimeout))
	_ = c.SetWriteDeadline(now.Add(writeTimeout))
	_, err = c.Write(w.text(now))
	return true, err
}

// doorAnswer is an [http.ResponseWriter] for a short answer.
type doorAnswer struct {
	header http.Header
	status int
	body   []byte
}

func (w *doorAnswer) Header() http.Header { return w.header }

// SetWriteDeadline is for [http.ResponseController]; the door sets its own.
func (w *doorAnswer) SetWriteDeadline(time.Time) error { return nil }

func (w *doorAnswer) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *doorAnswer) Write(text []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	w.body = append(w.body, text...)
	return len(text), nil
}

// text returns the answer as it is sent.
func (w *doorAnswer) text(now time.Time) []byte {
	w.header.Set("Date", now.UTC().Format(http.TimeFormat))
	w.header.Set("Content-Length", strconv.Itoa(len(w.body)))
	var b bytes.Buffer
	b.Grow(512 + len(w.body))
	b.WriteString("HTTP/1.1 " + strconv.Itoa(w.status) + " " + http.StatusText(w.status) + "\r\n")
	_ = w.header.Write(&b) // into memory
	b.WriteString("\r\n")
	b.Write(w.body)
	return b.Bytes()
}
