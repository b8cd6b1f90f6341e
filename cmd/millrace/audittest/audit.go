// Package audittest holds all that a shop keeps beside its log against a fold of the log that shares no code with the shop.
//
// It reads raw rows, generic JSON, Redis hashes and JetStream messages as their formats are documented, and imports nothing of
// this module: a mistake in a fold, in the codec or in the engine cannot hide in the audit too. Every table of every generation
// that readers see or may go back to is compared row by row and column by column, on the primary and on each replica; every
// document and checkpoint in Redis; every message in JetStream. Personal data is compared as it is stored, sealed.
package audittest

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/redis/go-redis/v9"
)

// Shop is what is audited. Nobody may append to its log meanwhile.
type Shop struct {
	Primary   *pgxpool.Pool
	Replicas  []*pgxpool.Pool
	Redis     redis.UniversalClient
	JetStream jetstream.JetStream
}

// Area says where something is wrong.
type Area string

// The areas.
const (
	// Log is the log itself: what it must never say.
	Log Area = "log"
	// JetStream is the copy.
	JetStream Area = "JetStream"
	// Postgres is the rows of read models, on the primary or a replica.
	Postgres Area = "PostgreSQL"
	// Redis is the documents of read models.
	Redis Area = "Redis"
	// Standing is how far read models have come, and whether they get on.
	Standing Area = "standing"
)

// Finding is something that is not as the log says it should be.
type Finding struct {
	Area Area
	What string
}

func (f Finding) String() string { return string(f.Area) + ": " + f.What }

// findings are collected by subject, the first few of each.
type findings struct {
	list []Finding
	more map[Finding]int // by area and subject
}

// perSubject is how many findings of one subject are told in full.
const perSubject = 5

func (f *findings) add(area Area, subject, format string, args ...any) {
	if f.more == nil {
		f.more = make(map[Finding]int)
	}
	f.more[Finding{area, subject}]++
	if f.more[Finding{area, subject}] <= perSubject {
		f.list = append(f.list, Finding{area, subject + ": " + fmt.Sprintf(format, args...)})
	}
}

func (f *findings) all() []Finding {
	for subject, n := range f.more {
		if n > perSubject {
			f.list = append(f.list, Finding{subject.Area, fmt.Sprintf("%s: %d more", subject.What, n-perSubject)})
		}
	}
	return f.list
}

// Audit compares everything, and returns what is wrong, and the log. Its error is that something could not be read.
func Audit(ctx context.Context, s Shop) ([]Finding, []Event, error) {
	behind, err := Behind(ctx, s)
	if err != nil {
		return nil, nil, err
	}
	f := &findings{list: behind}
	l, err := readLog(ctx, s.Primary)
	if err != nil {
		return nil, nil, err
	}
	l.check(f)
	if err := checkBooks(ctx, s.Primary, l.events, f); err != nil {
		return nil, nil, err
	}
	want := make(map[string]*model)
	for name, fold := range models {
		want[name] = fold(l.events)
	}
	generations, err := readGenerations(ctx, s.Primary)
	if err != nil {
		return nil, nil, err
	}
	checkGenerations(generations, f)
	if err := finishSearch(ctx, s.Primary, want["catalogue"].tables["products"]); err != nil {
		return nil, nil, err
	}
	if err := comparePostgres(ctx, s, generations, want, f); err != nil {
		return nil, nil, err
	}
	for _, g := range generations {
		if err := compareRedis(ctx, s.Redis, l, g, want[g.model], f); err != nil {
			return nil, nil, err
		}
	}
	if err := compareJetStream(ctx, s.JetStream, l, f); err != nil {
		return nil, nil, err
	}
	return f.all(), l.events, nil
}

func comparePostgres(ctx context.Context, s Shop, generations []generation, want map[string]*model, f *findings) error {
	if err := compareRows(ctx, s.Primary, "primary", generations, want, f); err != nil {
		return err
	}
	for i, replica := range s.Replicas {
		name := fmt.Sprintf("replica %d", i+1)
		if err := awaitReplica(ctx, s.Primary, replica); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := compareRows(ctx, replica, name, generations, want, f); err != nil {
			return err
		}
	}
	return nil
}

// awaitReplica returns when a replica shows what the primary has written so far.
func awaitReplica(ctx context.Context, primary, replica *pgxpool.Pool) error {
	var written string
	if err := primary.QueryRow(ctx, `SELECT pg_current_wal_insert_lsn()::text`).Scan(&written); err != nil {
		return err
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var shown bool
		err := replica.QueryRow(ctx, `SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn`, written).Scan(&shown)
		if err != nil || shown {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// snapshot reads in one snapshot of a server, with times in UTC.
func snapshot(ctx context.Context, pool *pgxpool.Pool, read func(pgx.Tx) error) error {
	return pgx.BeginTxFunc(ctx, pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SET LOCAL timezone TO 'UTC'`); err != nil {
			return err
		}
		return read(tx)
	})
}
