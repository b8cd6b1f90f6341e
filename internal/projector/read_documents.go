package projector

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/breaker"
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
	models  *Models
	known   atomic.Pointer[map[string]*knownGeneration]
	highest map[string][]atomic.Int64 // by projection and partition: the highest checkpoint seen, over all generations
	breaker *breaker.Breaker
}

// knownGeneration is a generation of a projection as it was last looked up.
type knownGeneration struct {
	number     int
	switchedAt time.Time // when readers began to see it, or to see another one instead
	keys       redisKeys
	remembered []int64          // by partition: as far as Redis is known to have come
	before     *knownGeneration // of the live one: the one that readers saw before, which workers feed too; nil: none
}

func (g *knownGeneration) readSince() time.Time { return g.switchedAt }

func (d *documentReader) init(m *Models) {
	d.models, d.breaker = m, m.newBreaker("redis documents")
	d.highest = make(map[string][]atomic.Int64)
	for _, p := range m.o.Projections {
		if p.Redis != nil {
			d.highest[p.Name] = make([]atomic.Int64, m.o.Info.Partitions)
		}
	}
}

// refresh looks up the generations of models with documents.
func (d *documentReader) refresh(ctx context.Context) error {
	if err := refresh(ctx, d.models, &d.known, d.lookUp); err != nil {
		return fmt.Errorf("projector: reading the live generations: %w", err)
	}
	return nil
}

// lookUp returns what one server says.
func (d *documentReader) lookUp(ctx context.Context, s *server) (map[string]*knownGeneration, error) {
	m := d.models
	rows, err := s.pool.Query(ctx, `SELECT p.name, p.generation, p.status, p.switched_at, c.partition, c.position
		FROM unnest($1::text[], $2::integer[]) AS needed(name, version)
		JOIN projections p ON p.name = needed.name AND p.version = needed.version AND p.status IN ('live', 'previous')
		JOIN checkpoints c ON c.projection = p.name AND c.generation = p.generation AND c.store = 'redis'
		WHERE (p.log_id, p.log_epoch) = ($3::uuid, $4)`,
		m.projectionNames(), m.versions(m.projectionNames()), m.o.Info.ID, m.o.Info.Epoch)
	if err != nil {
		return nil, err
	}
	live, previous := make(map[string]*knownGeneration), make(map[string]*knownGeneration)
	var name, status string
	var number, partition int
	var position int64
	var switchedAt time.Time
	_, err = pgx.ForEachRow(rows, []any{&name, &number, &status, &switchedAt, &partition, &position}, func() error {
		of := live
		if status == statusPrevious {
			of = previous
		}
		g := of[name]
		if g == nil {
			g = &knownGeneration{
				number: number, switchedAt: switchedAt, keys: newRedisKeys(m.o.Info, name, number),
				remembered: make([]int64, m.o.Info.Partitions),
			}
			of[name] = g
		}
		if partition < len(g.remembered) {
			g.remembered[partition] = position
		}
		return nil
	})
	for name, g := range live {
		g.before = previous[name]
	}
	return live, err
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
	left       map[int][]int // by partition: indexes of the keys that are neither answered nor given up
	reached    bool          // a partition has been read as far as required
	sources    *Sources      // nil: nobody wants to know
}

func (r *documentsRead) run(ctx context.Context) {
	m := r.models
	r.left = make(map[int][]int)
	streams := make([]string, len(r.keys))
	for i, k := range r.keys {
		streams[i] = k.Stream
		n := es.PartitionOf(k.Stream, m.o.Info.Partitions)
		r.left[n] = append(r.left[n], i)
	}
	began := time.Now()
	waiting, cancel := context.WithDeadline(ctx, earlier(began.Add(m.o.Wait/documentsShare), m.deadline(ctx, began)))
	defer cancel()
	r.position = es.PositionFrom(ctx)
	if r.sources = sourcesFrom(ctx); r.sources != nil {
		if r.position = r.sources.wanted(); r.position > 0 {
			waiting, cancel = context.WithDeadline(ctx, began.Add(r.sources.until.Sub(began)/documentsShare))
			defer cancel()
		}
	}
	required, err := m.require(waiting, []string{r.projection}, r.position, m.partitionsOf(streams))
	behind := false
	if err == nil {
		r.required = make(map[int]int64, len(required.partitions))
		for i, n := range required.partitions {
			r.required[int(n)] = required.positions[i]
		}
		pause := backoff{first: time.Millisecond, most: 20 * time.Millisecond}
		for behind = r.readOnce(ctx); behind && waiting.Err() == nil; behind = r.readOnce(ctx) {
			pause.pause(waiting)
		}
	}
	if r.position > 0 && r.sources == nil && ctx.Err() == nil {
		r.observe(time.Since(began), err, behind)
	}
}

