package graph

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/catalog"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/domain/order"
	"github.com/millrace/millrace/graph/model"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// OrderUpdated gives the order as it is, and then each state that follows, once and in order. The states are folded from
// the events themselves: the present one from the log, the others from what the hub hands over.
func (r subscriptionResolver) OrderUpdated(ctx context.Context, id string, accessToken *string) (<-chan *model.Order, error) {
	number, ok := r.accessible(ctx, id, accessToken)
	if !ok {
		return nil, errNoOrder
	}
	stream := commands.Orders.Stream(number)
	w, err := r.hub.watch(false, stream.Name())
	if err != nil {
		return nil, err
	}
	state, version, err := es.Load(ctx, r.Log, stream)
	if err == nil && !state.Exists() {
		err = errNoOrder
	}
	if err != nil {
		w.close()
		return nil, err
	}
	f := orderFollower{log: r.Log, stream: stream, state: state, version: version}
	return publish(ctx, r.resolver, w.close, func(states chan<- *model.Order) error { return f.follow(ctx, w, states) }), nil
}

var errNoOrder = problem(NotFound, "there is no such order, or the access token is not its own")

// publish runs what gives the values of a subscription until it is done, and leaves then what it watched. It shows the client the error
// that it ends with.
func publish[T any](ctx context.Context, r *resolver, leave func(), run func(chan<- T) error) <-chan T {
	values := make(chan T)
	c := callFrom(ctx)
	c.background.Go(func() {
		defer close(values)
		defer leave()
		var err error
		defer func() {
			if cause := recover(); cause != nil {
				err = r.recovered(ctx, cause)
			}
			if err != nil && ctx.Err() == nil {
				c.fail(r.translate(ctx, err))
			}
		}()
		err = run(values)
	})
	return values
}

// give sends a value to a subscription; it reports false once that has ended.
func give[T any](ctx context.Context, to chan<- T, v T) bool {
	select {
	case to <- v:
		return true
	case <-ctx.Done():
		return false
	}
}

// orderFollower folds the events of one order as they come.
type orderFollower struct {
	log     es.Reader
	stream  es.Stream[order.State]
	state   order.State
	version int64
}

// follow gives the present state and those that follow, until the subscription ends.
func (f *orderFollower) follow(ctx context.Context, w *watcher, states chan<- *model.Order) error {
	send := func(s order.State) bool { return give(ctx, states, model.NewOrder(&s)) }
	if !send(f.state) {
		return nil
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.changed:
		}
		events, err := w.take()
		if err == nil {
			err = f.fold(ctx, events, send)
		}
		if err != nil {
			return err
		}
	}
}

// fold hands over the state after each of the events that is not in the state yet. Events that were missed are read from
// the log.
func (f *orderFollower) fold(ctx context.Context, events []es.Event, give func(order.State) bool) error {
	for i := 0; i < len(events); i++ {
		e := &events[i]
		switch {
		case e.Version <= f.version:
			continue
		case e.Version > f.version+1:
			missed, err := f.log.ReadStream(ctx, f.stream.Name(), f.version, int(e.Version-f.version-1))
			if err != nil {
				return err
			}
			if int64(len(missed)) != e.Version-f.version-1 {
				return es.ErrUnavailable
			}
			events = slices.Insert(slices.Clone(events), i, missed...)
			e = &events[i]
		}
		state, err := es.FoldStream(commands.Orders, f.state, events[i:i+1])
		if err != nil {
			return err
		}
		f.state, f.version = state, e.Version
		if !give(state) {
			return ctx.Err()
		}
	}
	return nil
}

// stockInterval is the least time between two values of one SKU.
const stockInterval = 100 * time.Millisecond

// StockChanged gives each variant as it is, and again when what can be bought of it has changed: at most ten times a
// second each, and always the last value.
func (r subscriptionResolver) StockChanged(ctx context.Context, skus []string) (<-chan *model.Variant, error) {
	watched, streams, err := watchedSKUs(skus)
	if err != nil {
		return nil, err
	}
	w, err := r.hub.watch(true, streams...)
	if err != nil {
		return nil, err
	}
	s := newStockFollower(watched)
	first, err := r.variants(es.WithPosition(ctx, max(es.PositionFrom(ctx), w.from)), watched)
	if errors.Is(err, projector.ErrStale) { // show what is known, and what is new when it is there
		s.soil(w.from)
		first, err = r.variants(es.WithPosition(ctx, 0), watched)
	}
	if err != nil {
		w.close()
		return nil, err
	}
	return publish(ctx, r.resolver, w.close, func(variants chan<- *model.Variant) error {
		for _, v := range first {
			if !s.give(ctx, variants, v) {
				return nil
			}
		}
		return s.follow(ctx, w, r, variants)
	}), nil
}

func watchedSKUs(skus []string) (watched, streams []string, err error) {
	if len(skus) == 0 {
		return nil, nil, problem(BadUserInput, "skus is empty; 1 to 100 are allowed")
	}
	for _, s := range skus {
		sku := catalog.NormalSKU(s)
		if !catalog.ValidSKU(sku) {
			return nil, nil, errNoSKU
		}
		if !slices.Contains(watched, sku) {
			watched = append(watched, sku)
			streams = append(streams, commands.Stocks.Stream(sku).Name())
		}
	}
	return watched, streams, nil
}

var errNoSKU = problem(NotFound, "one of the SKUs does not exist, or is not for sale")

// variants reads variants with what can be bought of them, all together. All of them must be there to be seen.
func (r *resolver) variants(ctx context.Context, skus []string) ([]*model.Variant, error) {
	levels, err := r.Stock.Levels(ctx, skus)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, level := range levels {
		if level == nil {
			return nil, errNoSKU
		}
		if !slices.Contains(ids, level.Product) {
			ids = append(ids, level.Product)
		}
	}
	products, err := r.Catalogue.Products(ctx, ids)
	if err != nil {
		return nil, err
	}
	all := make([]*model.Variant, len(levels))
	for i, level := range levels {
		if all[i] = variantAt(ctx, products[slices.Index(ids, level.Product)], level); all[i] == nil {
			return nil, errNoSKU
		}
	}
	return all, nil
}

// variantAt returns a variant with what can be bought of it as the level says; nil if who asks may not see it.
func variantAt(ctx context.Context, s *catalog.State, level *inventory.State) *model.Variant {
	p := model.NewProduct(s)
	if p == nil || p.Status != catalog.StatusActive && !callFrom(ctx).staff {
		return nil
	}
	v := p.Variant(level.SKU)
	if v != nil {
		n := level.Available()
		v.Available = &n
	}
	return v
}
