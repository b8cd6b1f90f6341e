package graph

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// subprotocol is the only one that is spoken.
const subprotocol = "graphql-transport-ws"

// How sockets are closed, as the subprotocol says.
const (
	closeGoingAway    = websocket.CloseGoingAway
	closeBadMessage   = 4400
	closeUnauthorized = 4401
	closeForbidden    = 4403
	closeBadProtocol  = 4406
	closeInitTimeout  = 4408
	closeDuplicate    = 4409
	closeInitTwice    = 4429
)

const (
	// initTimeout is how long a client may take to say connection_init.
	initTimeout = 5 * time.Second
	// pongTimeout is how long a client may be silent; it is pinged every keepAlive.
	pongTimeout = 3 * keepAlive
	// socketWriteTimeout is how long a client may take to receive a message.
	socketWriteTimeout = 10 * time.Second
)

// message is one of graphql-transport-ws.
type message struct {
	ID      string          `json:"id,omitempty"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

// socket is one WebSocket. Its reader owns it: it starts operations, waits for them, and closes the connection.
type socket struct {
	h      *Handler
	conn   *websocket.Conn
	header http.Header
	// initTimer closes the socket when nobody says connection_init.
	initTimer *time.Timer

	writing sync.Mutex

	mu     sync.Mutex
	id     identity
	acked  bool
	active map[string]*running
	closed bool

	operations sync.WaitGroup
}

// running is an operation under way.
type running struct{ cancel context.CancelFunc }

// serveSocket serves a WebSocket until it is closed.
func (h *Handler) serveSocket(w http.ResponseWriter, r *http.Request) {
	leave, ok := h.stream()
	if !ok {
		h.answerRefused(w, mediaJSON, problem(Unavailable, "this server is shutting down; connect again"))
		return
	}
	defer leave()
	id, denied := h.identify(r.Header)
	if err := h.limit(r.Context(), h.client(r.RemoteAddr, r.Header, id), 0, w.Header()); err != nil {
		h.answerRefused(w, mediaJSON, err)
		return
	}
	if denied != nil {
		w.Header().Set("WWW-Authenticate", `Bearer realm="millrace"`)
		h.answerMalformed(w, mediaJSON, &malformed{http.StatusUnauthorized, denied.Message})
		return
	}
	upgrader := websocket.Upgrader{
		HandshakeTimeout: initTimeout, Subprotocols: []string{subprotocol}, CheckOrigin: h.allowedOrigin,
		Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
			h.answerMalformed(w, mediaJSON, &malformed{status, reason.Error()})
		},
	}
	conn, err := upgrader.Upgrade(w, r, nil)
	if err != nil {
		return // answered by Error
	}
	s := &socket{h: h, conn: conn, header: r.Header, id: id, active: map[string]*running{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(r.Context()))
	var watching sync.WaitGroup
	watching.Go(func() { s.watch(ctx) })
	s.serve(ctx)
	cancel()
	s.operations.Wait()
	watching.Wait()
	_ = conn.Close()
}

// serve reads messages until the socket is closed by either side.
func (s *socket) serve(ctx context.Context) {
	if !slices.Contains(websocket.Subprotocols(&http.Request{Header: s.header}), subprotocol) {
		s.close(closeBadProtocol, "the subprotocol must be "+subprotocol)
		return
	}
	s.conn.SetReadLimit(s.h.options.Limits.BodyBytes)
	s.conn.SetPongHandler(func(string) error { return s.alive() })
	s.initTimer = time.AfterFunc(initTimeout, func() {
		if !s.ready() {
			s.close(closeInitTimeout, "connection_init did not come within "+initTimeout.String())
		}
	})
	defer s.initTimer.Stop()
	for {
		_ = s.alive() // the read says if the connection is gone
		kind, data, err := s.conn.ReadMessage()
		if err != nil {
			return
		}
		var m message
		if kind != websocket.TextMessage || json.Unmarshal(data, &m) != nil || m.Type == "" {
			s.close(closeBadMessage, "a message must be a JSON object with a type")
			return
		}
		if !s.handle(ctx, m) {
			return
		}
	}
}

// handle does what a message asks for, and reports whether the socket goes on.
func (s *socket) handle(ctx context.Context, m message) bool {
	switch m.Type {
	case "connection_init":
		return s.init(m.Payload)
	case "ping":
		s.send(message{Type: "pong", Payload: m.Payload})
	case "pong":
	case "subscribe":
		return s.subscribe(ctx, m)
	case "complete":
		s.stop(m.ID)
	default:
		s.close(closeBadMessage, "the type of a message is not one of "+subprotocol)
		return false
	}
	return true
}

// init says who is at the other end.
func (s *socket) init(payload json.RawMessage) bool {
	if s.ready() {
		s.close(closeInitTwice, "too many initialisation requests")
		return false
	}
	var in map[string]any
	if len(payload) > 0 && json.Unmarshal(payload, &in) != nil {
		s.close(closeBadMessage, "the payload of connection_init must be an object")
		return false
	}
	id := s.id
	for _, key := range []string{"authorization", "Authorization"} {
		value, given := in[key]
		if !given || value == nil {
			continue
		}
		text, _ := value.(string)
		id.credentials = true
		if err := s.h.authorise(&id, text); err != nil {
			s.close(closeForbidden, err.Message)
			return false
		}
	}
	s.mu.Lock()
	s.id, s.acked = id, true
	s.mu.Unlock()
	s.send(message{Type: "connection_ack"})
	return true
}

func (s *socket) ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acked
}

// watch pings, and closes the socket when the server drains.
func (s *socket) watch(ctx context.Context) {
	t := time.NewTicker(keepAlive)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.h.draining:
			s.close(closeGoingAway, "the server is shutting down; connect again")
			return
		case <-t.C:
			s.writing.Lock()
			_ = s.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(socketWriteTimeout))
			s.writing.Unlock()
		}
	}
}

// send writes a message. A client that does not take it loses the connection.
func (s *socket) send(m message) {
	s.writing.Lock()
	defer s.writing.Unlock()
	_ = s.conn.SetWriteDeadline(time.Now().Add(socketWriteTimeout))
	if err := s.conn.WriteJSON(m); err != nil && !errors.Is(err, websocket.ErrCloseSent) {
		_ = s.conn.Close() // ends the reader
	}
}

// close says why and hangs up. The first reason counts.
func (s *socket) close(code int, reason string) {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	for _, r := range s.active {
		r.cancel()
	}
	s.mu.Unlock()
	if !first {
		return
	}
	const most = 123 // what a control frame holds beside the code
	s.writing.Lock()
	_ = s.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, reason[:min(len(reason), most)]),
		time.Now().Add(socketWriteTimeout))
	s.writing.Unlock()
	// The other side answers, which ends the reader; one that does not is not waited for.
	_ = s.conn.SetReadDeadline(time.Now().Add(time.Second))
}

// alive gives the client time again, unless the socket is being closed.
func (s *socket) alive() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	return s.conn.SetReadDeadline(time.Now().Add(pongTimeout))
}
