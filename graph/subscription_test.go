package graph_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/graph"
)

// patience is how long a test waits for what must come.
const patience = 10 * time.Second

// socket is the client's end of a WebSocket.
type socket struct {
	t    *testing.T
	conn *websocket.Conn
}

type message struct {
	ID      string          `json:"id,omitempty"`
	Type    string          `json:"type"`
	Payload json.RawMessage `json:"payload,omitempty"`
}

func dial(t *testing.T, base string) *socket {
	t.Helper()
	d := websocket.Dialer{Subprotocols: []string{"graphql-transport-ws"}}
	conn, res, err := d.Dial("ws"+strings.TrimPrefix(base, "http")+"/graphql", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	t.Cleanup(func() { _ = conn.Close() })
	return &socket{t, conn}
}

// open dials and says who is there.
func open(t *testing.T, base, payload string) *socket {
	t.Helper()
	s := dial(t, base)
	s.send(`{"type": "connection_init", "payload": ` + payload + `}`)
	if m := s.next(); m.Type != "connection_ack" {
		t.Fatalf("the answer to connection_init is %+v", m)
	}
	return s
}

func (s *socket) send(text string) {
	s.t.Helper()
	if err := s.conn.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		s.t.Fatal(err)
	}
}

func (s *socket) subscribe(id, query string, variables map[string]any) {
	s.t.Helper()
	s.send(`{"type": "subscribe", "id": "` + id + `", "payload": ` + document(s.t, query, variables) + `}`)
}

func (s *socket) next() message {
	s.t.Helper()
	_ = s.conn.SetReadDeadline(time.Now().Add(patience))
	var m message
	if err := s.conn.ReadJSON(&m); err != nil {
		s.t.Fatal(err)
	}
	return m
}

// data returns what the next message gives.
func (s *socket) data() string {
	s.t.Helper()
	m := s.next()
	if m.Type != "next" {
		s.t.Fatalf("not next but %s: %s", m.Type, m.Payload)
	}
	return string(m.Payload)
}

// closed returns the code and reason that the server closes with.
func (s *socket) closed() string {
	s.t.Helper()
	_ = s.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		_, _, err := s.conn.ReadMessage()
		var closed *websocket.CloseError
		switch {
		case errors.As(err, &closed):
			return fmt.Sprint(closed.Code, " ", closed.Text)
		case err != nil:
			s.t.Fatal(err)
		}
	}
}

// confirm does what happens when an order's payment is certain.
func (s *shop) confirm(number string) error {
	_, err := s.app.AuthorisePayment(context.Background(), commands.AuthorisePayment{OrderID: number, Reference: "r"})
	return err
}

const orderUpdated = `subscription($id: ID!, $token: String) { orderUpdated(id: $id, accessToken: $token) { status lines { fulfilled variant { available } } } }`

// TestOrderUpdated follows an order: the present state first, then each further one once and in order.
func TestOrderUpdated(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	s.stocked(t, "A", "Anvil", "10.00", 5)
	o := s.bought(t, "ann@example.org", commands.LineInput{SKU: "A", Quantity: 2})
	variables := map[string]any{"id": idOf("Order", o.State.Number), "token": o.AccessToken}

	c := open(t, base, `{}`)
	c.subscribe("1", orderUpdated, variables)
	if got := c.data(); got != `{"data":{"orderUpdated":{"status":"PENDING","lines":[{"fulfilled":0,"variant":{"available":3}}]}}}` {
		t.Fatal(got)
	}
	ctx := context.Background()
	if err := s.confirm(o.State.Number); err != nil {
		t.Fatal(err)
	}
	if _, err := s.app.OrderFulfill(ctx, commands.OrderFulfill{OrderID: o.State.Number}); err != nil {
		t.Fatal(err)
	}
	if got := c.data(); got != `{"data":{"orderUpdated":{"status":"CONFIRMED","lines":[{"fulfilled":0,"variant":{"available":3}}]}}}` {
		t.Fatal(got)
	}
	if got := c.data(); got != `{"data":{"orderUpdated":{"status":"FULFILLED","lines":[{"fulfilled":2,"variant":{"available":3}}]}}}` {
		t.Fatal(got)
	}
	c.send(`{"type": "complete", "id": "1"}`)

	c.subscribe("2", orderUpdated, map[string]any{"id": idOf("Order", o.State.Number), "token": "wrong"})
	if m := c.next(); m.Type != "error" || m.ID != "2" || !strings.Contains(string(m.Payload), `"code":"NOT_FOUND"`) {
		t.Errorf("with a wrong token: %s %s", m.Type, m.Payload)
	}
	c.subscribe("3", `{ products { totalCount } }`, nil)
	if got := c.data(); got != `{"data":{"products":{"totalCount":1}}}` {
		t.Error(got)
	}
	if m := c.next(); m.Type != "complete" || m.ID != "3" {
		t.Errorf("after a query comes %+v", m)
	}
	staff := open(t, base, `{"authorization": "Bearer `+staffToken+`"}`)
	staff.subscribe("1", orderUpdated, map[string]any{"id": idOf("Order", o.State.Number)})
	if got := staff.data(); !strings.Contains(got, "FULFILLED") {
		t.Error(got)
	}
}

