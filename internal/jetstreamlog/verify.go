package jetstreamlog

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/internal/es"
)

// Log is what a stream is compared with.
type Log interface {
	ReadAll(ctx context.Context, after int64, limit int) ([]es.Event, error)
}

// Comparison is what Verify has found.
type Comparison struct {
	Stream string `json:"stream"`
	// First and Last are the positions that the stream says it holds, and Compared how many of them were compared.
	First    int64 `json:"first"`
	Last     int64 `json:"last"`
	Compared int64 `json:"compared"`
	// Faults are the first hundred that were found.
	Faults []string `json:"faults"`
}

const maxFaults = 100

var errEnough = errors.New("jetstreamlog: enough faults found")

// Verify compares every message that the log's stream holds with its event. It returns ErrNoStream or a ForeignError where
// there is no stream to compare.
func Verify(ctx context.Context, js jetstream.JetStream, log es.Log, reader Log) (*Comparison, error) {
	info, err := Find(ctx, js, log)
	if err != nil {
		return nil, err
	}
	c := &Comparison{Stream: info.Config.Name, First: int64(info.State.FirstSeq), Last: int64(info.State.LastSeq), Faults: []string{}}
	if info.State.Msgs == 0 {
		return c, nil
	}
	if missing := c.Last - c.First + 1 - int64(info.State.Msgs); missing != 0 {
		c.Faults = append(c.Faults, fmt.Sprintf("%d messages are missing between sequence %d and %d", missing, c.First, c.Last))
	}
	consumer, err := js.OrderedConsumer(ctx, info.Config.Name, jetstream.OrderedConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: info.State.FirstSeq,
	})
	if err != nil {
		return c, fmt.Errorf("jetstreamlog: reading stream %s: %w", c.Stream, err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		return c, fmt.Errorf("jetstreamlog: reading stream %s: %w", c.Stream, err)
	}
	defer messages.Stop()
	if err := c.compare(ctx, messages, log, reader); err != nil && !errors.Is(err, errEnough) {
		return c, fmt.Errorf("jetstreamlog: comparing stream %s: %w", c.Stream, err)
	}
	return c, nil
}

func (c *Comparison) compare(ctx context.Context, messages jetstream.MessagesContext, log es.Log, reader Log) error {
	const page = 2000
	for after := c.First - 1; after < c.Last; {
		events, err := reader.ReadAll(ctx, after, int(min(page, c.Last-after)))
		if err != nil {
			return err
		}
		if len(events) == 0 {
			return c.fault("the stream goes on to sequence %d, the log ends at position %d", c.Last, after)
		}
		for i := range events {
			if err := c.compareOne(ctx, messages, log, &events[i]); err != nil {
				return err
			}
		}
		after = events[len(events)-1].Position
	}
	return nil
}

// compareOne takes the next message, which has to be the event's.
func (c *Comparison) compareOne(ctx context.Context, messages jetstream.MessagesContext, log es.Log, e *es.Event) error {
	m, err := messages.Next(jetstream.NextContext(ctx))
	if err != nil {
		return err
	}
	meta, err := m.Metadata()
	if err != nil {
		return err
	}
	if sequence := int64(meta.Sequence.Stream); sequence != e.Position {
		if err := c.fault("sequence %d came where position %d was expected", sequence, e.Position); err != nil {
			return err
		}
		return errEnough // message and event no longer run side by side
	}
	c.Compared++
	if part := Differs(Encode(log, e), m.Subject(), m.Headers(), m.Data()); part != "" {
		return c.fault("sequence %d differs from the event at its position in its %s", e.Position, part)
	}
	return nil
}

func (c *Comparison) fault(format string, args ...any) error {
	c.Faults = append(c.Faults, fmt.Sprintf(format, args...))
	if len(c.Faults) >= maxFaults {
		return errEnough
	}
	return nil
}
