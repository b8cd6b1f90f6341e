package web

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"
)

// door answers requests on their connections, before the server hears of them, while there are too many: what net/http does for each request costs several
// times what it takes to say no. It answers only what lies in one piece between two other requests. Nothing but the server can tell for certain where a
// request ends: a connection on which that is not beyond doubt is left to the server for good.
type door struct {
	// glance answers what needs no more than a look, and writes nothing of any other request.
	glance http.Handler
	// crowded tells whether there are too many requests.
	crowded func() bool

	mu        sync.Mutex
	answering int           // requests that are being answered
	closed    chan struct{} // nil until close; closed when nothing is being answered any more
}

// listen has the connections of a listener go through the door; their server has to call state.
func (d *door) listen(l net.Listener) net.Listener { return &doorListener{l, d} }

// close leaves everything to the server, and waits until what has been begun has been answered, or ctx ends.
func (d *door) close(ctx context.Context) {
	d.mu.Lock()
	d.closed = make(chan struct{})
	if d.answering == 0 {
		close(d.closed)
	}
	d.mu.Unlock()
	select {
	case <-d.closed:
	case <-ctx.Done():
	}
}

// enter reports whether a request may be answered; if so, leave has to be called.
func (d *door) enter() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed != nil {
		return false
	}
	d.answering++
	return true
}

func (d *door) leave() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.answering--; d.answering == 0 && d.closed != nil {
		close(d.closed)
	}
}

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
	return &doorConn{Conn: c, door: l.door}, nil
}

// state is an [http.Server]'s ConnState.
func (d *door) state(c net.Conn, state http.ConnState) {
	if at, ok := c.(*doorConn); ok && state == http.StateIdle {
		at.idle()
	}
}

// phase is what the server is doing with a connection.
type phase int

const (
	betweenRequests phase = iota // it waits for the next one
	inHead                       // it has a part of a head
	inBody                       // it has a head, and not all of the body
	answering                    // it has a whole request
	leftAlone                    // nobody but the server knows
)

// mostHead is how long a head may be that is followed.
const mostHead = 8 << 10

// doorConn is a connection through the door. The server calls Read and state one after the other.
type doorConn struct {
	net.Conn
	door *door
	peer string

	phase phase
	// begun is what the server has of a head.
	begun []byte
	// rest is how much of a body is still to come.
	rest int64
	// settled says that a request has been answered before, so that the server waits for the next one without a deadline for its head.
	settled bool
	// extended is when the door has last set deadlines, zero if the server has since.
	extended time.Time
}

// deadlineStep is how much earlier than it should a connection's time may be over.
const deadlineStep = time.Second

// Read reads what the server has to hear.
func (c *doorConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if n == 0 {
			return n, err
		}
		answered, failed := c.pass(p[:n])
		if failed != nil {
			return 0, failed
		}
		if !answered {
			return n, err
		}
		if err != nil {
			return 0, err
		}
	}
}

// idle follows the server to the end of an answer.
func (c *doorConn) idle() {
	if c.phase == answering {
		c.phase, c.settled, c.extended = betweenRequests, true, time.Time{}
	} else {
		c.phase = leftAlone
	}
}

// pass follows what has been read, and reports whether it was a request that has been answered.
func (c *doorConn) pass(read []byte) (answered bool, err error) {
	switch c.phase {
	case betweenRequests, inHead:
		return c.begin(read)
	case inBody:
		if c.rest -= int64(len(read)); c.rest == 0 {
			c.phase = answering
		} else if c.rest < 0 {
			c.phase = leftAlone
		}
	case answering:
		// While it answers, net/http looks whether the client has hung up, by reading one byte.
		if len(read) > 1 || len(c.begun) > 0 {
			c.phase = leftAlone
			break
		}
		c.begun = append(c.begun, read...)
	case leftAlone:
	}
	return false, nil
}

// begin follows the beginning of a request.
func (c *doorConn) begin(read []byte) (answered bool, err error) {
	all := read
	if len(c.begun) > 0 {
		all = append(c.begun, read...)
	}
	head := bytes.Index(all, []byte(headEnd)) + len(headEnd)
	if head < len(headEnd) { // it goes on
		c.phase, c.begun = inHead, bytes.Clone(all)
		if len(all) > mostHead {
			c.phase, c.begun = leftAlone, nil
		}
		return false, nil
	}
	length, ok := bodyLength(all[:head])
	rest := int64(head) + length - int64(len(all))
	if !ok || rest < 0 {
		c.phase, c.begun = leftAlone, nil
		return false, nil
	}
	if c.phase == betweenRequests && len(c.begun) == 0 && rest == 0 && c.settled && c.door.crowded() {
		if answered, err = c.answer(read, head); answered {
			return true, err
		}
	}
	c.begun, c.rest, c.phase = nil, rest, answering
	if rest > 0 {
		c.phase = inBody
	}
	return false, nil
}

const headEnd = "\r\n\r\n"

// bodyLength returns how long the body behind a head is. It is not ok where others may take that to be something else.
func bodyLength(head []byte) (length int64, ok bool) {
	first, lengths := true, 0
	for line := range bytes.SplitSeq(head[:len(head)-len(headEnd)], []byte("\r\n")) {
		if len(line) == 0 || !isText(line) {
			return 0, false
		}
		if first {
			first = false
			continue
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if !httpguts.ValidHeaderFieldName(string(name)) {
			return 0, false
		}
		switch {
		case bytes.EqualFold(name, []byte("Content-Length")):
			parsed, err := strconv.ParseUint(string(bytes.Trim(value, " ")), 10, 62)
			if err != nil {
				return 0, false
			}
			length = int64(parsed)
			lengths++
		case bytes.EqualFold(name, []byte("Transfer-Encoding")), bytes.EqualFold(name, []byte("Upgrade")),
			bytes.EqualFold(name, []byte("Expect")), bytes.EqualFold(name, []byte("Trailer")):
			return 0, false
		}
	}
	return length, lengths <= 1
}

// isText reports whether a line is without control characters.
func isText(line []byte) bool {
	for _, b := range line {
		if b < ' ' || b == 0x7f {
			return false
		}
	}
	return true
}

// answer answers a whole request, if a glance is enough for that.
func (c *doorConn) answer(read []byte, head int) (answered bool, err error) {
	if !bytes.HasPrefix(read, []byte("POST ")) {
		return false, nil
	}
	if !c.door.enter() {
		return false, nil
	}
	defer c.door.leave()
	if c.peer == "" {
		c.peer = c.RemoteAddr().String()
	}
	g := glimpses.Get().(*glimpse)
	defer g.forget()
	if !g.read(read[:head], read[head:], c.peer) {
		return false, nil // the server says what it is
	}
	c.door.glance.ServeHTTP(g, &g.request)
	if g.status == 0 {
		return false, nil
	}
	now := time.Now()
	c.extend(now)
	_, err = c.Write(g.text(now))
	return true, err
}

// extend gives the connection time for an answer and for the next request. The server's own deadlines would else end one that has never been idle.
func (c *doorConn) extend(now time.Time) {
	if now.Sub(c.extended) < deadlineStep {
		return
	}
	_ = c.SetReadDeadline(now.Add(idleTimeout))
	_ = c.SetWriteDeadline(now.Add(writeTimeout))
	c.extended = now
}
