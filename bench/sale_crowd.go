package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// browseRate is how many pages a second are looked at, before the sale and during it: product lists and the product's own page in turn.
const browseRate = 40

// run lets the crowd in and returns when every order is confirmed, or will not be.
func (s *saleOutcome) run(ctx context.Context, apis []*apiProcess, p product) error {
	browsing, stopBrowsing := context.WithCancel(ctx)
	defer stopBrowsing()
	all, ctx := errgroup.WithContext(ctx)
	all.Go(func() error { return s.browse(browsing, apis, p.slug) })
	orders := &orderWatch{tally: s.tally, apis: apis}
	all.Go(func() error {
		defer stopBrowsing()
		if err := wait(ctx, s.Before); err != nil {
			return err
		}
		watching, stopWatching := context.WithCancel(ctx)
		var watcher sync.WaitGroup
		watcher.Go(func() { s.tell(watching) })
		following, follow := errgroup.WithContext(ctx)
		crowd := make(chan struct{})
		following.Go(func() error { return orders.run(follow, crowd) })
		err := s.letIn(follow, apis, p, orders)
		close(crowd)
		stopBrowsing()
		err = errors.Join(err, following.Wait())
		stopWatching()
		watcher.Wait()
		return err
	})
	return all.Wait()
}

// letIn lets buyers in, so many at a time, and returns when each has an answer. A buyer goes to an api that is free: which one has served
// how many is theirs to decide.
func (s *saleOutcome) letIn(ctx context.Context, apis []*apiProcess, p product, orders *orderWatch) error {
	s.open()
	defer s.close()
	// The key makes an order of its own of each buyer's checkout, in every sale of the shop.
	run := rand.Text()
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for place := range min(s.Concurrency, s.Buyers) {
		group.Go(func() error {
			for {
				n := int(next.Add(1)) - 1
				if n >= s.Buyers {
					return nil
				}
				api := place % len(apis)
				b := buyer{number: n, key: fmt.Sprintf("%s-%d", run, n), sku: p.skus[n%len(p.skus)]}
				bought := b.buy(ctx, apis[api])
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				bought.api = api
				at := s.bought(bought)
				if bought.outcome == sold {
					orders.add(openOrder{id: bought.id, number: bought.number, sold: at})
				}
			}
		})
	}
	return group.Wait()
}

// tell tells how the sale goes until ctx ends, and once more then.
func (s *saleOutcome) tell(ctx context.Context) {
	if s.Watch == nil {
		return
	}
	tick := time.NewTicker(s.Every)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.Watch(s.progress(time.Now()))
		case <-ctx.Done():
			s.Watch(s.progress(time.Now()))
			return
		}
	}
}

// outcome is what became of a buyer.
type outcome int

const (
	failed  outcome = iota // anything that is none of the others
	sold                   // has an order
	refused                // was told OUT_OF_STOCK
)

// purchase is what a buyer was told, and how long it took.
type purchase struct {
	outcome
	api            int
	id, number     string        // of the order
	cart, checkout time.Duration // 0 for a step that had no answer
	again          int           // requests that were sent again, because the shop had no room
	reason         string        // for which it failed
	at             time.Duration // when the last answer came, since the sale began
}

type buyer struct {
	number   int
	key, sku string
}

const cartMutation = `mutation($input: CartCreateInput!) { cartCreate(input: $input) {
	cart { id total { amount } } userErrors { code message } position } }`

const checkoutMutation = `mutation($input: CheckoutInput!) { checkout(input: $input) {
	order { id number status total { amount } } accessToken userErrors { code message } position } }`

// buy puts one unit into a cart and checks out.
func (b buyer) buy(ctx context.Context, a *apiProcess) (p purchase) {
	began := time.Now()
	var created struct {
		CartCreate struct {
			Cart       *struct{ ID string }
			UserErrors userErrors
		}
	}
	var err error
	p.again, err = a.insist(ctx, anybody, cartMutation, map[string]any{
		"input": map[string]any{"lines": []any{map[string]any{"sku": b.sku, "quantity": 1}}},
	}, &created)
	if err == nil {
		err = created.CartCreate.UserErrors.err()
	}
	if err != nil {
		p.reason = "cart: " + err.Error()
		return p
	}
	filled := time.Now()
	p.cart = filled.Sub(began)
	var done struct {
		Checkout struct {
			Order       *struct{ ID, Number string }
			AccessToken string
			UserErrors  userErrors
		}
	}
	again, err := a.insist(ctx, anybody, checkoutMutation, map[string]any{"input": map[string]any{
		"cartId": created.CartCreate.Cart.ID, "email": fmt.Sprintf("buyer-%d@example.com", b.number),
		"shippingAddress": map[string]any{"name": "A buyer", "line1": "1 Mill Lane", "city": "London", "postcode": "N1 1AA", "country": "GB"},
		"payment":         map[string]any{"token": "ok"}, "idempotencyKey": b.key,
	}}, &done)
	p.checkout = time.Since(filled)
	p.again += again
	switch c := done.Checkout; {
	case err != nil:
		p.reason = "checkout: " + err.Error()
	case len(c.UserErrors) > 0 && c.UserErrors[0].Code == "OUT_OF_STOCK":
		p.outcome = refused
	case len(c.UserErrors) > 0:
		p.reason = "checkout: " + c.UserErrors.err().Error()
	default:
		p.outcome, p.id, p.number = sold, c.Order.ID, c.Order.Number
	}
	return p
}

