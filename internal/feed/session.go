package feed

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/jetstreamlog"
)

const (
	// heartbeat is how often JetStream says that a consumer without messages is still there, and how often a session
	// that does not bring the newest events looks at its stream.
	heartbeat = 500 * time.Millisecond
	// silence ends a session that got nothing, not even heartbeats, for so long.
	silence = 3 * heartbeat
	// inactive is how long JetStream keeps the consumer of a process that died.
	inactive = 30 * time.Second
	// requestTimeout bounds one request to JetStream.
	requestTimeout = 5 * time.Second
)

// session is the life of one consumer. Messages are collected as they arrive and worked through in batches.
type session struct {
	*Feed
	js     jetstream.JetStream
	retry  *backoff
	stream string

	mu      sync.Mutex
	inbox   []*nats.Msg
	spare   []*nats.Msg
	arrived chan struct{}
}

func (s *session) run(ctx context.Context) error {
	info, err := s.open(ctx)
	if err != nil {
		return err
	}
	s.stream = info.Config.Name
	inbox := s.nats.NewInbox()
	sub, err := s.nats.Subscribe(inbox, s.collect)
	if err != nil {
		return fmt.Errorf("feed: subscribing: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only where the connection is gone, and the subscription with it
	start := s.Head() + 1
	consumer, err := s.create(ctx, inbox, start)
	if err != nil {
		return err
	}
	defer s.remove(ctx, consumer)
	s.metrics.sessions.Inc()
	if info.State.LastSeq+1 >= uint64(start) {
		s.setLive(true)
		s.retry.reset()
	}
	return s.work(ctx)
}

// open returns the log's stream, unless it knows more than the log: then it is not a copy of it.
func (s *session) open(ctx context.Context) (*jetstream.StreamInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	info, err := jetstreamlog.Find(ctx, s.js, s.info)
	if err != nil {
		return nil, err
	}
	last, incarnation := int64(info.State.LastSeq), info.Config.Name+info.Created.String()
	if s.foreign == incarnation {
		return nil, fmt.Errorf("feed: the stream %s has been ahead of the log; a relay begins another", info.Config.Name)
	}
	if last <= s.Head() {
		s.trusted = incarnation
		return info, nil
	}
	head, err := s.log.Head(ctx)
	switch {
	case err != nil && s.trusted == incarnation:
		return info, nil // Postgres is down; what it fed into JetStream so far is good
	case err != nil:
		return nil, fmt.Errorf("feed: the stream %s cannot be compared with the log: %w", info.Config.Name, err)
	case last > head:
		s.foreign = incarnation
		return nil, fmt.Errorf("feed: the stream %s ends at %d, beyond the log's end at %d", info.Config.Name, last, head)
	}
	s.trusted = incarnation
	return info, nil
}

// create makes a consumer of everything from a position on. It pushes, so that nothing has to be asked for.
func (s *session) create(ctx context.Context, inbox string, start int64) (name string, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	consumer, err := s.js.CreatePushConsumer(ctx, s.stream, jetstream.ConsumerConfig{
		DeliverSubject:    inbox,
		DeliverPolicy:     jetstream.DeliverByStartSequencePolicy,
		OptStartSeq:       uint64(start),
		AckPolicy:         jetstream.AckNonePolicy,
		MaxDeliver:        1,
		MemoryStorage:     true,
		Replicas:          1,
		InactiveThreshold: inactive,
		IdleHeartbeat:     heartbeat,
		FlowControl:       true,
	})
	if err != nil {
		return "", fmt.Errorf("feed: creating a consumer of the stream %s: %w", s.stream, err)
	}
	return consumer.CachedInfo().Name, nil
}

// remove tidies up. Where it fails JetStream drops the consumer by itself.
func (s *session) remove(ctx context.Context, consumer string) {
	if !s.nats.IsConnected() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), heartbeat)
	defer cancel()
	_ = s.js.DeleteConsumer(ctx, s.stream, consumer)
}

// collect takes a message from the connection's reader, which must not be held up.
func (s *session) collect(m *nats.Msg) {
	s.mu.Lock()
	s.inbox = append(s.inbox, m)
	s.mu.Unlock()
	select {
	case s.arrived <- struct{}{}:
	default:
	}
}

func (s *session) take() []*nats.Msg {
	s.mu.Lock()
	defer s.mu.Unlock()
	messages := s.inbox
	s.inbox, s.spare = s.spare[:0], nil
	return messages
}

// giveBack returns the slice of a batch for the next one but one.
func (s *session) giveBack(messages []*nats.Msg) {
	const keep = 4096
	if cap(messages) > keep {
		return
	}
	clear(messages)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare = messages
}

