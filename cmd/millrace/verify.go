package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/millrace/millrace/commands"
	"github.com/millrace/millrace/internal/jetstreamlog"
	"github.com/millrace/millrace/internal/postgres"
	"github.com/millrace/millrace/internal/projector"
)

// verifyCommand proves that the log, JetStream and the read models agree.
type verifyCommand struct {
	serverFlags
	JSON bool `help:"Print JSON."`
}

// verified is what a verification found.
type verified struct {
	// Position is how far the log was read.
	Position   int64                    `json:"position"`
	Log        []postgres.Fault         `json:"logFaults"`
	JetStream  *jetstreamlog.Comparison `json:"jetStream"`
	ReadModels []projector.Difference   `json:"readModelDifferences"`
	// Parked are the events that read models go without; they are not compared.
	Parked []projector.ParkedEvent `json:"parked"`
}

func (v *verified) wrong() int { return len(v.Log) + len(v.JetStream.Faults) + len(v.ReadModels) }

// Run compares everything with everything, and fails when something differs.
func (c *verifyCommand) Run(ctx context.Context, out *console) error {
	return withShop(ctx, c.serverFlags, lagFlags{}, out, func(s *shop) (err error) {
		var v verified
		if v.Log, v.Position, err = s.log.Verify(ctx); err != nil {
			return err
		}
		js, err := jetstream.New(s.nats)
		if err != nil {
			return fmt.Errorf("JetStream: %w", err)
		}
		if v.JetStream, err = jetstreamlog.Verify(ctx, js, s.log.Info(), s.log); err != nil {
			return err
		}
		bar := newBar(out.err, "comparing read models")
		v.ReadModels, err = projector.Verify(ctx, projector.ReplayOptions{
			Pool: s.workPool, Redis: s.workRedis, Log: s.log, Codec: commands.Codec(), Info: s.log.Info(), Projections: allProjections(),
			Logger: s.logger, Progress: func(p projector.Progress) { bar.set(p.Position, p.Head) },
		})
		bar.done()
		if err != nil {
			return err
		}
		if v.Parked, err = s.parked(ctx, allProjections()); err != nil {
			return err
		}
		if c.JSON {
			v.Log, v.ReadModels, v.Parked = orEmpty(v.Log), orEmpty(v.ReadModels), orEmpty(v.Parked)
			if err := printJSON(out.out, v); err != nil {
				return err
			}
		} else {
			v.print(out)
		}
		if v.wrong() > 0 {
			return errors.New("something is not as the log says it should be")
		}
		return nil
	})
}

// orEmpty is a list that JSON shows as one where there is nothing in it too.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

func (v *verified) print(out *console) {
	fmt.Fprintf(out.out, "log          %d events, %d faults\n", v.Position, len(v.Log))
	for _, f := range v.Log {
		fmt.Fprintln(out.out, "  ", f)
	}
	fmt.Fprintf(out.out, "JetStream    %d messages of stream %s compared, %d faults\n", v.JetStream.Compared, v.JetStream.Stream, len(v.JetStream.Faults))
	for _, f := range v.JetStream.Faults {
		fmt.Fprintln(out.out, "  ", f)
	}
	fmt.Fprintf(out.out, "read models  %d differences\n", len(v.ReadModels))
	for _, d := range v.ReadModels {
		fmt.Fprintf(out.out, "   %s.%s %s: live %s, rebuilt %s\n", d.Projection, d.Table, d.Key, d.Live, d.Rebuilt)
	}
	tellParked(out.out, v.Parked, "; its events from there are not compared")
}
