package projector_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

type esEvent = es.Event

func (f *fixture) replayOptions() projector.ReplayOptions {
	return projector.ReplayOptions{
		Pool: f.pool, Redis: f.redis, Log: f.log, Codec: codec, Info: f.info,
		Projections: []projector.Projection{tallyProjection(f.info, 1)}, Logger: testLogger(f.t),
	}
}

// setupAgain is the same database as another process sees it, after its log has changed.
func setupAgain(f *fixture) *fixture {
	f.t.Helper()
	g := setupOn(f.t, f.url, nil, f.redisURL)
	g.head, g.versions, g.ordinals, g.sums = f.head, f.versions, f.ordinals, f.sums
	return g
}

func wantError(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestReplayUnderAppends(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(20_000, 100)
	f.worker("live")
	m := f.models()
	f.expect(m)

	busy, stop := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error {
		for busy.Err() == nil {
			f.fill(20, 100)
		}
		return nil
	})
	group.Go(func() error { return f.watchForward(busy, m) })
	var reports int
	for want := 2; want <= 4; want++ {
		options := f.replayOptions()
		options.Progress = func(projector.Progress) { reports++ }
		result, err := projector.Replay(t.Context(), options)
		if err != nil {
			t.Error(err)
		}
		if result.Generations["tally"] != want {
			t.Errorf("generation %d, want %d", result.Generations["tally"], want)
		}
	}
	stop()
	must(t, group.Wait())
	if reports == 0 {
		t.Error("no progress was reported")
	}
	f.expect(m)
	f.onlyGenerations(3, 4)
}

// watchForward reads one stream by every way and fails when it is seen to go back.
func (f *fixture) watchForward(ctx context.Context, m *projector.Models) error {
	const stream = "tally-7"
	primary, err := projector.NewModels(projector.ModelsOptions{
		Primary: f.pool, Feed: f.feed, Info: f.info, Projections: []projector.Projection{tallyProjection(f.info, 1)},
	})
	if err != nil {
		return err
	}
	var rows, documents int64
	for ctx.Err() == nil {
		row, err := f.row(primary, 0, stream)
		if err != nil {
			return err
		}
		if row.Last < rows {
			return errors.New("a row went back")
		}
		rows = row.Last
		if d := f.document(m, 0, stream); d != nil {
			if d.Last < documents {
				return errors.New("a document went back")
			}
			documents = d.Last
		}
	}
	return nil
}

// onlyGenerations checks that the tables and documents of other generations are gone.
func (f *fixture) onlyGenerations(numbers ...int) {
	f.t.Helper()
	var schemas int
	must(f.t, f.pool.QueryRow(f.t.Context(), `SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tally\_%'`).Scan(&schemas))
	if schemas != len(numbers) {
		f.t.Errorf("%d schemas are left, want %d", schemas, len(numbers))
	}
	keys, err := f.redis.Keys(f.t.Context(), "mr:"+f.info.ID[:8]+".*").Result()
	must(f.t, err)
	for _, key := range keys {
		if strings.Contains(key, ":tally.1.") || strings.Contains(key, ":tally.2.") {
			f.t.Fatalf("a key of an old generation is left: %s", key)
		}
	}
}

// A rollback shows what was written since the switch as if readers had never left the generation, and is taken back by another.
func TestRollback(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(5_000, 100)
	stop := f.worker("live")
	m := f.models()
	f.expect(m)
	if _, err := projector.Rollback(t.Context(), f.replayOptions()); !errors.Is(err, projector.ErrNoPrevious) {
		t.Errorf("a rollback before any replay: %v", err)
	}
	_, err := projector.Replay(t.Context(), f.replayOptions())
	must(t, err)
	busy, quiet := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error {
		for busy.Err() == nil {
			f.fill(20, 100)
		}
		return nil
	})
	group.Go(func() error { return f.watchForward(busy, m) })
	for _, want := range []int{1, 2, 1} {
		result, err := projector.Rollback(t.Context(), f.replayOptions())
		if err != nil || result.Generations["tally"] != want {
			t.Errorf("generation %d, want %d; %v", result.Generations["tally"], want, err)
		}
	}
	quiet()
	must(t, group.Wait())
	f.expect(m)
	f.verified()
	eventually(t, patience, "the one that was left is fed too", func() bool {
		var behind int
		must(t, f.pool.QueryRow(t.Context(), `SELECT count(*) FROM tally_1.streams o FULL JOIN tally_2.streams n USING (stream)
			WHERE (o.count, o.sum, o.last) IS DISTINCT FROM (n.count, n.sum, n.last)`).Scan(&behind))
		return behind == 0
	})
	stop() // without a worker what is missing is folded by the rollback itself
	f.fill(3_000, 100)
	_, err = projector.Rollback(t.Context(), f.replayOptions())
	must(t, err)
	f.expect(m)
	status, err := m.Status(t.Context())
	must(t, err)
	if status[0].Generation != 2 {
		t.Errorf("generation %d is live, want 2", status[0].Generation)
	}
}