// TestOrderUpdatedUnderWay subscribes many times while an order moves: every subscription sees an unbroken rest of its states.
func TestOrderUpdatedUnderWay(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	s.stocked(t, "A", "Anvil", "10.00", 1000)
	query := `subscription($id: ID!) { orderUpdated(id: $id) { status } }`
	want := []string{"PENDING", "CONFIRMED", "FULFILLED"}
	for range 20 {
		o := s.bought(t, "ann@example.org", commands.LineInput{SKU: "A", Quantity: 2})
		var moving sync.WaitGroup
		moving.Go(func() {
			err := s.confirm(o.State.Number)
			if err == nil {
				_, err = s.app.OrderFulfill(context.Background(), commands.OrderFulfill{OrderID: o.State.Number})
			}
			if err != nil {
				t.Error(err)
			}
		})
		c := open(t, base, `{"authorization": "Bearer `+staffToken+`"}`)
		c.subscribe("1", query, map[string]any{"id": idOf("Order", o.State.Number)})
		at := -1
		for at < len(want)-1 {
			got := c.data()
			found := -1
			for i, status := range want {
				if strings.Contains(got, `"`+status+`"`) {
					found = i
				}
			}
			if at >= 0 && found != at+1 {
				t.Fatalf("after %s comes %s", want[at], got)
			}
			at = found
		}
		moving.Wait()
	}
}

// TestStockChanged follows a stock that moves fast: few values, never the same twice, and the last is the truth.
func TestStockChanged(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	s.stocked(t, "A", "Anvil", "10.00", 5)
	s.stocked(t, "B", "Bell", "1.00", 7)
	c := open(t, base, `{}`)
	query := `subscription($skus: [String!]!) { stockChanged(skus: $skus) { sku available product { title } } }`
	c.subscribe("1", query, map[string]any{"skus": []string{"a", "B", "A"}})
	for _, want := range []string{`{"sku":"A","available":5,"product":{"title":"Anvil"}}`, `{"sku":"B","available":7,"product":{"title":"Bell"}}`} {
		if got := c.data(); got != `{"data":{"stockChanged":`+want+`}}` {
			t.Fatal(got)
		}
	}
	const changes = 200
	began := time.Now()
	for range changes {
		if _, err := s.app.StockReceive(context.Background(), commands.StockReceive{SKU: "A", Quantity: 1}); err != nil {
			t.Fatal(err)
		}
	}
	last, values := "", 0
	for !strings.Contains(last, fmt.Sprintf(`"available":%d,`, 5+changes)) {
		got := c.data()
		if got == last {
			t.Errorf("twice the same: %s", got)
		}
		last = got
		values++
	}
	if most := int(time.Since(began)/(100*time.Millisecond)) + 1; values > most {
		t.Errorf("%d values in %s", values, time.Since(began))
	}
	c.subscribe("2", query, map[string]any{"skus": []string{"nothing"}})
	if m := c.next(); m.Type != "error" || !strings.Contains(string(m.Payload), "NOT_FOUND") {
		t.Errorf("an unknown SKU: %s %s", m.Type, m.Payload)
	}
}

// TestSocketProtocol checks how sockets are closed.
func TestSocketProtocol(t *testing.T) {
	_, base := face(t, newShop(t), graph.Options{})
	for name, c := range map[string]struct {
		say  []string
		want string
	}{
		"no init":        {[]string{`{"type": "subscribe", "id": "1", "payload": {"query": "{ __typename }"}}`}, "4401 say connection_init first"},
		"wrong token":    {[]string{`{"type": "connection_init", "payload": {"authorization": "Bearer x"}}`}, "4403 the token in Authorization is not valid; leave the header out to be a guest"},
		"init twice":     {[]string{`{"type": "connection_init"}`, `{"type": "connection_init"}`}, "4429 too many initialisation requests"},
		"no JSON":        {[]string{`hello`}, "4400 a message must be a JSON object with a type"},
		"unknown type":   {[]string{`{"type": "hello"}`}, "4400 the type of a message is not one of graphql-transport-ws"},
		"large message":  {[]string{`{"type": "ping", "payload": "` + strings.Repeat("x", 1<<20) + `"}`}, "1009 "},
		"payload no map": {[]string{`{"type": "connection_init", "payload": "x"}`}, "4400 the payload of connection_init must be an object"},
	} {
		s := dial(t, base)
		for _, text := range c.say {
			s.send(text)
		}
		if got := s.closed(); got != c.want {
			t.Errorf("%s: %s", name, got)
		}
	}
	conn, res, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(base, "http")+"/graphql", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if got := (&socket{t, conn}).closed(); got != "4406 the subprotocol must be graphql-transport-ws" {
		t.Errorf("without subprotocol: %s", got)
	}
	_, refused, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(base, "http")+"/graphql", http.Header{"Origin": {"https://elsewhere.example"}})
	if refused != nil {
		defer func() { _ = refused.Body.Close() }()
	}
	if err == nil || refused.StatusCode != http.StatusForbidden {
		t.Errorf("from another origin: %v", err)
	}
	p := dial(t, base)
	p.send(`{"type": "ping", "payload": {"n": 1}}`)
	if m := p.next(); m.Type != "pong" || string(m.Payload) != `{"n":1}` {
		t.Errorf("a ping is answered with %+v", m)
	}
}

