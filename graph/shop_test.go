package graph_test

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/cart"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/graph"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
	"github.com/millrace/millrace/internal/responsecache"
	"github.com/millrace/millrace/projections/catalogue"
	"github.com/millrace/millrace/projections/orders"
	"github.com/millrace/millrace/projections/paging"
	"github.com/millrace/millrace/projections/sales"
)

const staffToken = "staff-token-of-the-tests"

// shop is a log in memory with the real commands on it, and read models that are folded on reading. It counts reads.
type shop struct {
	app   *commands.App
	codec *es.Codec

	mu       sync.Mutex
	events   []es.Event
	streams  map[string][]int // indexes into events
	changed  chan struct{}
	calls    map[string]int
	fail     map[string]error // by what is called
	sealed   map[string][]byte
	keys     map[es.Hash]keyRecord
	known    map[string]bool // subjects of whom something was sealed
	forgot   map[string]bool
	statuses []projector.Status
	parked   []projector.ParkedEvent
	operated []string // what was asked of read models
	sales    []sales.Row
	behind   bool // read models stand still
	seen     int  // how far they have come while they do
}

// keyRecord is what the shop remembers of an idempotency key.
type keyRecord struct {
	request  es.Hash
	streams  []string
	position int64
}

func newShop(t testing.TB) *shop {
	t.Helper()
	s := &shop{
		codec: commands.Codec(), streams: map[string][]int{}, changed: make(chan struct{}), calls: map[string]int{},
		fail: map[string]error{}, sealed: map[string][]byte{}, keys: map[es.Hash]keyRecord{}, known: map[string]bool{}, forgot: map[string]bool{},
	}
	app, err := commands.New(commands.Dependencies{
		Executor: s, Reader: s, Vault: s, Secret: []byte(strings.Repeat("k", 32)), Currency: "GBP", PaymentDeadline: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.app = app
	return s
}

// face serves the shop with the options over what the tests set, and returns its address.
func face(t testing.TB, s *shop, o graph.Options) (*graph.Handler, string) {
	t.Helper()
	o.StaffToken = cmp.Or(o.StaffToken, staffToken)
	o.Logger = cmp.Or(o.Logger, slog.New(slog.DiscardHandler))
	h, err := graph.NewHandler(graph.Deps{
		Commands: s.app, Catalogue: s.catalogue(), Stock: s.stock(), Carts: s.carts(), Orders: s.orders(), Sales: s, Projections: s,
		Log: s, Feed: feedOf{s}, Vault: s,
	}, o)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(h)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := h.Drain(ctx); err != nil {
			t.Errorf("draining: %v", err)
		}
		server.Close()
	})
	return h, server.URL
}

func (s *shop) called(what string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[what]++
	return s.fail[what]
}

func (s *shop) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[what]
}

func (s *shop) resetCounts() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.calls)
}

func (s *shop) breaks(what string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail[what] = err
}

// Execute decides a command on states folded from the log, and appends.
func (s *shop) Execute(ctx context.Context, c es.Command) (es.Outcome, error) {
	if err := s.called("execute"); err != nil {
		return es.Outcome{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if id := c.Idempotency; id != nil {
		if known, used := s.keys[id.Key]; used && known.request != id.Request {
			return es.Outcome{}, &es.IdempotencyConflictError{}
		} else if used {
			return es.Outcome{Position: known.position, Replayed: true, Streams: known.streams}, nil
		}
	}
	now := time.Now().UTC()
	d := s.decisionLocked(now, c)
	if err := c.Decide(d); err != nil {
		return es.Outcome{}, err
	}
	if err := d.Err(); err != nil {
		return es.Outcome{}, err
	}
	meta, err := json.Marshal(es.MetadataFrom(ctx))
	if err != nil {
		return es.Outcome{}, err
	}
	for _, a := range d.Appended() {
		eventType, data, err := s.codec.Encode(a.Fact)
		if err != nil {
			return es.Outcome{}, err
		}
		s.streams[a.Stream] = append(s.streams[a.Stream], len(s.events))
		s.events = append(s.events, es.Event{
			Position: int64(len(s.events) + 1), Stream: a.Stream, Version: int64(len(s.streams[a.Stream])), Type: eventType,
			Data: data, Metadata: meta, OccurredAt: d.OccurredAt(), RecordedAt: now, Fact: a.Fact,
		})
	}
	if id := c.Idempotency; id != nil {
		s.keys[id.Key] = keyRecord{request: id.Request, streams: id.Streams, position: int64(len(s.events))}
	}
	close(s.changed)
	s.changed = make(chan struct{})
	return es.Outcome{Position: int64(len(s.events)), Events: len(d.Appended())}, nil
}

// decisionLocked returns a run of a command on states folded from the log.
func (s *shop) decisionLocked(now time.Time, c es.Command) *es.Decision {
	return es.NewDecision(now, c.OccurredAt, func(name string) (es.Versioned, bool) {
		for _, category := range commands.Categories() {
			if category.Name == es.CategoryOf(name) {
				state, version := s.foldLocked(category, name, false)
				return es.Versioned{State: state, Version: version}, true
			}
		}
		return es.Versioned{}, false
	})
}

func (s *shop) DryRun(_ context.Context, c es.Command) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.Decide(s.decisionLocked(time.Now().UTC(), c))
}

func (s *shop) ExecuteAll(ctx context.Context, cs []es.Command) ([]es.Outcome, []error) {
	outcomes, errs := make([]es.Outcome, len(cs)), make([]error, len(cs))
	for i, c := range cs {
		outcomes[i], errs[i] = s.Execute(ctx, c)
	}
	return outcomes, errs
}

func (s *shop) foldLocked(category *es.Category, stream string, behind bool) (any, int64) {
	state := category.Zero()
	for _, i := range s.streams[stream] {
		if behind && i >= s.seen {
			break
		}
		next, err := category.Fold(state, s.events[i].Fact, s.events[i].OccurredAt)
		if err != nil {
			panic(err)
		}
		state = next
	}
	return state, int64(len(s.streams[stream]))
}

func (s *shop) Head(context.Context) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(len(s.events)), nil
}

