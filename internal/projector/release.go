package projector

import (
	"context"
	"fmt"

	"github.com/millrace/millrace/internal/es"
)

// releaseBatch is how many events of a parked stream are applied in one commit.
const releaseBatch = 1_000

// stillParked strikes the streams off the list that have been applied by somebody who died before he did that, and returns
// the others.
func (c *catchUp) stillParked(ctx context.Context, m mark, parked map[string]parking) (map[string]parking, error) {
	for stream, listed := range parked {
		if _, held := m.held[stream]; held || listed.position > m.position {
			continue
		}
		if err := c.records.unpark(ctx, stream, listed.position); err != nil {
			return nil, err
		}
		delete(parked, stream)
	}
	return parked, nil
}

// release applies a batch of a parked stream, in order. As long as there is more, what comes to the stream meanwhile is
// left out too; the commit of the last event at or below the mark is the one from which on the stream flows again. When an
// event still cannot be applied the stream is parked at it.
func (c *catchUp) release(ctx context.Context, p *part, stream string) error {
	events, err := c.heldEvents(ctx, p.mark, stream)
	if err != nil {
		return err
	}
	batch := events[:min(releaseBatch, len(events))]
	for size := len(batch); len(batch) > 0; {
		size = min(size, len(batch))
		m := p.stands()
		if m.toHeld = m.toHeld.without(stream); size < len(events) {
			m.toHeld = p.mark.held.with(stream, events[size].Position)
		}
		err := c.commit(ctx, c.store, &c.picked, []move{m}, batch[:size], true)
		switch {
		case err == nil:
			c.moved(ctx, c.store.name(), p, m)
			batch, events = batch[size:], events[size:]
		case !isFault(err):
			return err
		case size > 1:
			size /= 2
		default:
			c.failed(ctx, "parked event still cannot be applied", &batch[0], err)
			p.list(stream, batch[0].Position)
			if err := c.records.park(ctx, &batch[0], err); err != nil {
				c.logger.WarnContext(ctx, "failed attempt at a parked event not written down", "error", err)
			}
			return nil
		}
	}
	if len(events) > 0 {
		return nil
	}
	c.logger.InfoContext(ctx, "parked stream applied; it flows again", "store", c.store.name(), "partition", p.number, "stream", stream)
	listed, ok := p.parked[stream]
	delete(p.parked, stream)
	if ok {
		if err := c.records.unpark(ctx, stream, listed.position); err != nil {
			c.logger.WarnContext(ctx, "parked stream not yet struck off", "error", err) // load does it
		}
	}
	return nil
}

// heldEvents reads what the store goes without of a stream: a batch, and one event more if there is one.
func (c *catchUp) heldEvents(ctx context.Context, m mark, stream string) ([]es.Event, error) {
	first, err := c.runner.log.ReadAll(ctx, m.held[stream]-1, 1)
	if err != nil {
		return nil, err
	}
	if len(first) == 0 || first[0].Stream != stream || first[0].Position > m.position {
		return nil, fmt.Errorf("projector: %s holds stream %s at position %d, which is none of its events",
			c.projection.Name, stream, m.held[stream])
	}
	events, err := c.runner.log.ReadStream(ctx, stream, first[0].Version-1, releaseBatch+1)
	if err != nil {
		return nil, err
	}
	for i := range events {
		if events[i].Position > m.position {
			return events[:i], nil
		}
	}
	return events, nil
}
