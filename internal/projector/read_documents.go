package projector

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/es"
)

// documentsShare is the part of a wait that documents may take: a quarter. Whoever gets none asks PostgreSQL next.
const documentsShare = 4

// documentTimeout bounds one round trip to Redis.
const documentTimeout = 250 * time.Millisecond

// DocKey names a document: Stream is one whose partition holds it, Key is what [Documents]' key function returned.
type DocKey struct{ Stream, Key string }

// documentReader reads documents of live generations, and knows when not to.
type documentReader struct {
	models    *Models
	known     atomic.Pointer[map[string]*knownGeneration]
	highest   map[string][]atomic.Int64 // by projection and partition: the highest checkpoint seen, over all generations
	downUntil atomic.Int64              // Unix nanoseconds
}

// knownGeneration is the live generation of a projection as it was last looked up.
type knownGeneration struct {
	number     int
	keys       redisKeys
	remembered []int64 // by partition: as far as Redis is known to have come
}

func (d *documentReader) init(m *Models) {
	d.models = m
	d.highest = make(map[string][]atomic.Int64)
	for _, p := range m.o.Projections {
		if p.Redis != nil {
			d.highest[p.Name] = make([]atomic.Int64, m.o.Info.Partitions)
		}
	}
}

// refresh looks up the live generations of models with documents.
func (d *documentReader) refresh(ctx context.Context) error {
	m := d.models
	found := make(map[string]*knownGeneration)
	err := m.onServers(ctx, m.inTurn(), func(ctx context.Context, s *server) error {
		clear(found)
		rows, err := s.pool.Query(ctx, `SELECT p.name, p.generation, c.partition, c.position
			FROM unnest($1::text[], $2::integer[]) AS needed(name, version)
			JOIN projections p ON p.name = needed.name AND p.version = needed.version AND p.status = 'live'
			JOIN checkpoints c ON c.projection = p.name AND c.generation = p.generation AND c.store = 'redis'
			WHERE (p.log_id, p.log_epoch) = ($3::uuid, $4)`,
			m.projectionNames(), m.versions(m.projectionNames()), m.o.Info.ID, m.o.Info.Epoch)
		if err != nil {
			return err
		}
		var name string
		var number, partition int
		var position int64
		_, err = pgx.ForEachRow(rows, []any{&name, &number, &partition, &position}, func() error {
			g := found[name]
			if g == nil {
				g = &knownGeneration{
					number: number, keys: newRedisKeys(m.o.Info, name, number), remembered: make([]int64, m.o.Info.Partitions),
				}
				found[name] = g
			}
			if partition < len(g.remembered) {
				g.remembered[partition] = position
			}
			return nil
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("projector: reading the live generations: %w", err)
	}
	d.known.Store(&found)
	return nil
}

func (d *documentReader) generation(projection string) *knownGeneration {
	known := d.known.Load()
	if known == nil {
		return nil
	}
	return (*known)[projection]
}

// Documents returns the documents of a model in Redis, one for each key. Nil is no answer but a question to
// PostgreSQL: the document does not exist, has not reached the position of ctx in time, is parked before it, or cannot be read now.
// The error is that of ctx, or of a projection that has no documents.
func (m *Models) Documents(ctx context.Context, projection string, keys []DocKey) ([]json.RawMessage, error) {
	if p := m.byName[projection]; p == nil || p.Redis == nil {
		return nil, fmt.Errorf("projector: there is no model %q in Redis", projection)
	}
	answers := make([]json.RawMessage, len(keys))
	if len(keys) == 0 || m.o.Redis == nil {
		return answers, ctx.Err()
	}
	r := &documentsRead{documentReader: &m.documents, projection: projection, keys: keys, answers: answers}
	r.run(ctx)
	return answers, ctx.Err()
}

// documentsRead is one call of Documents.
type documentsRead struct {
	*documentReader
	projection string
	keys       []DocKey
	answers    []json.RawMessage
	position   int64
	required   map[int]int64 // by partition
}

func (r *documentsRead) run(ctx context.Context) {
	m := r.models
	byPartition := make(map[int][]int) // indexes of keys
	streams := make([]string, len(r.keys))
	for i, k := range r.keys {
		streams[i] = k.Stream
		n := es.PartitionOf(k.Stream, m.o.Info.Partitions)
		byPartition[n] = append(byPartition[n], i)
	}
	began := time.Now()
	waiting, cancel := context.WithTimeout(ctx, m.o.Wait/documentsShare)
	defer cancel()
	r.position = es.PositionFrom(ctx)
	required, err := m.require(waiting, r.position, m.partitionsOf(streams))
	if err == nil {
		r.required = make(map[int]int64, len(required.partitions))
		for i, n := range required.partitions {
			r.required[int(n)] = required.positions[i]
		}
		pause := backoff{first: time.Millisecond, most: 20 * time.Millisecond}
		for {
			behind := r.readOnce(waiting, byPartition)
			if !behind || waiting.Err() != nil {
				break
			}
			pause.pause(waiting)
		}
	}
	if r.position > 0 {
		m.o.Metrics.waited(storeRedis, time.Since(began), waiting.Err() == nil)
	}
}

// readOnce reads the partitions in byPartition, takes those away that are answered, and reports whether any is left
// that may be there in a moment.
func (r *documentsRead) readOnce(ctx context.Context, byPartition map[int][]int) (behind bool) {
	g := r.generation(r.projection)
	if g == nil || time.Now().UnixNano() < r.downUntil.Load() {
		return false
	}
	highest := r.highest[r.projection]
	floor := make(map[int]int64, len(byPartition))
	commands := make(map[int]*redis.SliceCmd, len(byPartition))
	asking, cancel := context.WithTimeout(ctx, documentTimeout)
	defer cancel()
	_, err := r.models.o.Redis.Pipelined(asking, func(p redis.Pipeliner) error {
		for n, indexes := range byPartition {
			// What others see while this read is under way must not count against it.
			floor[n] = max(g.remembered[n], highest[n].Load())
			fields := make([]string, 0, len(indexes)+1)
			fields = append(fields, checkpointField)
			for _, i := range indexes {
				fields = append(fields, documentField(r.keys[i].Key))
			}
			commands[n] = p.HMGet(asking, g.keys.partition(n), fields...) // one command: checkpoint and documents of one moment
		}
		return nil
	})
	if err != nil && ctx.Err() == nil {
		r.models.o.Logger.WarnContext(ctx, "Redis cannot answer; reading PostgreSQL instead", "error", err)
		r.downUntil.Store(time.Now().Add(leftAlone).UnixNano())
	}
	for n, c := range commands {
		values, err := c.Result()
		if err != nil {
			continue
		}
		text, _ := values[0].(string)
		at, err := parseMark(text)
		if text == "" || err != nil || at.position < floor[n] { // lost, and being read again: as good as absent
			delete(byPartition, n)
			continue
		}
		if at.position < r.required[n] {
			behind = true
			continue
		}
		raise(&highest[n], at.position)
		for k, i := range byPartition[n] {
			if from, held := at.held[r.keys[i].Stream]; held && from <= r.position {
				continue // parked before what is asked for
			}
			if document, ok := values[k+1].(string); ok {
				r.answers[i] = json.RawMessage(document)
			}
		}
		delete(byPartition, n)
	}
	return behind
}

func raise(v *atomic.Int64, to int64) {
	for {
		old := v.Load()
		if old >= to || v.CompareAndSwap(old, to) {
			return
		}
	}
}