// openOrder is one whose payment is waited for. Times are those since the sale began.
type openOrder struct {
	id, number string
	sold       time.Duration
	look       time.Duration // when to look again
}

// after returns the order as it is looked at next, if it has been looked at now: buyers look less often the longer they wait.
func (o openOrder) after(now time.Duration) openOrder {
	o.look = now + max(confirmInterval, (now-o.sold)/confirmPatience)
	return o
}

// orderWatch looks whether orders are confirmed, as buyers do, but for a hundred of them in a request: thousands of buyers who each ask
// again and again would be a load of their own, beside the sale's. A confirmation is seen later than it comes, by a third at most of the time
// that it took or by confirmInterval.
type orderWatch struct {
	*tally
	apis []*apiProcess

	mu      sync.Mutex
	waiting []openOrder
}

const (
	confirmInterval = 250 * time.Millisecond // the first pause between two looks at an order, and the shortest
	confirmPatience = 3
	confirmTick     = 50 * time.Millisecond
	mostNodes       = 100
)

func (w *orderWatch) add(o openOrder) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = append(w.waiting, o.after(o.sold))
}

// due takes the orders out that are to be looked at now; left is how many are not.
func (w *orderWatch) due(now time.Duration) (due []openOrder, left int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.waiting = slices.DeleteFunc(w.waiting, func(o openOrder) bool {
		if o.look > now {
			return false
		}
		due = append(due, o)
		return true
	})
	return due, len(w.waiting)
}

// run looks until the crowd has gone and every order is confirmed or cancelled. Orders that are neither in time stay as they are.
func (w *orderWatch) run(ctx context.Context, crowd <-chan struct{}) error {
	var deadline <-chan time.Time
	for page := 0; ; {
		orders, left := w.due(w.now())
		if len(orders)+left == 0 && crowd == nil {
			return nil
		}
		for some := range slices.Chunk(orders, mostNodes) {
			if err := w.lookAt(ctx, w.apis[page%len(w.apis)], some); err != nil {
				return err
			}
			page++
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-crowd:
			crowd, deadline = nil, time.After(confirmTimeout)
		case <-deadline:
			return nil
		case <-time.After(confirmTick):
		}
	}
}

// lookAt looks at some orders, and puts those back that are not confirmed yet or could not be looked at.
func (w *orderWatch) lookAt(ctx context.Context, a *apiProcess, orders []openOrder) error {
	left, err := w.look(ctx, a, orders)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		w.unseen(err)
	}
	now := w.now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, o := range left {
		w.waiting = append(w.waiting, o.after(now))
	}
	return nil
}

const statusQuery = `query($ids: [ID!]!) { nodes(ids: $ids) { ... on Order { status } } }`

// look notes which orders are confirmed, and returns the others; all where it could not be found out.
func (w *orderWatch) look(ctx context.Context, a *apiProcess, orders []openOrder) (left []openOrder, err error) {
	ids := make([]string, len(orders))
	for i, o := range orders {
		ids[i] = o.id
	}
	var found struct{ Nodes []struct{ Status string } }
	if err := a.ask(ctx, a.staff(), statusQuery, map[string]any{"ids": ids}, &found); err != nil {
		return orders, err
	}
	for i, o := range orders {
		switch found.Nodes[i].Status {
		case "CONFIRMED":
			w.confirmed(o)
		case "CANCELLED":
			w.cancelled()
		default:
			left = append(left, o)
		}
	}
	return left, nil
}

const listQuery = `{ products(first: 20, filter: {inStock: true}) { totalCount pageInfo { hasNextPage endCursor }
	nodes { id slug title variants { sku price { amount currency } available } } } }`

const productQuery = `query($slug: String!) { product(slug: $slug) {
	id title description variants { sku title price { amount currency } available } } }`

// productPage is what a shopper must see of a product.
type productPage struct{ Product *struct{ Title string } }

// browse looks at pages at a steady rate until ctx ends, however long the answers take.
func (s *saleOutcome) browse(ctx context.Context, apis []*apiProcess, slug string) error {
	_, err := openLoop(ctx, browseRate, saleTimeout, func(ctx context.Context, n int, due time.Time) error {
		a := apis[n/2%len(apis)]
		var err error
		if n%2 == 0 {
			var list struct {
				Products *struct{ Nodes []struct{ ID string } }
			}
			if err = a.ask(ctx, anybody, listQuery, nil, &list); err == nil && (list.Products == nil || len(list.Products.Nodes) == 0) {
				err = errors.New("the list of products is empty")
			}
		} else {
			var page productPage
			if err = a.ask(ctx, anybody, productQuery, map[string]any{"slug": slug}, &page); err == nil && page.Product == nil {
				err = errors.New("the product is not to be seen")
			}
		}
		if ctx.Err() == nil {
			s.browsed(due, time.Since(due), err)
		}
		return nil
	})
	if ended := ctx.Err(); ended != nil && (err == nil || errors.Is(err, ended)) {
		err = nil // it has looked for as long as it was to
	}
	return err
}

// never is a time that a sale does not come to.
const never = time.Duration(math.MaxInt64)
