package graph_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/millrace/millrace/graph"
	"github.com/millrace/millrace/internal/projector"
)

const projectionProgress = `subscription($name: String!) { projectionProgress(name: $name) { name version generation previousGeneration status
	rebuild { generation position target percent eventsPerSecond remainingSeconds } } }`

// stands has the read models stand at something from now on.
func (s *shop) stands(statuses ...projector.Status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.statuses = statuses
}

// TestProjectionProgress follows a rebuild over both transports, from its middle to the switch.
func TestProjectionProgress(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	stands := func(status projector.Status) {
		status.Name, status.Version = "orders", 1
		s.stands(projector.Status{Name: "carts", State: projector.Live}, status)
	}
	building := projector.Status{Generation: 3, Previous: 2, State: projector.Rebuilding, Rebuild: &projector.Rebuild{
		Generation: 4, Progress: projector.Progress{Position: 250, Head: 1000},
	}}
	stands(building)
	orders := map[string]any{"name": "orders"}

	c := open(t, base, `{"authorization": "Bearer `+staffToken+`"}`)
	c.subscribe("1", projectionProgress, orders)
	stream, _ := events(t, base, strings.Replace(strings.Replace(projectionProgress, "($name: String!)", "", 1), "$name", `"orders"`, 1),
		"Authorization", "Bearer "+staffToken)
	want := func(fields string) {
		t.Helper()
		want := `{"data":{"projectionProgress":{"name":"orders","version":1,` + fields + `}}}`
		if got := c.data(); got != want {
			t.Fatalf("by WebSocket comes %s, not %s", got, want)
		}
		if got := stream(); got != "event: next data: "+want {
			t.Fatalf("as an event comes %s, not %s", got, want)
		}
	}
	want(`"generation":3,"previousGeneration":2,"status":"REBUILDING",` +
		`"rebuild":{"generation":4,"position":"250","target":"1000","percent":25,"eventsPerSecond":0,"remainingSeconds":null}`)
	building.Rebuild = &projector.Rebuild{
		Generation: 4, Progress: projector.Progress{Position: 500, Head: 1000, Rate: 100, RemainingSeconds: 5},
	}
	stands(building)
	want(`"generation":3,"previousGeneration":2,"status":"REBUILDING",` +
		`"rebuild":{"generation":4,"position":"500","target":"1000","percent":50,"eventsPerSecond":100,"remainingSeconds":5}`)
	building.Rebuild = &projector.Rebuild{Generation: 4, Progress: projector.Progress{Position: 1000, Head: 1000, Rate: 100}}
	stands(building)
	want(`"generation":3,"previousGeneration":2,"status":"REBUILDING",` +
		`"rebuild":{"generation":4,"position":"1000","target":"1000","percent":100,"eventsPerSecond":100,"remainingSeconds":0}`)
	stands(projector.Status{Generation: 4, Previous: 3, State: projector.Live})
	want(`"generation":4,"previousGeneration":3,"status":"LIVE","rebuild":null`)
}

// TestProjectionProgressIsRefused refuses guests, wrong tokens, and names that there are not.
func TestProjectionProgressIsRefused(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	s.stands(projector.Status{Name: "carts"}, projector.Status{Name: "orders"})
	query := func(name string) string {
		return fmt.Sprintf(`subscription { projectionProgress(name: %q) { name } }`, name)
	}
	asStaff := open(t, base, `{"authorization": "Bearer `+staffToken+`"}`)
	asGuest := open(t, base, `{}`)
	for _, c := range []struct {
		socket        *socket
		name, headers string
		want          string
	}{
		{asGuest, "orders", "", `"code":"FORBIDDEN"`},
		{nil, "orders", "Bearer x", `"code":"UNAUTHENTICATED"`},
		{asStaff, "order", "Bearer " + staffToken, `"message":"there is no read model \"order\"; there are carts, orders"`},
		{asStaff, "order", "Bearer " + staffToken, `"code":"BAD_USER_INPUT"`},
	} {
		if c.socket != nil {
			c.socket.subscribe("1", query(c.name), nil)
			if m := c.socket.next(); m.Type != "error" || !strings.Contains(string(m.Payload), c.want) {
				t.Errorf("by WebSocket comes %s: %s, not %s", m.Type, m.Payload, c.want)
			}
		}
		var headers []string
		if c.headers != "" {
			headers = []string{"Authorization", c.headers}
		}
		stream, _ := events(t, base, query(c.name), headers...)
		if got := stream(); !strings.Contains(got, c.want) {
			t.Errorf("as an event comes %s, not %s", got, c.want)
		}
		if got := stream(); got != "event: complete data:" {
			t.Errorf("then comes %s", got)
		}
	}
	s.breaks("projections", errDisk)
	asStaff.subscribe("2", query("orders"), nil)
	if m := asStaff.next(); m.Type != "error" || !strings.Contains(string(m.Payload), `"code":"INTERNAL"`) || strings.Contains(string(m.Payload), "disk") {
		t.Errorf("while nothing can be read comes %s: %s", m.Type, m.Payload)
	}
}