const watchA = `{"type": "subscribe", "id": "1", "payload": {"query": "subscription { stockChanged(skus: [\"A\"]) { sku } }"}}`

// TestSocketDuplicate checks that an id is used by one operation at a time, and the number of operations.
func TestSocketDuplicate(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{Limits: graph.Limits{Subscriptions: 1}})
	s.stocked(t, "A", "Anvil", "10.00", 5)
	c := open(t, base, `{}`)
	c.send(watchA)
	c.data()
	c.send(strings.Replace(watchA, `"id": "1"`, `"id": "2"`, 1))
	if m := c.next(); m.Type != "error" || !strings.Contains(string(m.Payload), "1 operations run on this connection; at most 1 are allowed") {
		t.Errorf("too many: %s %s", m.Type, m.Payload)
	}
	c.send(watchA)
	if got := c.closed(); got != "4409 an operation of this id runs already" {
		t.Error(got)
	}
}

// events reads server-sent events: each is its name and its data.
func events(t *testing.T, base, query string, headers ...string) (next func() string, end func()) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/graphql", strings.NewReader(document(t, query, nil)))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = res.Body.Close()
	})
	if got := res.Header.Get("Content-Type"); !strings.HasPrefix(got, "text/event-stream") {
		t.Fatalf("the content type is %s", got)
	}
	lines := bufio.NewScanner(res.Body)
	return func() string {
		var event []string
		for lines.Scan() {
			switch text := lines.Text(); {
			case text == "" && len(event) > 0:
				return strings.Join(event, " ")
			case text != "" && text[0] != ':':
				event = append(event, text)
			}
		}
		return "end"
	}, cancel
}

// TestServerSentEvents follows a stock by SSE, and hears of errors the same way.
func TestServerSentEvents(t *testing.T) {
	s := newShop(t)
	h, base := face(t, s, graph.Options{})
	s.stocked(t, "A", "Anvil", "10.00", 5)
	query := `subscription { stockChanged(skus: ["A"]) { available } }`
	next, _ := events(t, base, query)
	if got := next(); got != `event: next data: {"data":{"stockChanged":{"available":5}}}` {
		t.Fatal(got)
	}
	if _, err := s.app.StockReceive(context.Background(), commands.StockReceive{SKU: "A", Quantity: 1}); err != nil {
		t.Fatal(err)
	}
	if got := next(); got != `event: next data: {"data":{"stockChanged":{"available":6}}}` {
		t.Fatal(got)
	}
	for _, c := range []struct {
		query   string
		headers []string
		want    string
	}{
		{`{ products { totalCount } }`, nil, `{"data":{"products":{"totalCount":1}}}`},
		{`subscription { nothing }`, nil, `Cannot query field`},
		{query, []string{"Authorization", "Bearer x"}, `"code":"UNAUTHENTICATED"`},
		{`subscription { stockChanged(skus: ["B"]) { available } }`, nil, `"code":"NOT_FOUND"`},
	} {
		one, _ := events(t, base, c.query, c.headers...)
		if got := one(); !strings.HasPrefix(got, "event: next data: ") || !strings.Contains(got, c.want) {
			t.Errorf("%s: %s", c.query, got)
		}
		if got := one(); got != "event: complete data:" {
			t.Errorf("%s: then %s", c.query, got)
		}
	}

	c := open(t, base, `{}`)
	c.send(watchA)
	c.data()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := h.Drain(ctx); err != nil {
		t.Fatal(err)
	}
	if got := next(); got != "end" {
		t.Errorf("after the drain comes %s", got)
	}
	if got := c.closed(); !strings.HasPrefix(got, "1001 ") {
		t.Errorf("the socket was closed with %s", got)
	}
	if a := ask(t, base, query, nil, "Accept", "text/event-stream"); a.status != http.StatusServiceUnavailable {
		t.Errorf("a new stream after the drain: %d", a.status)
	}
	ask(t, base, `{ products { totalCount } }`, nil).must(t)
}
