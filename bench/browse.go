package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Targets of browse: the share of a plain handler's requests/s.
const (
	browseCachedTarget   = 0.60
	browseUncachedTarget = 0.10
)

const (
	browseCallers = 16
	browsePage    = 20
	browseQuery   = `{ products(first: 20) { nodes { id slug title status variants { sku title price { amount currency } } } pageInfo { endCursor } } }`
)

// browse lists 20 products over connections that are kept open, from the cache and without it, and has a plain handler write the
// same bytes, in a process of its own too.
func browse(ctx context.Context, l *lab) (figures []Figure, err error) {
	s, err := l.shopOf(ctx, sampleShop)
	if err != nil {
		return nil, err
	}
	address, err := url.Parse(s.graphql)
	if err != nil {
		return nil, fmt.Errorf("bench: the address of the shop's API: %w", err)
	}
	address.RawQuery = url.Values{"query": {browseQuery}}.Encode()
	want, err := browseList(ctx, address.String())
	if err != nil {
		return nil, err
	}
	plain, stopPlain, err := l.startPlain(ctx, want)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stopPlain()) }()
	for _, way := range []struct {
		name, header string
		target       float64
	}{
		{"browse-cached", "", browseCachedTarget},
		// What brings a position is read, even if it is one that the models have long passed.
		{"browse-uncached", "Millrace-Position: 1\r\n", browseUncachedTarget},
	} {
		shop, closeShop := asking(way.name, address.Host, address.RequestURI(), way.header, len(want))
		baseline, closePlain := asking("plain handler", plain, address.RequestURI(), "", len(want))
		of, than, err := alternate(ctx, l.Duration, shop, baseline, l.say)
		if err = errors.Join(err, closeShop(), closePlain()); err != nil {
			return figures, err
		}
		figures = append(figures,
			newFigure(way.name, of.rate(), "requests/s", Higher).against(than.rate()).aiming(way.target),
			newFigure(way.name+"-p50", of.p50(), "ms", Lower).against(than.p50()))
	}
	return figures, nil
}

// browseList returns the answer to the list once it comes from the cache.
func browseList(ctx context.Context, address string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
		if err != nil {
			return nil, fmt.Errorf("bench: asking for products: %w", err)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return nil, fmt.Errorf("bench: asking for products: %w", err)
		}
		body, err := io.ReadAll(response.Body)
		if err = errors.Join(err, response.Body.Close()); err != nil {
			return nil, fmt.Errorf("bench: reading products: %w", err)
		}
		if n := bytes.Count(body, []byte(`"slug"`)); response.StatusCode != http.StatusOK || n != browsePage {
			return nil, fmt.Errorf("bench: the list has %d products instead of %d (status %d)", n, browsePage, response.StatusCode)
		}
		if strings.Contains(response.Header.Get("Cache-Status"), "; hit") {
			return body, nil
		}
		if err := wait(ctx, 10*time.Millisecond); err != nil {
			return nil, fmt.Errorf("bench: the list is not kept: %w", err)
		}
	}
}

// asking returns callers who send one GET after the other, each over a connection of its own. They read no more of an answer than they
// need, so that the servers and not they are what is measured.
func asking(name, host, uri, header string, length int) (s side, stop func() error) {
	request := []byte("GET " + uri + " HTTP/1.1\r\nHost: " + host + "\r\nAccept: application/json\r\n" + header + "\r\n")
	connections := make([]*connection, browseCallers)
	s = side{name: name, callers: browseCallers, operate: func(ctx context.Context, caller int) error {
		if connections[caller] == nil {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", host)
			if err != nil {
				return err
			}
			connections[caller] = &connection{conn, bufio.NewReaderSize(conn, 32<<10)}
		}
		return connections[caller].exchange(request, length)
	}}
	return s, func() (err error) {
		for _, c := range connections {
			if c != nil {
				err = errors.Join(err, c.Close())
			}
		}
		return err
	}
}

// connection is one that is kept open.
type connection struct {
	net.Conn
	from *bufio.Reader
}

// exchange sends a request and reads its answer, which has to have a length.
func (c *connection) exchange(request []byte, length int) error {
	if err := c.SetDeadline(time.Now().Add(stopTimeout)); err != nil {
		return err
	}
	if _, err := c.Write(request); err != nil {
		return err
	}
	for first := true; ; first = false {
		line, err := c.from.ReadSlice('\n')
		if err != nil {
			return err
		}
		name, value, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte(": "))
		switch {
		case first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200 ")):
			return fmt.Errorf("the answer begins with %q", line)
		case len(name) == 0:
			_, err := c.from.Discard(length)
			return err
		case string(name) == "Content-Length" && string(value) != strconv.Itoa(length):
			return fmt.Errorf("the answer has %s bytes instead of %d", value, length)
		}
	}
}

// startPlain starts the plain handler in a process of its own and returns its address.
func (l *lab) startPlain(ctx context.Context, body []byte) (address string, stop func() error, err error) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	cmd := exec.CommandContext(running, l.Binary, "bench-plain") // this very program
	cmd.Stdin = bytes.NewReader(body)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTimeout
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return "", nil, fmt.Errorf("bench: starting the plain handler: %w", err)
	}
	stop = func() error {
		cancel()
		_ = cmd.Wait() // it was told to end
		return nil
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return "", nil, errors.Join(fmt.Errorf("bench: the plain handler does not say where it is: %w", err), stop())
	}
	return strings.TrimSpace(line), stop, nil
}

// ServePlain answers every request with what it reads from in, until ctx ends. It writes its address to out.
func ServePlain(ctx context.Context, in io.Reader, out io.Writer) error {
	body, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("bench: reading what to answer: %w", err)
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("bench: listening for the plain handler: %w", err)
	}
	server := &http.Server{ReadHeaderTimeout: stopTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // a client that has gone will say so itself
	})}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if _, err := fmt.Fprintln(out, listener.Addr()); err != nil {
		return errors.Join(fmt.Errorf("bench: saying where the plain handler is: %w", err), listener.Close())
	}
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("bench: the plain handler: %w", err)
	}
	return nil
}
