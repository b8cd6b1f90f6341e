package graph_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/graph"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/projections/catalogue"
	"github.com/millrace/millrace/projections/paging"
)

// stalled are parts of a shop whose servers do not answer: they wait for as long as they are given.
type stalled struct {
	graph.Commands
	graph.Catalogue
	began time.Time
	given time.Duration
}

func (s *stalled) wait(ctx context.Context) error {
	deadline, _ := ctx.Deadline()
	s.given = deadline.Sub(s.began)
	<-ctx.Done()
	return ctx.Err()
}

func (s *stalled) List(ctx context.Context, _ catalogue.Query) (page paging.Page[catalog.State], err error) {
	return page, s.wait(ctx)
}

func (s *stalled) Products(ctx context.Context, ids []string) ([]*catalog.State, error) {
	return make([]*catalog.State, len(ids)), s.wait(ctx)
}

// CartCreate waits as the writer does: the command may be under way.
func (s *stalled) CartCreate(ctx context.Context, _ commands.CartCreate) (r commands.CartResult, err error) {
	return r, fmt.Errorf("%w: %w", es.ErrOutcomeUnknown, s.wait(ctx))
}

// CartLinesAdd is done, but what its answer shows has to be read.
func (s *stalled) CartLinesAdd(context.Context, commands.CartLinesAdd) (r commands.CartResult, err error) {
	r.Position, r.State = 7, cart.State{Lines: []cart.Line{{SKU: "A", Product: "1", Quantity: 1}}}
	return r, nil
}

// TestDeadline checks that an operation's parts are given what is left of its time, and what a client hears when that is up.
func TestDeadline(t *testing.T) {
	t.Parallel()
	const most = 300 * time.Millisecond
	s := newShop(t)
	parts := &stalled{Commands: s.app, Catalogue: s.catalogue()}
	h, err := graph.NewHandler(graph.Deps{
		Commands: parts, Catalogue: parts, Stock: s.stock(), Carts: s.carts(), Orders: s.orders(), Sales: s, Projections: s,
		Log: s, Feed: feedOf{s}, Vault: s,
	}, graph.Options{Timeout: most, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	defer server.Close()
	for query, want := range map[string]string{
		`{ products { nodes { title } } }`:                                   "UNAVAILABLE: the answer took too long; ask again",
		`mutation { cartCreate { position } }`:                               "UNAVAILABLE: it is not known whether this has happened; look whether it has before you send it again",
		`mutation { cartCreate(input: {idempotencyKey: "k"}) { position } }`: "UNAVAILABLE: it is not known whether this has happened; look, or send it again with the same idempotency key",
		`mutation { cartLinesAdd(input: {cartId: "c", lines: [{sku: "A", quantity: 1}]}) { cart { lines { variant { product { title } } } } } }`: "UNAVAILABLE: this has happened, but the answer took too long; look, and do not send it again",
	} {
		parts.began, parts.given = time.Now(), 0
		a := ask(t, server.URL, query, nil)
		took := time.Since(parts.began)
		if got := a.wrong(t); got != want {
			t.Errorf("%s: %s, not %s", query, got, want)
		}
		if parts.given < most || parts.given > took {
			t.Errorf("%s: answered after %v, of which %v was given", query, took, parts.given)
		}
	}
}
