package bench

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strconv"
	"time"
)

// connection is one that is kept open. It speaks no more HTTP/1.1 than it needs, so that servers and not it are what is measured.
type connection struct {
	net.Conn
	from *bufio.Reader
	body []byte
}

// reply is an answer, of which the body is good until the next one.
type reply struct {
	status int
	// retryAfter says that the answer tells when to ask again.
	retryAfter bool
	body       []byte
}

func newConnection(c net.Conn) *connection {
	return &connection{Conn: c, from: bufio.NewReaderSize(c, 4<<10)}
}

// mostReply bounds what is read of an answer.
const mostReply = 16 << 20

// exchange sends a request and reads its answer, which has to have a length.
func (c *connection) exchange(request []byte) (r reply, err error) {
	if err := c.SetDeadline(time.Now().Add(stopTimeout)); err != nil {
		return r, err
	}
	if _, err := c.Write(request); err != nil {
		return r, err
	}
	length := -1
	for first := true; ; first = false {
		line, err := c.from.ReadSlice('\n')
		if err != nil {
			return r, err
		}
		line = bytes.TrimRight(line, "\r\n")
		if first {
			if r.status, err = statusOfLine(line); err != nil {
				return r, err
			}
			continue
		}
		if len(line) == 0 {
			break
		}
		switch name, value, _ := bytes.Cut(line, []byte(": ")); string(name) {
		case "Content-Length":
			if length, err = strconv.Atoi(string(value)); err != nil {
				return r, fmt.Errorf("the answer has a length of %q", value)
			}
		case "Retry-After":
			r.retryAfter = true
		}
	}
	if length < 0 || length > mostReply {
		return r, fmt.Errorf("the answer has a length of %d", length)
	}
	if cap(c.body) < length {
		c.body = make([]byte, length)
	}
	r.body = c.body[:length]
	_, err = io.ReadFull(c.from, r.body)
	return r, err
}

func statusOfLine(line []byte) (int, error) {
	rest, ok := bytes.CutPrefix(line, []byte("HTTP/1.1 "))
	if ok && len(rest) >= 3 {
		if status, err := strconv.Atoi(string(rest[:3])); err == nil {
			return status, nil
		}
	}
	return 0, fmt.Errorf("the answer begins with %q", line)
}

// expect sends a request whose answer is known to be good and to have so many bytes.
func (c *connection) expect(request []byte, length int) error {
	r, err := c.exchange(request)
	if err == nil && (r.status != 200 || len(r.body) != length) {
		err = fmt.Errorf("the answer has the status %d and %d bytes, not %d", r.status, len(r.body), length)
	}
	return err
}
