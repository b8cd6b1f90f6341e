package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/jetstreamlog"
)

// ackTimeout bounds the wait for the acknowledgement of a run.
const ackTimeout = 5 * time.Second

// publisher sends runs of events to one stream. It is for one goroutine.
type publisher struct {
	nats    *nats.Conn
	log     es.Log
	stream  string
	inbox   string
	answers *nats.Subscription
	flight  []flight
}

// flight is a run that was sent and not acknowledged yet.
type flight struct {
	last   int64 // position of its last event
	events int
}

func newPublisher(r *Relay, stream string) (*publisher, error) {
	inbox := r.NATS.NewInbox()
	answers, err := r.NATS.SubscribeSync(inbox)
	if err != nil {
		return nil, fmt.Errorf("relay: subscribing to acknowledgements: %w", err)
	}
	return &publisher{nats: r.NATS, log: r.Info, stream: stream, inbox: inbox, answers: answers}, nil
}

func (p *publisher) close() {
	_ = p.answers.Unsubscribe() // fails only where the connection is gone, and the subscription with it
}

// send publishes a run and does not wait. Only its last message asks for an answer.
func (p *publisher) send(run []es.Event) error {
	for i := range run {
		m := jetstreamlog.Encode(p.log, &run[i])
		m.Header[jetstream.ExpectedStreamHeader] = []string{p.stream}
		m.Header[jetstream.ExpectedLastSeqHeader] = []string{strconv.FormatInt(run[i].Position-1, 10)}
		if i == len(run)-1 {
			m.Reply = p.inbox
		}
		if err := p.nats.PublishMsg(m); err != nil {
			return fmt.Errorf("relay: publishing position %d: %w", run[i].Position, err)
		}
	}
	p.flight = append(p.flight, flight{last: run[len(run)-1].Position, events: len(run)})
	return nil
}

// await returns when the oldest run on its way was taken, with the position of its last event and their number.
func (p *publisher) await(ctx context.Context) (last int64, events int, err error) {
	oldest := p.flight[0]
	p.flight = slices.Delete(p.flight, 0, 1)
	ctx, cancel := context.WithTimeout(ctx, ackTimeout)
	defer cancel()
	answer, err := p.answers.NextMsgWithContext(ctx)
	switch {
	case errors.Is(err, nats.ErrNoResponders), err == nil && answer.Header.Get("Status") == "503":
		return 0, 0, fmt.Errorf("%w: nothing takes position %d", errAgain, oldest.last)
	case err != nil:
		return 0, 0, fmt.Errorf("relay: waiting for the acknowledgement of position %d: %w", oldest.last, err)
	}
	return oldest.last, oldest.events, acknowledged(answer.Data, p.stream, oldest.last)
}

// changedCodes are the refusals which say that the stream is not what it was taken for: at another sequence, or
// another stream (10060).
var changedCodes = []jetstream.ErrorCode{
	jetstream.JSErrCodeStreamWrongLastSequence, jetstream.JSErrCodeStreamWrongLastSequenceConstant, 10060,
}

// acknowledged reads JetStream's answer to the message of a position.
func acknowledged(answer []byte, stream string, position int64) error {
	var ack struct {
		jetstream.PubAck
		Error *jetstream.APIError `json:"error"`
	}
	if err := json.Unmarshal(answer, &ack); err != nil {
		return fmt.Errorf("relay: the answer to position %d: %w", position, err)
	}
	switch {
	case ack.Error == nil && ack.Stream == stream && ack.Sequence == uint64(position):
		return nil
	case ack.Error == nil:
		return fmt.Errorf("relay: position %d became sequence %d of the stream %s", position, ack.Sequence, ack.Stream)
	case slices.Contains(changedCodes, ack.Error.ErrorCode):
		return fmt.Errorf("%w: position %d was refused: %s", errAgain, position, ack.Error.Description)
	}
	return fmt.Errorf("relay: position %d was refused: %w", position, ack.Error)
}