func (s *shop) ReadAll(_ context.Context, after int64, limit int) ([]es.Event, error) {
	if err := s.called("log"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	from := min(int(after), len(s.events))
	return slices.Clone(s.events[from:min(from+limit, len(s.events))]), nil
}

func (s *shop) ReadStream(_ context.Context, stream string, after int64, limit int) ([]es.Event, error) {
	if err := s.called("log"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []es.Event
	for _, i := range s.streams[stream] {
		if s.events[i].Version > after && len(found) < limit {
			found = append(found, s.events[i])
		}
	}
	return found, nil
}

// feed is the shop's feed.
func (s *shop) follow(ctx context.Context, after int64, do func([]es.Event) error) error {
	for {
		s.mu.Lock()
		events, changed := slices.Clone(s.events[after:]), s.changed
		s.mu.Unlock()
		if len(events) > 0 {
			if err := do(events); err != nil {
				return err
			}
			after = events[len(events)-1].Position
			continue
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-changed:
		}
	}
}

// Seal makes the shop its own vault, as OpenAll does.
func (s *shop) Seal(_ context.Context, subject string, plaintext []byte) (string, []byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	box := fmt.Sprintf("box %d", len(s.sealed))
	s.sealed[box], s.known[subject] = plaintext, true
	return subject, []byte(box), nil
}

type forgotten struct{}

func (forgotten) Error() string   { return "forgotten" }
func (forgotten) Forgotten() bool { return true }

func (s *shop) OpenAll(_ context.Context, keys []string, boxes [][]byte) ([][]byte, []error) {
	plain, errs := make([][]byte, len(keys)), make([]error, len(keys))
	err := s.called("vault")
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range keys {
		switch {
		case err != nil:
			errs[i] = err
		case s.forgot[keys[i]]:
			errs[i] = forgotten{}
		default:
			plain[i] = s.sealed[string(boxes[i])]
		}
	}
	return plain, errs
}

func (s *shop) KeyOf(_ context.Context, subject string) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known[subject] || s.forgot[subject] {
		return "", nil
	}
	return subject, nil
}

func (s *shop) Forget(_ context.Context, _, key string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forgot[key] = true
	return nil
}

// read folds one state of a kind, nil if its stream is empty.
func read[S any](ctx context.Context, s *shop, what string, kind es.Kind[S], ids []string) ([]*S, error) {
	if err := s.called(what); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if es.PositionFrom(ctx) > int64(len(s.events)) || s.behind && es.PositionFrom(ctx) > int64(s.seen) {
		return nil, fmt.Errorf("reading %s: %w", what, projector.ErrStale)
	}
	found := make([]*S, len(ids))
	for i, id := range ids {
		if state, version := s.foldLocked(kind.Category, kind.Stream(id).Name(), s.behind); version > 0 {
			state := state.(S)
			found[i] = &state
		}
	}
	return found, nil
}

func (s *shop) ids(category string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for name := range s.streams {
		if es.CategoryOf(name) == category {
			ids = append(ids, es.IDOf(name))
		}
	}
	slices.Sort(ids)
	return ids
}

type (
	catalogueOf struct{ *shop }
	stockOf     struct{ *shop }
	cartsOf     struct{ *shop }
	ordersOf    struct{ *shop }
)

func (s *shop) catalogue() catalogueOf { return catalogueOf{s} }
func (s *shop) stock() stockOf         { return stockOf{s} }
func (s *shop) carts() cartsOf         { return cartsOf{s} }
func (s *shop) orders() ordersOf       { return ordersOf{s} }

func (c catalogueOf) Products(ctx context.Context, ids []string) ([]*catalog.State, error) {
	return read(ctx, c.shop, "products", commands.Products, ids)
}

func (c catalogueOf) ProductsBySlug(ctx context.Context, slugs []string) ([]*catalog.State, error) {
	all, err := read(ctx, c.shop, "products by slug", commands.Products, c.ids("product"))
	found := make([]*catalog.State, len(slugs))
	for i, slug := range slugs {
		for _, p := range all {
			if p.Slug == slug {
				found[i] = p
			}
		}
	}
	return found, err
}

func (c catalogueOf) matching(ctx context.Context, f catalogue.Filter) ([]*catalog.State, error) {
	all, err := read(ctx, c.shop, "product list", commands.Products, c.ids("product"))
	all = slices.DeleteFunc(all, func(p *catalog.State) bool {
		return len(f.Statuses) > 0 && !slices.Contains(f.Statuses, p.Status) ||
			!strings.Contains(strings.ToLower(p.Title), strings.ToLower(f.Text)) ||
			f.MinPrice != nil && p.Variants[0].Price.Minor < *f.MinPrice
	})
	slices.SortFunc(all, func(a, b *catalog.State) int { return cmp.Compare(a.Title, b.Title) })
	return all, err
}

func (c catalogueOf) List(ctx context.Context, q catalogue.Query) (paging.Page[catalog.State], error) {
	all, err := c.matching(ctx, q.Filter)
	if q.Reverse {
		slices.Reverse(all)
	}
	return cut(q.Window, all, func(p *catalog.State) string { return p.Title }), err
}

func (c catalogueOf) Count(ctx context.Context, f catalogue.Filter) (int, error) {
	if err := c.called("product count"); err != nil {
		return 0, err
	}
	all, err := c.matching(ctx, f)
	return len(all), err
}

// cut makes a page of a whole list.
func cut[T any](w paging.Window, all []*T, key func(*T) string) (page paging.Page[T]) {
	from, to := 0, len(all)
	for i, v := range all {
		if w.After != "" && key(v) == w.After {
			from = i + 1
		}
		if w.Before != "" && key(v) == w.Before {
			to = i
		}
	}
	start, end := from, to
	if w.First > 0 {
		end = min(from+w.First, to)
	} else {
		start = max(from, to-w.Last)
	}
	page.HasPrevious, page.HasNext = start > 0, end < len(all)
	for _, v := range all[start:end] {
		page.Rows = append(page.Rows, paging.Row[T]{Cursor: func() string { return key(v) }, Value: v})
	}
	return page
}

func (c stockOf) Levels(ctx context.Context, skus []string) ([]*inventory.State, error) {
	return read(ctx, c.shop, "stock", commands.Stocks, skus)
}

func (c cartsOf) Carts(ctx context.Context, refs []string) ([]*cart.State, error) {
	return read(ctx, c.shop, "carts", commands.Carts, refs)
}

func (c ordersOf) Orders(ctx context.Context, numbers []string) ([]*order.State, error) {
	return read(ctx, c.shop, "orders", commands.Orders, numbers)
}

func (c ordersOf) List(ctx context.Context, q orders.Query) (paging.Page[order.State], error) {
	all, err := read(ctx, c.shop, "order list", commands.Orders, c.ids("order"))
	all = slices.DeleteFunc(all, func(o *order.State) bool { return q.Status != "" && o.Status != q.Status })
	return cut(q.Window, all, func(o *order.State) string { return o.Number }), err
}

func (c ordersOf) Count(ctx context.Context, status order.Status) (int, error) {
	page, err := c.List(ctx, orders.Query{Status: status, Window: paging.Window{First: 1_000_000}})
	return len(page.Rows), err
}

func (s *shop) Report(context.Context, time.Time, time.Time, string) ([]sales.Row, error) {
	return s.sales, s.called("sales")
}

func (s *shop) Status(context.Context) ([]projector.Status, error) {
	err := s.called("projections")
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.statuses, err
}

// Follow and Head of a feed differ from those of a log.
type feedOf struct{ s *shop }

func (f feedOf) Follow(ctx context.Context, after int64, do func([]es.Event) error) error {
	return f.s.follow(ctx, after, do)
}

func (f feedOf) Head() int64 {
	f.s.mu.Lock()
	defer f.s.mu.Unlock()
	return int64(len(f.s.events))
}

// Confirmed says that the log ends where it ends now.
func (f feedOf) Confirmed() (int64, time.Time, bool) { return f.Head(), time.Now(), false }

// everything is read models that nobody switches, and that no event changes: what a test reads it does not tell.
type everything struct{}

func (everything) Shows(projector.Reading) bool { return true }
func (everything) Wants(string, string) bool    { return false }

// newCache returns a cache that follows the shop until the test ends.
func newCache(t testing.TB, s *shop, o responsecache.Options) *responsecache.Cache {
	t.Helper()
	o.Feed, o.Models, o.Projections = feedOf{s}, everything{}, []string{"catalogue"}
	c, err := responsecache.New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return c
}

var errDisk = errors.New("pq: disk of db-7.internal is full")
