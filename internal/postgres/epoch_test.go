package postgres

import (
	"context"
	"testing"

	"golang.org/x/sync/errgroup"
)

// However many processes notice that the log has moved to another server, that is one epoch.
func TestALogThatMovedEntersAnEpoch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	all := func(want int) {
		t.Helper()
		group, ctx := errgroup.WithContext(t.Context())
		for range 10 {
			group.Go(func() error {
				epoch, err := b.log.Epoch(ctx)
				if err == nil && epoch != want {
					t.Errorf("the log is in epoch %d, want %d", epoch, want)
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	moveTo := func(server string) {
		t.Helper()
		if _, err := b.pool.Exec(context.WithoutCancel(t.Context()), `UPDATE log SET server = $1`, server); err != nil {
			t.Fatal(err)
		}
	}
	all(1) // it is noted where the log is
	moveTo("7000000000000000000/00000001")
	all(2)
	all(2)
	moveTo("7000000000000000000/00000002")
	all(3)
	if epoch, err := b.log.RaiseEpoch(t.Context()); err != nil || epoch != 4 {
		t.Errorf("raised to %d: %v", epoch, err)
	}
	all(4)
}
