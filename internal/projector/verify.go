package projector

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/es"
)

// Difference is a row or document of a live model that is not what the log says.
type Difference struct {
	Projection string
	// Table is the table's name, or "redis".
	Table string
	// Key is the primary key of the row as a JSON array, or the document's key.
	Key string
	// Live and Rebuilt are the row or document as JSON, empty where there is none.
	Live, Rebuilt string
}

// mostDifferences bounds the differences listed of a table.
const mostDifferences = 100

// Verify rebuilds each projection beside the live generation, up to exactly the live checkpoints, compares row by row
// and document by document, and drops what it built. The live generation stands still only while the last few events
// are folded. At most 100 differences a table are returned. What the live generation goes without because it is parked is left
// out of both. Its errors are those of [Replay].
func Verify(ctx context.Context, o ReplayOptions) ([]Difference, error) {
	b, err := beginBuild(ctx, o, false)
	if err != nil {
		return nil, err
	}
	var found []Difference
	err = b.reported(ctx, func(ctx context.Context) (err error) {
		found, err = (&verification{build: b}).run(ctx)
		return err
	})
	return found, errors.Join(err, b.end(ctx, true))
}

// verification compares the generations of a build with the live ones.
type verification struct{ *build }

func (v *verification) run(ctx context.Context) ([]Difference, error) {
	live := make(map[*sink]int, len(v.sinks))
	stores := make(map[*sink]store, len(v.sinks))
	until := int64(0)
	for _, s := range v.sinks {
		number, err := liveGeneration(ctx, v.o.Pool, v.o.Info, s.projection)
		if err != nil {
			return nil, err
		}
		live[s], stores[s] = number, v.liveStore(s, number)
		s.limits = make([]int64, v.o.Info.Partitions)
		if err := v.follow(ctx, s, stores[s]); err != nil {
			return nil, fmt.Errorf("projector: verifying %s: %w", s.projection.Name, err)
		}
		until = max(until, slices.Max(s.limits))
	}
	if err := v.rebuilder.fold(ctx, v.sinks, 0, until); err != nil {
		return nil, err
	}
	var all []Difference
	for _, s := range v.sinks {
		compare := v.compareTables
		if s.store.name() == storeRedis {
			compare = v.compareDocuments
		}
		found, err := compare(ctx, s, live[s], stores[s])
		if err != nil {
			return all, fmt.Errorf("projector: verifying %s: %w", s.projection.Name, err)
		}
		all = append(all, found...)
	}
	return all, nil
}

func (v *verification) liveStore(s *sink, number int) store {
	if s.store.name() == storeRedis {
		return newRedisStore(v.o.Redis, s.projection, number, v.o.Info)
	}
	return newPostgresStore(v.o.Pool, s.projection, number, v.o.Info.Partitions, func() {})
}

// follow lets a sink fold up to where the live generation stands.
func (v *verification) follow(ctx context.Context, s *sink, live store) error {
	marks, err := live.load(ctx, everyPartition(v.o.Info.Partitions))
	if err != nil {
		return err
	}
	for n, m := range marks {
		if err := s.follow(n, m); err != nil {
			return err
		}
	}
	return nil
}

// follow lets the sink fold a partition up to a mark, and leave out what that leaves out.
func (s *sink) follow(n int, to mark) error {
	for stream, position := range s.held[n] {
		if to.held[stream] != position {
			return fmt.Errorf("parked stream %s of partition %d was retried meanwhile; verify again", stream, n)
		}
	}
	s.limits[n], s.parked[n] = to.position, make(map[string]parking, len(to.held))
	for stream, position := range to.held {
		if _, held := s.held[n][stream]; !held && position <= s.checkpoints[n] {
			return fmt.Errorf("stream %s of partition %d was parked again meanwhile; verify again", stream, n)
		}
		s.parked[n][stream] = parking{position: position}
	}
	return nil
}

func liveGeneration(ctx context.Context, pool *pgxpool.Pool, info es.Log, p *Projection) (number int, err error) {
	err = pool.QueryRow(ctx, `SELECT generation FROM projections
		WHERE name = $1 AND version = $2 AND status = 'live' AND (log_id, log_epoch) = ($3::uuid, $4)`,
		p.Name, p.Version, info.ID, info.Epoch).Scan(&number)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, fmt.Errorf("projector: %s has no live generation of version %d yet: %w", p.Name, p.Version, ErrStale)
	}
	if err != nil {
		return 0, fmt.Errorf("projector: looking for the live generation of %s: %w", p.Name, err)
	}
	return number, nil
}

// catchUp folds what is between a sink's checkpoints and its limits.
func (v *verification) catchUp(ctx context.Context, s *sink) error {
	for {
		var behind []int
		after, until := int64(-1), int64(0)
		for n, at := range s.checkpoints {
			if at < s.limits[n] {
				behind = append(behind, n)
				if after < 0 || at < after {
					after = at
				}
				until = max(until, s.limits[n])
			}
		}
		if len(behind) == 0 {
			return s.store.flush(ctx)
		}
		events, _, err := v.log.ReadPartitions(ctx, behind, after, rebuildPage)
		if err != nil {
			return err
		}
		if len(events) > 0 {
			if err := s.fold(ctx, events); err != nil {
				return err
			}
		}
		if len(events) < rebuildPage || events[len(events)-1].Position >= until {
			if err := s.finish(ctx, until); err != nil {
				return err
			}
		}
	}
}

