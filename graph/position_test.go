package graph_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/millrace/millrace/graph"
	"github.com/millrace/millrace/internal/projector"
)

// carriers are the ways in which a request brings a position back.
var carriers = map[string]func(t *testing.T, base, query, position string) answer{
	"header": func(t *testing.T, base, query, position string) answer {
		return ask(t, base, query, nil, "Millrace-Position", position)
	},
	"header, put together with others": func(t *testing.T, base, query, position string) answer {
		return ask(t, base, query, nil, "Millrace-Position", "1, "+position+",2")
	},
	"extensions": func(t *testing.T, base, query, position string) answer {
		return send(t, http.MethodPost, base+"/graphql", fmt.Sprintf(`{"query": %q, "extensions": {"position": %q}}`, query, position))
	},
	"extensions and header, the higher counts": func(t *testing.T, base, query, position string) answer {
		body := fmt.Sprintf(`{"query": %q, "extensions": {"position": %q}}`, query, position)
		return send(t, http.MethodPost, base+"/graphql", body, "Millrace-Position", "1")
	},
	"header of a GET": func(t *testing.T, base, query, position string) answer {
		return send(t, http.MethodGet, base+"/graphql?query="+url.QueryEscape(query), "", "Millrace-Position", position)
	},
	"extensions of a GET": func(t *testing.T, base, query, position string) answer {
		extensions := fmt.Sprintf(`{"position": %q}`, position)
		return send(t, http.MethodGet, base+"/graphql?query="+url.QueryEscape(query)+"&extensions="+url.QueryEscape(extensions), "")
	},
	"extensions over a socket": func(t *testing.T, base, query, position string) answer {
		s := open(t, base, `{}`)
		s.send(fmt.Sprintf(`{"type": "subscribe", "id": "1", "payload": {"query": %q, "extensions": {"position": %q}}}`, query, position))
		m, a := s.next(), answer{status: http.StatusOK}
		into := any(&a)
		if m.Type == "error" {
			into = &a.Errors
		}
		if err := json.Unmarshal(m.Payload, into); err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		return a
	},
}

func (a answer) code() string {
	if len(a.Errors) == 0 {
		return ""
	}
	return fmt.Sprint(a.Errors[0].Extensions["code"])
}

// A position that the log does not have is nothing to wait for.
func TestAPositionBeyondTheLog(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	s.breaks("products", fmt.Errorf("products: %w: %w", projector.ErrBeyond, projector.ErrStale))
	got := ask(t, base, `query($id: ID!) { product(id: $id) { title } }`, map[string]any{"id": idOf("Product", "1")}, "Millrace-Position", "9").wrong(t)
	if want := "STALE: the log ends before position 9; the position is of another log, or of this one before it was restored: ask again without it"; got != want {
		t.Error(got)
	}
}

// However a position comes, every model that the query reads has to have reached it.
func TestEveryReadIsAtThePositionThatARequestBrings(t *testing.T) {
	s := newShop(t)
	_, base := face(t, s, graph.Options{})
	staff(t, base, `mutation { productCreate(input: {title: "Mug", slug: "mug", status: ACTIVE, variants: [{sku: "MUG", price: "4.00"}]}) { product { id } } }`, nil).must(t)
	id := ask(t, base, `{ product(slug: "mug") { id } }`, nil).must(t).text(t, "product", "id")
	s.behind, s.seen = true, len(s.events)
	reached, beyond := fmt.Sprint(s.seen), fmt.Sprint(s.seen+1)
	queries := map[string]string{
		"by slug": `{ product(slug: "mug") { title } }`, "by id": fmt.Sprintf(`{ product(id: %q) { title } }`, id), "list": `{ products { nodes { title } } }`,
		"node": fmt.Sprintf(`{ node(id: %q) { id } }`, id), "nodes": fmt.Sprintf(`{ nodes(ids: [%q]) { id } }`, id),
	}
	for how, bring := range carriers {
		for what, query := range queries {
			if a := bring(t, base, query, reached); a.status != http.StatusOK || a.code() != "" {
				t.Errorf("%s, %s: a position that is reached: %d %s", how, what, a.status, a.body)
			}
			if a := bring(t, base, query, beyond); a.status != http.StatusOK || a.code() != "STALE" {
				t.Errorf("%s, %s: a position that is not: %d %s", how, what, a.status, a.body)
			}
		}
		for _, garbage := range []string{"soon", "-5", "+5", "0x10", "1.5", "99999999999999999999", "1 2", " "} {
			if a := bring(t, base, queries["list"], garbage); a.code() != "BAD_USER_INPUT" || !strings.Contains(a.Errors[0].Message, "osition") {
				t.Errorf("%s: the position %q: %d %s %+v", how, garbage, a.status, a.body, a.Errors)
			}
		}
	}
	for what, query := range queries { // nobody who brings none is refused
		if a := ask(t, base, query, nil); a.code() != "" {
			t.Errorf("%s without a position: %s", what, a.body)
		}
	}
}
