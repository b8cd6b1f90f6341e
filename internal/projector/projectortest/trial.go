package projectortest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/postgres"
)

// trial is a case that is being run.
type trial struct {
	kit      *Kit
	log      *postgres.Log
	history  *history
	seed     uint64
	versions map[string]int64 // by stream
	ordinals map[int]int64    // by partition
	logged   transcript
	logger   *slog.Logger
}

// renew leaves everything as on the day when log and generations were created. Documents need not be deleted: those of
// another log are not found.
var renew = []string{
	`SET LOCAL session_replication_role = replica`, // the log refuses to be emptied
	`DELETE FROM events`,
	`UPDATE log SET id = gen_random_uuid()`,
	`UPDATE projections SET log_id = (SELECT id FROM log)`,
	`UPDATE checkpoints SET position = 0, held = NULL`,
	`DELETE FROM projection_failures`,
	`DELETE FROM witness`,
	`DO $$ DECLARE t text; BEGIN
		FOR t IN SELECT unnest(tables) FROM projections WHERE status = 'live' LOOP EXECUTE 'DELETE FROM ' || t; END LOOP;
	END $$`,
}

// begin begins a trial on an empty log.
func (k *Kit) begin(ctx context.Context, seed uint64) (*trial, error) {
	err := pgx.BeginFunc(ctx, k.admin, func(tx pgx.Tx) error {
		for _, sql := range renew {
			if _, err := tx.Exec(ctx, sql); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("emptying the log: %w", err)
	}
	log, err := postgres.OpenLog(ctx, k.pool, k.codec)
	if err != nil {
		return nil, err
	}
	return newTrial(k, log, seed), nil
}

func newTrial(k *Kit, log *postgres.Log, seed uint64) *trial {
	t := &trial{
		kit: k, log: log, history: newHistory(log.Info().Partitions), seed: seed,
		versions: make(map[string]int64), ordinals: make(map[int]int64),
	}
	t.logger = slog.New(slog.NewTextHandler(&t.logged, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return t
}

// draw returns a number below n, which is the same whenever the trial draws at that place.
func (t *trial) draw(place uint64, n int) int { return rand.New(rand.NewPCG(t.seed, place)).IntN(n) }

// record appends facts to the log and reads them back.
func (t *trial) record(ctx context.Context, facts []Facts) error {
	before := t.history.head()
	batch := uuid.New()
	var rows [][]any
	for _, f := range facts {
		for _, fact := range f.facts {
			name, data, err := t.kit.codec.Encode(fact)
			if err != nil {
				return err
			}
			partition := es.PartitionOf(f.stream, t.log.Info().Partitions)
			t.versions[f.stream]++
			t.ordinals[partition]++
			rows = append(rows, []any{
				before + int64(len(rows)) + 1, f.stream, t.versions[f.stream], name, data, []byte("{}"), f.occurredAt, Now,
				partition, t.ordinals[partition], batch,
			})
		}
	}
	if len(rows) == 0 {
		return nil
	}
	_, err := t.kit.pool.CopyFrom(ctx, pgx.Identifier{"events"}, []string{
		"position", "stream", "version", "type", "data", "metadata", "occurred_at", "recorded_at", "partition", "ordinal", "batch",
	}, pgx.CopyFromRows(rows))
	if err != nil {
		return fmt.Errorf("recording %d events: %w", len(rows), err)
	}
	recorded, err := t.log.ReadAll(ctx, before, len(rows))
	if err != nil {
		return err
	}
	t.history.extend(recorded)
	return nil
}

// rewinds is how many times the second worker of a way is handed all events again from the first.
const rewinds = 4

// play records the facts while they are folded in every way.
func (t *trial) play(ctx context.Context, facts []Facts) (o *outcome, err error) {
	facts = apart(facts)
	cut := 0
	if len(facts) > 1 {
		cut = 1 + t.draw(0, len(facts)-1)
	}
	singly, batches, caughtUp := t.singly(), t.batches(len(facts)), t.caughtUp()
	defer func() { err = errors.Join(err, stop(singly, batches, caughtUp)) }() // where a step has failed
	steps := []func() error{
		func() error { return start(ctx, singly, batches) },
		func() error { return t.record(ctx, facts[:cut]) },
		func() error { return reach(ctx, singly, batches) },
		func() error { return stop(batches) },
		func() error { return t.record(ctx, facts[cut:]) },
		func() error {
			batches.feed.rewinds.Store(rewinds)
			return start(ctx, batches, caughtUp)
		},
		func() error { return reach(ctx, singly, batches, caughtUp) },
		func() error { return stop(singly, batches, caughtUp) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return nil, err
		}
	}
	rebuilt := t.rebuilt()
	if err := rebuilt.rebuild(ctx, int64(cut)); err != nil {
		return nil, err
	}
	o = &outcome{trial: t, ways: []*way{singly, batches, caughtUp, rebuilt}}
	for _, w := range o.ways {
		if err := w.look(ctx); err != nil {
			return nil, err
		}
	}
	o.torn, err = t.kit.torn(ctx)
	return o, err
}
