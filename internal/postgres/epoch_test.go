package postgres

import (
	"slices"
	"testing"

	"golang.org/x/sync/errgroup"
)

// However many processes notice that the log has moved to another server, that is one epoch, and another one than any that was before, which a backup does not
// know of.
func TestALogThatMovedEntersAnEpoch(t *testing.T) {
	t.Parallel()
	b := setup(t)
	all := func() (epoch int) {
		t.Helper()
		epochs := make([]int, 10)
		group, ctx := errgroup.WithContext(t.Context())
		for i := range epochs {
			group.Go(func() (err error) {
				epochs[i], err = b.log.Epoch(ctx)
				return err
			})
		}
		if err := group.Wait(); err != nil {
			t.Fatal(err)
		}
		if slices.Min(epochs) != slices.Max(epochs) {
			t.Fatalf("the log is in epochs %v", epochs)
		}
		return epochs[0]
	}
	restore := func(epoch int, server string) {
		t.Helper()
		if _, err := b.pool.Exec(t.Context(), `UPDATE log SET epoch = $1, server = $2`, epoch, server); err != nil {
			t.Fatal(err)
		}
	}
	if epoch := all(); epoch != 1 {
		t.Fatalf("a log that has not moved is in epoch %d", epoch)
	}
	restore(1, "7000000000000000000/00000001")
	first := all()
	if again := all(); first <= 1 || again != first {
		t.Errorf("the log has entered epoch %d, and %d", first, again)
	}
	await(t, "another second", func() bool {
		restore(1, "7000000000000000000/00000001") // the same backup
		return all() > first
	})
	raised, err := b.log.RaiseEpoch(t.Context())
	if err != nil || raised <= first || all() != raised {
		t.Errorf("raised to %d behind %d: %v", raised, first, err)
	}
	restore(2_000_000_000, "7000000000000000000/00000001") // the clock goes wrong
	if epoch := all(); epoch != 2_000_000_001 {
		t.Errorf("the log has entered epoch %d", epoch)
	}
}