// compareTables compares in one snapshot in which both generations are at the same checkpoints.
func (v *verification) compareTables(ctx context.Context, s *sink, number int, live store) ([]Difference, error) {
	snapshot, err := v.o.Pool.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	defer func() { _ = snapshot.Rollback(context.WithoutCancel(ctx)) }() // nothing was written
	err = pgx.BeginFunc(ctx, v.conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, `SELECT FROM checkpoints WHERE projection = $1 AND generation = $2 AND store = 'postgres'
			ORDER BY partition FOR UPDATE`, s.projection.Name, number); err != nil {
			return err
		}
		if err := whileLocked(ctx, tx, func(ctx context.Context) error {
			if err := v.follow(ctx, s, live); err != nil {
				return err
			}
			return v.catchUp(ctx, s)
		}); err != nil {
			return err
		}
		_, err := snapshot.Exec(ctx, `SELECT FROM checkpoints LIMIT 1`) // takes the snapshot
		return err
	})
	if err != nil {
		return nil, err
	}
	rebuilt := schemaName(s.projection.Name, s.generation)
	tables, err := tablesOf(ctx, v.o.Pool, rebuilt)
	if err != nil {
		return nil, err
	}
	var all []Difference
	for _, t := range tables {
		rows, err := snapshot.Query(ctx, `SELECT coalesce(l.key, r.key)::text, coalesce(l.row::text, ''), coalesce(r.row::text, '')
			FROM `+t.keyed(schemaName(s.projection.Name, number))+` AS l FULL JOIN `+t.keyed(rebuilt)+` AS r USING (key)
			WHERE l.row IS DISTINCT FROM r.row LIMIT $1`, mostDifferences)
		if err != nil {
			return nil, err
		}
		found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (Difference, error) {
			d := Difference{Projection: s.projection.Name, Table: t.name}
			return d, row.Scan(&d.Key, &d.Live, &d.Rebuilt)
		})
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// compareDocuments compares documents some at a time: it reads the live ones with their checkpoint in one command, folds
// the rebuilt ones to that very checkpoint, and then reads them.
func (v *verification) compareDocuments(ctx context.Context, s *sink, number int, _ store) ([]Difference, error) {
	const chunk = 500
	live := newRedisKeys(v.o.Info, s.projection.Name, number)
	rebuilt := newRedisKeys(v.o.Info, s.projection.Name, s.generation)
	keys := make(map[int]map[string]struct{})
	for _, partition := range everyPartition(v.o.Info.Partitions) {
		keys[partition] = make(map[string]struct{})
		for _, side := range []redisKeys{live, rebuilt} {
			err := side.documentKeys(ctx, v.o.Redis, partition, func(key string) { keys[partition][key] = struct{}{} })
			if err != nil {
				return nil, err
			}
		}
	}
	var all []Difference
	for partition, set := range keys {
		names := make([]string, 0, len(set))
		for key := range set {
			names = append(names, key)
		}
		slices.Sort(names)
		for part := range slices.Chunk(names, chunk) {
			at, liveOnes, err := readDocuments(ctx, v.o.Redis, live, partition, part)
			if err != nil {
				return nil, err
			}
			if at.position < s.checkpoints[partition] {
				return nil, fmt.Errorf("redis lost partition %d meanwhile", partition)
			}
			if err := s.follow(partition, at); err != nil {
				return nil, err
			}
			if err := v.catchUp(ctx, s); err != nil {
				return nil, err
			}
			_, rebuiltOnes, err := readDocuments(ctx, v.o.Redis, rebuilt, partition, part)
			if err != nil {
				return nil, err
			}
			for i, key := range part {
				if liveOnes[i] != rebuiltOnes[i] && len(all) < mostDifferences {
					all = append(all, Difference{
						Projection: s.projection.Name, Table: storeRedis, Key: key, Live: liveOnes[i], Rebuilt: rebuiltOnes[i],
					})
				}
			}
		}
	}
	return all, nil
}

// readDocuments reads a partition's mark and documents of one moment; a document that does not exist is "".
func readDocuments(ctx context.Context, client redis.UniversalClient, keys redisKeys, partition int, documents []string) (mark, []string, error) {
	fields := make([]string, 0, len(documents)+1)
	fields = append(fields, checkpointField)
	for _, d := range documents {
		fields = append(fields, documentField(d))
	}
	values, err := client.HMGet(ctx, keys.partition(partition), fields...).Result()
	if err != nil {
		return mark{}, nil, fmt.Errorf("reading documents: %w", err)
	}
	text, _ := values[0].(string) // "" where there is none
	at, err := parseMark(text)
	if err != nil {
		return mark{}, nil, fmt.Errorf("reading the checkpoint of partition %d: %w", partition, err)
	}
	found := make([]string, len(documents))
	for i, v := range values[1:] {
		found[i], _ = v.(string)
	}
	return at, found, nil
}