// work goes through what arrives until the session is of no use any more.
func (s *session) work(ctx context.Context) error {
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	last := time.Now()
	var events []es.Event
	for {
		select {
		case <-s.arrived:
			messages := s.take()
			var err error
			if events, err = s.batch(ctx, messages, events[:0]); err != nil {
				return err
			}
			clear(events)
			s.giveBack(messages)
			last = time.Now()
		case now := <-ticker.C:
			if now.Sub(last) > silence {
				return errSilent
			}
			if !s.live.Load() {
				if err := s.inspect(ctx); err != nil {
					return err
				}
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// inspect makes sure that the consumer reads the stream that holds the log, because one that was set aside goes on
// sending heartbeats, and finds out whether the stream has caught up.
func (s *session) inspect(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	info, err := jetstreamlog.Find(ctx, s.js, s.info)
	if err != nil {
		return err
	}
	if info.Config.Name != s.stream {
		return errMoved
	}
	if int64(info.State.LastSeq) >= s.Head() {
		s.setLive(true)
	}
	return nil
}

// batch extends the window by what the messages bring.
func (s *session) batch(ctx context.Context, messages []*nats.Msg, events []es.Event) ([]es.Event, error) {
	next := s.Head() + 1
	for _, raw := range messages {
		if s.control(raw) {
			continue
		}
		position, err := sequence(raw)
		if err != nil {
			return events, err
		}
		if position < next-1 {
			continue // Postgres was faster
		}
		// JetStream brings the newest event: it is level, whoever was faster.
		s.setLive(true)
		s.retry.reset()
		if position == next-1 {
			continue
		}
		message, err := s.read(raw, position)
		if err != nil {
			return events, err
		}
		if position > next || message.Omitted {
			if events, err = s.flush(events); err != nil {
				return events, err
			}
			if err := s.hole(ctx, position, message); err != nil {
				return events, err
			}
			next = max(position, s.Head()) + 1
			if !message.Omitted && s.Head() < position {
				events = append(events, s.decoded(message))
			}
			continue
		}
		events = append(events, s.decoded(message))
		next++
	}
	return s.flush(events)
}

func (s *session) decoded(m *jetstreamlog.Message) es.Event {
	s.decode(&m.Event)
	return m.Event
}

func (s *session) flush(events []es.Event) ([]es.Event, error) {
	err := s.extend(events, fromJetStream)
	return events[:0], err
}

// hole reads from Postgres what is missing before a message, and the event itself where the message is only its
// place.
func (s *session) hole(ctx context.Context, position int64, m *jetstreamlog.Message) error {
	upTo := position - 1
	if m.Omitted {
		upTo = position
	}
	if s.Head() < position-1 {
		s.metrics.holes.Inc()
		s.logger.Warn("JetStream left events out; reading them from Postgres", "stream", s.stream,
			"from", s.Head()+1, "to", position-1)
	}
	ctx, cancel := context.WithTimeout(ctx, queryTimeout)
	defer cancel()
	return s.fill(ctx, upTo)
}

// read decodes a message and makes sure that it is the event at its place in this log.
func (s *session) read(raw *nats.Msg, position int64) (*jetstreamlog.Message, error) {
	m, err := jetstreamlog.Decode(raw.Subject, raw.Header, raw.Data)
	if err != nil {
		return nil, fmt.Errorf("feed: sequence %d of the stream %s: %w", position, s.stream, err)
	}
	if !m.Of(s.info) || m.Event.Position != position {
		return nil, fmt.Errorf("feed: sequence %d of the stream %s is position %d of log %s, epoch %d",
			position, s.stream, m.Event.Position, m.LogID, m.Epoch)
	}
	return m, nil
}

// control answers JetStream's own messages, after everything that came before them was worked through: this is
// what keeps it from sending more than is taken.
func (s *session) control(m *nats.Msg) bool {
	if m.Header.Get("Status") == "" {
		return false
	}
	reply := m.Reply // a request of flow control
	if reply == "" {
		reply = m.Header.Get("Nats-Consumer-Stalled") // a heartbeat that repeats one
	}
	if reply != "" {
		_ = s.nats.Publish(reply, nil) // where it fails, the session ends with the connection
	}
	return true
}

// sequence returns the message's place in the stream.
func sequence(m *nats.Msg) (int64, error) {
	metadata, err := m.Metadata()
	if err != nil {
		return 0, fmt.Errorf("feed: a message without a place in a stream: %w", err)
	}
	return int64(metadata.Sequence.Stream), nil
}