// observe tells the metrics how a read at a position has ended. Where Redis could not be asked there is nothing to tell.
func (r *documentsRead) observe(took time.Duration, unknown error, behind bool) {
	metrics := r.models.o.Metrics
	if unknown != nil || behind || r.reached {
		metrics.waited(r.projection, storeRedis, took)
	}
	switch {
	case errors.Is(unknown, ErrBeyond):
		metrics.stale(r.projection, storeRedis, reasonBeyond)
	case unknown != nil:
		metrics.stale(r.projection, storeRedis, reasonLog)
	case behind:
		metrics.stale(r.projection, storeRedis, reasonBehind)
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// readOnce reads the partitions that are left, and reports whether any is left that may be there in a moment.
//
// What this process has shown of a partition counts over all generations. One that readers have just been switched to stands
// where it was folded to until workers find it, and the one before has gone on in Redis, where a switch locks nothing: until the
// new one has come so far, the partition is read from the other.
func (r *documentsRead) readOnce(ctx context.Context) (behind bool) {
	g := r.generation(r.projection)
	if g == nil {
		return false
	}
	shown := make(map[int]int64, len(r.left)) // what others see while this read is under way must not count against it
	for n := range r.left {
		shown[n] = r.highest[r.projection][n].Load()
	}
	past, behind := r.readFrom(ctx, g, shown, r.left)
	if g.before != nil && len(past) > 0 {
		var late bool
		past, late = r.readFrom(ctx, g.before, shown, past)
		behind = behind || late
	}
	for n := range past {
		delete(r.left, n)
	}
	return behind
}

// readFrom reads partitions of a generation, and takes those that are answered away from what is left. It returns those that show
// less than was shown or is remembered, which is as good as nothing, and whether there are others that have not come as far as
// required.
func (r *documentsRead) readFrom(
	ctx context.Context, g *knownGeneration, shown map[int]int64, asked map[int][]int,
) (past map[int][]int, behind bool) {
	if !r.breaker.Allow() {
		return nil, false
	}
	commands := make(map[int]*redis.SliceCmd, len(asked))
	asking, cancel := context.WithTimeout(ctx, documentTimeout)
	defer cancel()
	_, err := r.models.o.Redis.Pipelined(asking, func(p redis.Pipeliner) error {
		for n, indexes := range asked {
			fields := make([]string, 0, len(indexes)+1)
			fields = append(fields, checkpointField)
			for _, i := range indexes {
				fields = append(fields, documentField(r.keys[i].Key))
			}
			commands[n] = p.HMGet(asking, g.keys.partition(n), fields...) // one command: checkpoint and documents of one moment
		}
		return nil
	})
	switch {
	case err == nil:
		r.breaker.Succeeded()
	case ctx.Err() != nil:
		r.breaker.Abandoned()
	default:
		r.models.o.Logger.WarnContext(ctx, "Redis cannot answer; reading PostgreSQL instead", "error", err)
		r.breaker.Failed()
	}
	past = make(map[int][]int)
	for n, c := range commands {
		values, err := c.Result()
		if err != nil {
			continue
		}
		text, _ := values[0].(string)
		at, err := parseMark(text)
		switch {
		case text == "" || err != nil || at.position < max(shown[n], g.remembered[n]):
			past[n] = asked[n]
		case at.position < r.required[n]:
			behind = true
		default:
			raise(&r.highest[r.projection][n], at.position)
			r.reached = true
			r.answer(g, asked[n], values[1:], at)
			delete(r.left, n)
		}
	}
	return past, behind
}

// answer takes over the documents of the keys with these indexes, read at a mark of a generation.
func (r *documentsRead) answer(g *knownGeneration, indexes []int, documents []any, at mark) {
	for k, i := range indexes {
		if from, held := at.held[r.keys[i].Stream]; held && from <= r.position {
			continue // parked before what is asked for
		}
		if document, ok := documents[k].(string); ok {
			r.answers[i] = json.RawMessage(document)
			if r.sources != nil {
				streams := r.streamsOf(i)
				if len(streams) == 0 && len(at.held) > 0 {
					r.sources.isLate() // it may go without some of them, and a retry changes it without an event
				}
				r.sources.note(r.projection, Part{Generation: g.number}, streams)
			}
		}
	}
}

// streamsOf names the stream that a document was folded from, none where it may have been several.
func (r *documentsRead) streamsOf(i int) []string {
	if r.keys[i].Key != r.keys[i].Stream {
		return nil
	}
	return []string{r.keys[i].Stream}
}

func raise(v *atomic.Int64, to int64) {
	for {
		old := v.Load()
		if old >= to || v.CompareAndSwap(old, to) {
			return
		}
	}
}
