package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/internal/jetstreamlog"
)

// open returns the stream that holds the log, and the last position that it holds. What takes the log's subjects
// without being a copy of it is set aside; where there is no copy, one is begun.
func (r *Relay) open(ctx context.Context) (stream string, last int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	if err := r.sameEpoch(ctx); err != nil {
		return "", 0, err
	}
	names, err := jetstreamlog.Names(ctx, r.js)
	if err != nil {
		return "", 0, err
	}
	for _, name := range names {
		info, err := jetstreamlog.Info(ctx, r.js, name)
		if errors.Is(err, jetstreamlog.ErrNoStream) {
			return "", 0, errAgain // deleted since it was listed
		}
		if err != nil {
			return "", 0, err
		}
		fault, err := r.fault(ctx, info)
		if err != nil {
			return "", 0, err
		}
		if fault == "" {
			return name, int64(info.State.LastSeq), jetstreamlog.SetWindow(ctx, r.js, info, r.Window)
		}
		if err := r.setAside(ctx, info, fault); err != nil {
			return "", 0, err
		}
	}
	return r.create(ctx)
}

// sameEpoch makes sure that this relay does not take the copy of a later epoch for a foreign one.
func (r *Relay) sameEpoch(ctx context.Context) error {
	if r.Epoch == nil {
		return nil
	}
	epoch, err := r.Epoch(ctx)
	if err != nil {
		return fmt.Errorf("relay: reading the log's epoch: %w", err)
	}
	if epoch != r.Info.Epoch {
		return fmt.Errorf("%w: %d instead of %d", ErrEpochChanged, epoch, r.Info.Epoch)
	}
	return nil
}

const (
	// Streams that are set aside keep what they hold. Where they become many, for example because two logs share
	// one account of NATS and their relays take turns, more would only fill the disk.
	maxAside    = 8
	asidePeriod = 10 * time.Minute
)

func (r *Relay) setAside(ctx context.Context, info *jetstream.StreamInfo, reason string) error {
	now := time.Now()
	r.aside = slices.DeleteFunc(r.aside, func(t time.Time) bool { return now.Sub(t) > asidePeriod })
	if len(r.aside) >= maxAside {
		return fmt.Errorf("relay: the stream %s is not a copy of the log (%s), but %d streams were set aside within %v already; does another log use this NATS account?",
			info.Config.Name, reason, len(r.aside), asidePeriod)
	}
	if err := r.sameEpoch(ctx); err != nil {
		return err
	}
	if err := jetstreamlog.SetAside(ctx, r.js, info, reason); err != nil {
		return err
	}
	r.aside = append(r.aside, now)
	r.metrics.aside.Inc()
	r.logger.Warn("a stream is not a copy of the log and was set aside; delete it when it is not needed any more",
		"stream", info.Config.Name, "reason", reason, "messages", info.State.Msgs, "bytes", info.State.Bytes)
	return nil
}

// create begins a new copy with as much of the log as the window holds.
func (r *Relay) create(ctx context.Context) (stream string, last int64, err error) {
	head, err := r.Log.Head(ctx)
	if err != nil {
		return "", 0, fmt.Errorf("relay: %w", err)
	}
	first := int64(1)
	if r.Window > 0 {
		first = max(1, head-r.Window+1)
	}
	info, err := jetstreamlog.Create(ctx, r.js, r.Info, jetstreamlog.Settings{First: first, Window: r.Window, Replicas: r.Replicas})
	var refused *jetstream.APIError
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) || errors.As(err, &refused) && refused.ErrorCode == errCodeSubjectsOverlap {
		return "", 0, errAgain // a rival has just created it
	}
	if err != nil {
		return "", 0, err
	}
	r.logger.Info("a new stream holds the log", "stream", info.Config.Name, "first", first, "head", head)
	return info.Config.Name, int64(info.State.LastSeq), nil
}

// errCodeSubjectsOverlap is NATS's "subjects overlap with an existing stream".
const errCodeSubjectsOverlap jetstream.ErrorCode = 10065

// fault says why a stream is not a copy of the log, "" if it is one.
func (r *Relay) fault(ctx context.Context, info *jetstream.StreamInfo) (string, error) {
	config, state := &info.Config, &info.State
	first, last := int64(state.FirstSeq), int64(state.LastSeq)
	switch {
	case !jetstreamlog.Belongs(info, r.Info):
		return fmt.Sprintf("it belongs to log %q, epoch %q", config.Metadata[jetstreamlog.MetadataLog],
			config.Metadata[jetstreamlog.MetadataEpoch]), nil
	case len(config.Subjects) != 1 || config.Subjects[0] != jetstreamlog.Subjects:
		return fmt.Sprintf("it takes %v", config.Subjects), nil
	case !config.DenyDelete || !config.DenyPurge || config.Retention != jetstream.LimitsPolicy || config.Storage != jetstream.FileStorage:
		return "it does not keep what it holds", nil
	case state.NumDeleted > 0 || state.Msgs > 0 && int64(state.Msgs) != last-first+1:
		return fmt.Sprintf("it has holes: %d messages from %d to %d", state.Msgs, first, last), nil
	case first > r.mayBegin(config, last):
		return fmt.Sprintf("it begins at %d only", first), nil
	}
	// The head is read after the stream's end, so that what is committed in between does not look like a lead.
	head, err := r.Log.Head(ctx)
	if err != nil {
		return "", fmt.Errorf("relay: %w", err)
	}
	if last > head {
		return fmt.Sprintf("it ends at %d, beyond the log's end at %d", last, head), nil
	}
	if state.Msgs == 0 {
		return "", nil
	}
	return r.differsAt(ctx, config.Name, last)
}

// mayBegin returns the highest position at which a stream that ends at last may begin.
func (r *Relay) mayBegin(config *jetstream.StreamConfig, last int64) int64 {
	if r.Window <= 0 {
		return 1
	}
	return max(1, int64(config.FirstSeq), last-r.Window+1)
}

// differsAt compares the message at a position with the log's event there.
func (r *Relay) differsAt(ctx context.Context, name string, position int64) (string, error) {
	stream, err := r.js.Stream(ctx, name)
	if err != nil {
		return "", fmt.Errorf("relay: opening the stream %s: %w", name, err)
	}
	message, err := stream.GetMsg(ctx, uint64(position))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Sprintf("it has lost its message %d", position), nil
	}
	if err != nil {
		return "", fmt.Errorf("relay: reading message %d of the stream %s: %w", position, name, err)
	}
	events, err := r.Log.ReadAll(ctx, position-1, 1)
	if err != nil {
		return "", fmt.Errorf("relay: %w", err)
	}
	if len(events) != 1 {
		return "", fmt.Errorf("relay: the log has no position %d although it reaches further", position)
	}
	want := jetstreamlog.Encode(r.Info, &events[0])
	if part := jetstreamlog.Differs(want, message.Subject, message.Header, message.Data); part != "" {
		return fmt.Sprintf("its message %d differs from the log's event in %s", position, part), nil
	}
	return "", nil
}