// A previous generation that cannot go on is no place to go back to.
func TestRollbackToAGenerationThatStandsStill(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(500, 20)
	stop := f.worker("live")
	m := f.models()
	f.expect(m)
	_, err := projector.Replay(t.Context(), f.replayOptions())
	must(t, err)
	stop()
	f.append("tally-3", added{N: 1, Poison: true})
	f.poison(true)
	_, err = projector.Rollback(t.Context(), f.replayOptions())
	wantError(t, err, "event 501 (tally.added, stream tally-3) cannot be applied: it is poison")
	status, err := m.Status(t.Context())
	must(t, err)
	if status[0].Generation != 2 {
		t.Errorf("generation %d is live, want 2", status[0].Generation)
	}
}

func TestReplayOfAnEmptyLog(t *testing.T) {
	t.Parallel()
	f := setup(t)
	_, err := projector.Replay(t.Context(), f.replayOptions())
	must(t, err)
	f.worker("live")
	f.fill(100, 10)
	f.expect(f.models())
}

func TestReplayNamesAnEventThatCannotBeApplied(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.worker("live")
	f.fill(500, 20)
	bad := f.append("tally-bad", added{N: 1, Poison: true})
	f.fill(500, 20)
	m := f.models()
	f.expect(m)
	f.poison(true)
	_, err := projector.Replay(t.Context(), f.replayOptions())
	if err == nil || !strings.Contains(err.Error(), "event 501 (tally.added, stream tally-bad) cannot be applied: it is poison") || bad != 501 {
		t.Errorf("got %v", err)
	}
	f.expect(m) // as before
	f.poison(false)
	_, err = projector.Replay(t.Context(), f.replayOptions())
	must(t, err)
	f.expect(m)
}

func TestOneReplayAtATime(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(20_000, 10)
	options := f.replayOptions()
	var second error
	tried := false
	options.Progress = func(projector.Progress) {
		if !tried {
			tried = true
			_, second = projector.Replay(t.Context(), f.replayOptions())
		}
	}
	_, err := projector.Replay(t.Context(), options)
	must(t, err)
	if !errors.Is(second, projector.ErrReplaying) {
		t.Errorf("a second replay: %v, want ErrReplaying", second)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(5_000, 200)
	f.worker("live")
	m := f.models()
	f.expect(m)

	busy, stop := context.WithCancel(t.Context())
	var group errgroup.Group
	group.Go(func() error {
		for busy.Err() == nil {
			f.fill(20, 200)
		}
		return nil
	})
	differences, err := projector.Verify(t.Context(), f.replayOptions())
	stop()
	must(t, group.Wait())
	must(t, err)
	if len(differences) > 0 {
		t.Fatalf("differences without a cause: %+v", differences)
	}
	f.expect(m)

	ctx := t.Context()
	_, err = f.pool.Exec(ctx, `UPDATE tally_1.streams SET sum = sum + 1 WHERE stream = 'tally-7'`)
	must(t, err)
	_, err = f.pool.Exec(ctx, `DELETE FROM tally_1.streams WHERE stream = 'tally-8'`)
	must(t, err)
	_, err = f.pool.Exec(ctx, `INSERT INTO tally_1.streams VALUES ('tally-nobody', 1, 1, 1)`)
	must(t, err)
	must(t, f.redis.HSet(ctx, f.redisKey("tally-9", 1), "d:9", `{"Count":0,"Sum":0,"Last":0}`).Err())
	differences, err = projector.Verify(ctx, f.replayOptions())
	must(t, err)
	found := make(map[string]bool)
	for _, d := range differences {
		found[d.Projection+" "+d.Table+" "+d.Key] = true
		if d.Live == d.Rebuilt {
			t.Errorf("no difference: %+v", d)
		}
	}
	for _, want := range []string{`tally streams ["tally-7"]`, `tally streams ["tally-8"]`, `tally streams ["tally-nobody"]`, `tally redis 9`} {
		if !found[want] {
			t.Errorf("%s was not found; found %v", want, found)
		}
	}
	if len(differences) != 4 {
		t.Errorf("%d differences, want 4: %+v", len(differences), differences)
	}
	var schemas int
	must(t, f.pool.QueryRow(ctx, `SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tally\_%'`).Scan(&schemas))
	if schemas != 1 {
		t.Errorf("%d schemas are left, want the live one", schemas)
	}
}
