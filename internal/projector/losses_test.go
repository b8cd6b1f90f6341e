package projector_test

import (
	"context"
	"errors"
	"testing"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// heldLog is read by partition only when it is released.
type heldLog struct {
	projector.Log
	release chan struct{}
}

func (l *heldLog) ReadPartitions(ctx context.Context, partitions []int, after int64, limit int) ([]es.Event, int64, error) {
	select {
	case <-l.release:
	case <-ctx.Done():
	}
	return l.Log.ReadPartitions(ctx, partitions, after, limit)
}

// Redis loses what a worker has folded of a rebuild while the other share of it is still being folded.
func TestAShareOfARebuildIsLost(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(55_000, 50)
	f.helping("one")
	m := f.models()
	f.expect(m)
	o := f.replayOptions()
	log := &heldLog{Log: o.Log, release: make(chan struct{})}
	o.Log = log
	var replaying errgroup.Group
	replaying.Go(func() error {
		_, err := projector.Replay(t.Context(), o)
		return err
	})
	var partitions []int
	eventually(t, 2*patience, "the worker's share is done", func() bool {
		return f.pool.QueryRow(t.Context(), `SELECT partitions::int[] FROM rebuild_shares WHERE done AND worker = 'one'`).Scan(&partitions) == nil
	})
	for stream := range f.sums {
		for _, n := range partitions {
			if es.PartitionOf(stream, f.info.Partitions) == n {
				must(t, f.redis.Del(t.Context(), f.redisKey(stream, 2)).Err())
			}
		}
	}
	close(log.release)
	must(t, replaying.Wait())
	f.fill(500, 50)
	f.expect(m)
	f.verified()
}

// The server cannot strike a failure off just when the event has been applied after all.
func TestAFailureThatIsOverIsForgotten(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.poison(true)
	f.worker("one")
	m := f.models()
	f.fill(100, 10)
	bad := f.append("tally-bad", added{N: 2, Poison: true})
	f.awaitStanding(bad, 2)
	_, err := f.pool.Exec(t.Context(), `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'away' USING ERRCODE = '57P01'; END $$;
		CREATE TRIGGER refuse BEFORE DELETE ON projection_failures FOR EACH ROW EXECUTE FUNCTION refuse()`)
	must(t, err)
	f.poison(false)
	f.expect(m)
	_, err = f.pool.Exec(t.Context(), `DROP TRIGGER refuse ON projection_failures`)
	must(t, err)
	eventually(t, 2*patience, "nothing is said to have failed", func() bool { return f.status(m).State == projector.Live })
}

// withoutUnlink is a Redis that cannot be told to drop anything.
type withoutUnlink struct{}

func (withoutUnlink) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (withoutUnlink) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (withoutUnlink) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		if commands[0].Name() == "unlink" {
			return errors.New("it is away")
		}
		return next(ctx, commands)
	}
}

// Redis is away when a generation is dropped: a later replay drops what was left of it there.
func TestWhatWasLeftInRedisIsDropped(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.fill(1_000, 50)
	f.worker("one")
	f.expect(f.models())
	_, err := projector.Replay(t.Context(), f.replayOptions())
	must(t, err)
	options, err := redis.ParseURL(f.redisURL)
	must(t, err)
	client := redis.NewClient(options)
	defer func() { must(t, client.Close()) }()
	client.AddHook(withoutUnlink{})
	away := f.replayOptions()
	away.Redis = client
	if _, err := projector.Replay(t.Context(), away); err == nil {
		t.Error("nothing is said of what is left")
	}
	_, err = projector.Replay(t.Context(), f.replayOptions())
	must(t, err)
	keys, err := f.redis.Keys(t.Context(), "mr:"+f.info.ID[:8]+".*:tally.1.*").Result()
	if err != nil || len(keys) > 0 {
		t.Errorf("generation 1 has left %v, %v", keys, err)
	}
}
