package audittest

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
)

// Behind returns what has not come to the end of the log yet, or stands still before it: partitions of read models in PostgreSQL
// and in Redis, the copy in JetStream, and partitions that nobody works on. Nothing means that the shop is at rest.
func Behind(ctx context.Context, s Shop) ([]Finding, error) {
	f := &findings{}
	generations, err := readGenerations(ctx, s.Primary)
	if err != nil {
		return nil, err
	}
	st := &standing{shop: s, findings: f, ends: make(map[int]int64)}
	err = snapshot(ctx, s.Primary, func(tx pgx.Tx) error {
		return errors.Join(st.readEnds(ctx, tx), st.checkpoints(ctx, tx, generations), st.stopped(ctx, tx), st.leases(ctx, tx))
	})
	if err != nil {
		return nil, fmt.Errorf("how far read models are: %w", err)
	}
	if err := st.jetStream(ctx); err != nil {
		return nil, err
	}
	return f.all(), nil
}

type standing struct {
	shop     Shop
	findings *findings
	log      eventLog // without its events
	ends     map[int]int64
	head     int64
}

func (st *standing) wrong(subject, format string, args ...any) {
	st.findings.add(Standing, subject, format, args...)
}

// readEnds finds the last event of each partition.
func (st *standing) readEnds(ctx context.Context, tx pgx.Tx) error {
	if err := tx.QueryRow(ctx, `SELECT id::text, epoch, partitions FROM log`).Scan(&st.log.id, &st.log.epoch, &st.log.partitions); err != nil {
		return err
	}
	rows, err := tx.Query(ctx, `SELECT partition, max(position) FROM events GROUP BY partition`)
	if err != nil {
		return err
	}
	var partition int
	var end int64
	_, err = pgx.ForEachRow(rows, []any{&partition, &end}, func() error {
		st.ends[partition] = end
		st.head = max(st.head, end)
		return nil
	})
	return err
}

func (st *standing) checkpoints(ctx context.Context, tx pgx.Tx, generations []generation) error {
	for _, g := range generations {
		rows, err := tx.Query(ctx, `SELECT store, partition, position, held::text FROM checkpoints WHERE projection = $1 AND generation = $2`, g.model, g.number)
		if err != nil {
			return err
		}
		found := make(map[string]map[int]int64)
		var store string
		var partition int
		var position int64
		var held *string
		if _, err := pgx.ForEachRow(rows, []any{&store, &partition, &position, &held}, func() error {
			if found[store] == nil {
				found[store] = make(map[int]int64)
			}
			found[store][partition] = position
			if held != nil {
				st.wrong(g.String()+" in "+store, "partition %d goes without %s", partition, *held)
			}
			return nil
		}); err != nil {
			return err
		}
		if remembered := found["redis"]; remembered != nil {
			if found["redis"], err = st.inRedis(ctx, g, remembered); err != nil {
				return err
			}
		}
		for store, positions := range found {
			for partition, end := range st.ends {
				if positions[partition] < end {
					st.wrong(g.String()+" in "+store, "the checkpoint of partition %d is at %d of %d", partition, positions[partition], end)
				}
			}
		}
	}
	return nil
}

// inRedis reads the checkpoints beside the documents. PostgreSQL must not remember more than is there.
func (st *standing) inRedis(ctx context.Context, g generation, remembered map[int]int64) (map[int]int64, error) {
	found := make(map[int]int64)
	for partition := range st.log.partitions {
		text, err := st.shop.Redis.HGet(ctx, st.log.hashOf(g, partition), "checkpoint").Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return nil, err
		}
		if found[partition], err = strconv.ParseInt(text, 10, 64); err != nil && text != "" {
			st.wrong(g.String()+" in redis", "the checkpoint of partition %d is %q", partition, text)
		}
		if found[partition] < remembered[partition] {
			st.wrong(g.String()+" in redis", "the checkpoint of partition %d is at %d, and is remembered at %d", partition, found[partition], remembered[partition])
		}
	}
	return found, nil
}

// stopped looks for events that could not be applied.
func (st *standing) stopped(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT projection || '_' || generation, store, position, error FROM projection_failures
		UNION ALL SELECT projection || '_' || generation, store, position, 'parked: ' || error FROM parked_events`)
	if err != nil {
		return err
	}
	var model, store, reason string
	var position int64
	_, err = pgx.ForEachRow(rows, []any{&model, &store, &position, &reason}, func() error {
		st.wrong(model+" in "+store, "it stands still at position %d: %s", position, reason)
		return nil
	})
	return err
}

// leases looks for partitions that nobody works on.
func (st *standing) leases(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `SELECT projection, partition FROM leases WHERE worker IS NULL OR expires_at <= now() ORDER BY 1, 2`)
	if err != nil {
		return err
	}
	var model string
	var partition int
	_, err = pgx.ForEachRow(rows, []any{&model, &partition}, func() error {
		st.wrong("leases of "+model, "nobody has partition %d", partition)
		return nil
	})
	return err
}

func (st *standing) jetStream(ctx context.Context) error {
	streams, err := streamsOf(ctx, st.shop.JetStream)
	if err != nil {
		return err
	}
	if len(streams) != 1 || streams[0].State.LastSeq != uint64(st.head) {
		for _, s := range streams {
			st.findings.add(JetStream, "the copy", "the stream %s (%v) is at %d of %d", s.Config.Name, s.Config.Subjects, s.State.LastSeq, st.head)
		}
		if len(streams) == 0 {
			st.findings.add(JetStream, "the copy", "there is no stream")
		}
	}
	return nil
}
