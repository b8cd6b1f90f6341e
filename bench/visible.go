package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/domain/inventory"
	"github.com/millrace/millrace/internal/es"
)

// Targets of visible: milliseconds at the median and at the 99th percentile, in Redis and on the replica alike.
const (
	visibleP50Target = 5
	visibleP99Target = 25
)

// How the shop is kept busy: so many commands of one event a second, over so many SKUs. The first second does not count.
const (
	visibleRate    = 2000
	benchSKUs      = 200
	visibleWarmUp  = time.Second
	visibleTimeout = 30 * time.Second // for the last event to be seen
)

// visible measures how long a reader has to wait for what has been committed, first in Redis, then on the replica. The
// commands come from this process, as from an api process of its own: the relay and the workers are those of the shop.
func visible(ctx context.Context, l *lab) (figures []Figure, err error) {
	s, err := l.shopOf(ctx, sampleShop)
	if err != nil {
		return nil, err
	}
	c, err := openClient(ctx, l, s)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.close()) }()
	skus, err := c.openSKUs(ctx)
	if err != nil {
		return nil, err
	}
	onReplica, err := c.onReplica(ctx)
	if err != nil {
		return nil, err
	}
	for _, place := range []struct {
		name string
		look looking
	}{{"redis", c.inRedis}, {"replica", onReplica}} {
		latencies, err := c.watch(ctx, l, place.name, skus, place.look)
		if err != nil {
			return figures, err
		}
		figures = append(figures,
			newFigure("visible-"+place.name+"-p50", milliseconds(percentile(latencies, 50)), "ms", Lower).aiming(visibleP50Target),
			newFigure("visible-"+place.name+"-p99", milliseconds(percentile(latencies, 99)), "ms", Lower).aiming(visibleP99Target))
	}
	return figures, nil
}

// openSKUs makes the SKUs that the benches work with, unless they are there.
func (c *client) openSKUs(ctx context.Context) ([]string, error) {
	skus := make([]string, benchSKUs)
	for i := range skus {
		skus[i] = fmt.Sprintf("BENCH%04d", i)
		_, err := c.stock(ctx, skus[i], func(s inventory.State) ([]inventory.Event, error) {
			if s.SKU != "" {
				return nil, nil
			}
			return inventory.Open{SKU: skus[i], Product: "bench"}.Decide(s)
		})
		if err != nil {
			return nil, err
		}
	}
	return skus, nil
}

// looking returns the units on hand of SKUs as readers see them in one place.
type looking func(ctx context.Context, skus []string) (map[string]int, error)

// watch keeps the shop busy and returns how long each event took from its commit until it was seen.
func (c *client) watch(ctx context.Context, l *lab, name string, skus []string, look looking) ([]time.Duration, error) {
	o := &observer{look: look, committed: make(chan sighting, visibleRate)}
	watching, done := errgroup.WithContext(ctx)
	watching.Go(func() error { return o.run(done) })

	length := max(l.Duration*2/3, 2*visibleWarmUp)
	began := time.Now()
	n, loadErr := openLoop(done, visibleRate, length, func(ctx context.Context, n int, due time.Time) error {
		sku, counts := skus[n%len(skus)], due.Sub(began) >= visibleWarmUp
		receive := inventory.Receive{Quantity: 1}
		state, err := c.stock(ctx, sku, receive.Decide)
		if err != nil {
			return err
		}
		select {
		case o.committed <- sighting{sku: sku, units: state.OnHand, at: time.Now(), counts: counts}:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	})
	close(o.committed)
	took := time.Since(began)
	if err := watching.Wait(); err != nil { // first: when nobody watches any more the load ends too
		return nil, fmt.Errorf("bench: looking for events (%s): %w", name, err)
	}
	if loadErr != nil {
		return nil, fmt.Errorf("bench: executing commands: %w", loadErr)
	}
	l.say("  %s: %d commands in %.1f s, %d seen and counted", name, n, took.Seconds(), len(o.latencies))
	return o.latencies, nil
}

// stock executes a command on the stock of a SKU and returns its state afterwards.
func (c *client) stock(ctx context.Context, sku string, decide func(inventory.State) ([]inventory.Event, error)) (state inventory.State, err error) {
	stream := commands.Stocks.Stream(sku)
	_, err = c.writer.Execute(ctx, es.Command{
		Name: "bench", Streams: []string{stream.Name()},
		Decide: func(d *es.Decision) error {
			before, err := es.State(d, stream)
			if err != nil {
				return err
			}
			events, err := decide(before)
			if err != nil {
				return err
			}
			state = es.Append(d, stream, events...)
			return nil
		},
	})
	return state, err
}

// sighting is a committed event to be looked for: it can be seen when the SKU has at least so many units.
type sighting struct {
	sku    string
	units  int
	at     time.Time // when the commit was known
	counts bool
}

// observer looks for committed events until all have been seen.
type observer struct {
	look      looking
	committed chan sighting
	waiting   []sighting
	latencies []time.Duration
}

// lookingPause is how long the observer rests between two looks; a latency may be that much too long.
const lookingPause = 200 * time.Microsecond

func (o *observer) run(ctx context.Context) error {
	for open := true; open || len(o.waiting) > 0; {
		if open {
			var err error
			if open, err = o.collect(ctx); err != nil {
				return err
			}
		}
		if len(o.waiting) == 0 {
			continue
		}
		if err := o.lookOnce(ctx); err != nil {
			return err
		}
		if len(o.waiting) > 0 && time.Since(o.waiting[0].at) > visibleTimeout {
			return fmt.Errorf("a change of %s could not be seen %s after its commit", o.waiting[0].sku, visibleTimeout)
		}
		if err := wait(ctx, lookingPause); err != nil {
			return err
		}
	}
	return nil
}

// collect takes what has been committed, waiting for it when there is nothing else to do. open is false once there will
// be no more.
func (o *observer) collect(ctx context.Context) (open bool, err error) {
	for {
		if len(o.waiting) == 0 {
			select {
			case s, ok := <-o.committed:
				if !ok {
					return false, nil
				}
				o.waiting = append(o.waiting, s)
			case <-ctx.Done():
				return false, ctx.Err()
			}
		}
		select {
		case s, ok := <-o.committed:
			if !ok {
				return false, nil
			}
			o.waiting = append(o.waiting, s)
		default:
			return true, nil
		}
	}
}

func (o *observer) lookOnce(ctx context.Context) error {
	var skus []string
	for _, s := range o.waiting {
		if !slices.Contains(skus, s.sku) {
			skus = append(skus, s.sku)
		}
	}
	units, err := o.look(ctx, skus)
	if err != nil {
		return err
	}
	now := time.Now()
	o.waiting = slices.DeleteFunc(o.waiting, func(s sighting) bool {
		seen := units[s.sku] >= s.units
		if seen && s.counts {
			o.latencies = append(o.latencies, now.Sub(s.at))
		}
		return seen
	})
	return nil
}
