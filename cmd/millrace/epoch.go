package main

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/millrace/millrace/internal/postgres"
)

// epochCommand shows or raises the epoch of the log.
type epochCommand struct {
	logFlags
	Raise bool `help:"Begin another epoch: the copy in JetStream, and all read models, are made anew from the log."`
}

// Run prints the epoch, after raising it if it was told to.
func (c *epochCommand) Run(ctx context.Context, out *console) error {
	return withLog(ctx, c.logFlags, out, func(log *postgres.Log, _ *pgxpool.Pool) error {
		if !c.Raise {
			fmt.Fprintf(out.out, "The log %s is in epoch %d.\n", log.Info().ID, log.Info().Epoch)
			return nil
		}
		epoch, err := log.RaiseEpoch(ctx)
		if err != nil {
			return err
		}
		fmt.Fprintf(out.out, "The log %s has entered epoch %d. Processes that ran before end within seconds; start them again.\n", log.Info().ID, epoch)
		return nil
	})
}
