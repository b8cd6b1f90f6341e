package projector_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/devstack"
	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/feed"
	"github.com/millrace/millrace/internal/postgres"
	"github.com/millrace/millrace/internal/projector"
)

func TestMain(m *testing.M) {
	if isChild() {
		os.Exit(runChild())
	}
	stacktest.Main(m)
}

// added is the event of the tests' streams; noted is one that their projection does not want.
type added struct {
	N int `json:"n"`
	// Poison makes the projection fail as long as the fixture says so.
	Poison bool `json:"poison,omitempty"`
}

type noted struct{}

func (added) EventType() string { return "tally.added" }
func (noted) EventType() string { return "tally.noted" }

var codec = es.NewCodec(added{}, noted{})

// tally is a stream's row, and document.
type tally struct {
	Count, Sum, Last int64
}

// poisoned says which events marked as poison fail, by log: whether all do, or the position of the one that does.
var poisoned sync.Map

func (f *fixture) poison(on bool) { poisoned.Store(f.info.ID, on) }

// poisonOnly leaves only the event at a position poisonous.
func (f *fixture) poisonOnly(position int64) { poisoned.Store(f.info.ID, position) }

func isPoisonous(log string, e *es.Event) bool {
	which, _ := poisoned.Load(log)
	return e.Fact.(added).Poison && (which == true || which == e.Position)
}

// tallyProjection counts the events of each stream, in both stores.
func tallyProjection(info es.Log, version int) projector.Projection {
	fail := func(e *es.Event) error {
		if isPoisonous(info.ID, e) {
			return errors.New("it is poison")
		}
		return nil
	}
	fold := func(t tally, e *es.Event) (tally, error) {
		if err := fail(e); err != nil {
			return t, err
		}
		if e.Position <= t.Last {
			return t, fmt.Errorf("event %d of %s comes behind event %d", e.Position, e.Stream, t.Last)
		}
		return tally{Count: t.Count + 1, Sum: t.Sum + int64(e.Fact.(added).N), Last: e.Position}, nil
	}
	return projector.Projection{
		Name: "tally", Version: version, Events: []string{"tally.added"},
		Postgres: &projector.Postgres{
			Schema: []string{`CREATE TABLE tally.streams (stream text COLLATE "C" PRIMARY KEY, count bigint NOT NULL, sum bigint NOT NULL, last bigint NOT NULL)`},
			Apply: func(ctx context.Context, tx *projector.Tx, events []es.Event) error {
				return projector.Fold(ctx, tx, events, func(e *es.Event) string { return e.Stream }, loadTallies, fold, saveTallies)
			},
		},
		Redis: projector.Documents(func(e *es.Event) string { return es.IDOf(e.Stream) }, func(doc *tally, e *es.Event) (*tally, error) {
			if doc == nil {
				doc = &tally{}
			}
			t, err := fold(*doc, e)
			return &t, err
		}),
	}
}

func loadTallies(ctx context.Context, tx *projector.Tx, keys []string) (map[string]tally, error) {
	rows, err := tx.Query(ctx, `SELECT stream, count, sum, last FROM tally.streams WHERE stream = ANY ($1)`, keys)
	if err != nil {
		return nil, err
	}
	found := make(map[string]tally, len(keys))
	var stream string
	var t tally
	_, err = pgx.ForEachRow(rows, []any{&stream, &t.Count, &t.Sum, &t.Last}, func() error {
		found[stream] = t
		return nil
	})
	return found, err
}

func saveTallies(_ context.Context, tx *projector.Tx, changed []projector.Changed[tally]) error {
	streams, counts := make([]string, 0, len(changed)), make([]int64, 0, len(changed))
	sums, lasts := make([]int64, 0, len(changed)), make([]int64, 0, len(changed))
	for _, c := range changed {
		stream, t := c.Key, c.State
		streams, counts, sums, lasts = append(streams, stream), append(counts, t.Count), append(sums, t.Sum), append(lasts, t.Last)
	}
	tx.Queue(`INSERT INTO tally.streams SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[])
		ON CONFLICT (stream) DO UPDATE SET count = excluded.count, sum = excluded.sum, last = excluded.last`, streams, counts, sums, lasts)
	return nil
}

// fixture is a log of a test's own, with a feed and what else a worker and readers need.
type fixture struct {
	t        testing.TB
	url      string
	redisURL string
	pool     *pgxpool.Pool
	replicas []*pgxpool.Pool
	redis    redis.UniversalClient
	log      *postgres.Log
	feed     *feed.Feed
	info     es.Log

	mu       sync.Mutex
	head     int64
	versions map[string]int64
	ordinals map[int]int64
	sums     map[string]tally // what the model has to show
}

func setup(t testing.TB) *fixture {
	t.Helper()
	env := stacktest.New(t, stacktest.WithoutNATS())
	return setupOn(t, env.DatabaseURL, env.ReplicaURLs, env.RedisURL)
}

// setupReplicas is setup with servers of its own, and so many replicas.
func setupReplicas(t testing.TB, replicas int) (*fixture, *devstack.Stack) {
	t.Helper()
	stack := stacktest.Private(t, stacktest.WithReplicas(replicas))
	return setupOn(t, stack.PostgresURL(), stack.ReplicaURLs(), stack.RedisURL()), stack
}

func setupOn(t testing.TB, databaseURL string, replicaURLs []string, redisURL string) *fixture {
	t.Helper()
	f := &fixture{
		t: t, url: databaseURL, redisURL: redisURL, pool: connect(t, databaseURL),
		versions: make(map[string]int64), ordinals: make(map[int]int64), sums: make(map[string]tally),
	}
	for _, url := range replicaURLs {
		f.replicas = append(f.replicas, connect(t, url))
	}
	options, err := redis.ParseURL(redisURL)
	must(t, err)
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	f.redis = client
	f.log, err = postgres.OpenLog(t.Context(), f.pool, codec)
	must(t, err)
	f.info = f.log.Info()
	f.feed = feed.New(feed.Options{Log: f.log, Info: f.info, Codec: codec, Logger: testLogger(t)})
	background(t, f.feed.Run)
	return f
}

func connect(t testing.TB, url string) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	must(t, err)
	config.MaxConns = 12
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	must(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// testLogger shows what went wrong beside the test that it went wrong in.
func testLogger(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelWarn}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// background runs something until the test ends, or until the returned function is called, which waits for it.
func background(t testing.TB, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	var once sync.Once
	stop = func() {
		once.Do(func() {
			cancel()
			if err := <-done; err != nil {
				t.Errorf("in the background: %v", err)
			}
		})
	}
	t.Cleanup(stop)
	return stop
}

// eventually polls until the condition holds.
func eventually(t testing.TB, within time.Duration, what string, condition func() bool) {
	t.Helper()
	deadline := time.NewTimer(within)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %v: %s", within, what)
		}
	}
}

func (f *fixture) workerOptions(id string, projections ...projector.Projection) projector.WorkerOptions {
	if len(projections) == 0 {
		projections = []projector.Projection{tallyProjection(f.info, 1)}
	}
	return projector.WorkerOptions{
		ID: id, Pool: f.pool, Redis: f.redis, Feed: f.feed, Log: f.log, Codec: codec, Info: f.info,
		Projections: projections, Logger: testLogger(f.t),
	}
}

// worker runs a worker until the test ends or it is stopped.
func (f *fixture) worker(id string, projections ...projector.Projection) (stop func()) {
	f.t.Helper()
	w, err := projector.NewWorker(f.workerOptions(id, projections...))
	must(f.t, err)
	return background(f.t, w.Run)
}

func (f *fixture) models(projections ...projector.Projection) *projector.Models {
	f.t.Helper()
	return f.modelsWith(func(o *projector.ModelsOptions) {
		if len(projections) > 0 {
			o.Projections = projections
		}
	})
}

// modelsWith returns models that run until the test ends, with other options than the fixture's own.
func (f *fixture) modelsWith(change func(*projector.ModelsOptions)) *projector.Models {
	f.t.Helper()
	o := projector.ModelsOptions{
		Primary: f.pool, Replicas: f.replicas, Redis: f.redis, Feed: f.feed, Info: f.info,
		Projections: []projector.Projection{tallyProjection(f.info, 1)}, Logger: testLogger(f.t),
	}
	change(&o)
	m, err := projector.NewModels(o)
	must(f.t, err)
	background(f.t, m.Run)
	return m
}

// process returns the models of a process of its own, which learns of the log by a feed of its own and has connections
// of its own to the replicas.
func (f *fixture) process(change func(*projector.ModelsOptions)) *projector.Models {
	f.t.Helper()
	follow := feed.New(feed.Options{Log: f.log, Info: f.info, Codec: codec, Logger: testLogger(f.t)})
	background(f.t, follow.Run)
	var replicas []*pgxpool.Pool
	for _, r := range f.replicas {
		replicas = append(replicas, connect(f.t, r.Config().ConnString()))
	}
	return f.modelsWith(func(o *projector.ModelsOptions) {
		o.Feed, o.Replicas = follow, replicas
		change(o)
	})
}

// ample is a wait that no read needs where a server has what it asks for, however slow the machine is.
const ample = 30 * time.Second

func withAmpleWait(o *projector.ModelsOptions) { o.Wait = ample }

// append puts events at the end of the log, in one commit, and returns the position of the last.
func (f *fixture) append(stream string, facts ...es.Fact) int64 {
	f.t.Helper()
	return f.appendAll(func(add func(string, es.Fact)) {
		for _, fact := range facts {
			add(stream, fact)
		}
	})
}

func (f *fixture) appendAll(each func(add func(stream string, fact es.Fact))) int64 {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	var rows [][]any
	now := time.Now().UTC()
	batch := [16]byte{byte(f.head), byte(f.head >> 8), byte(f.head >> 16), 1}
	each(func(stream string, fact es.Fact) {
		eventType, data, err := codec.Encode(fact)
		if err != nil { // a type of a later version
			eventType = fact.EventType()
			data, err = json.Marshal(fact)
			must(f.t, err)
		}
		partition := es.PartitionOf(stream, f.info.Partitions)
		f.head++
		f.versions[stream]++
		f.ordinals[partition]++
		if a, ok := fact.(added); ok {
			s := f.sums[stream]
			f.sums[stream] = tally{Count: s.Count + 1, Sum: s.Sum + int64(a.N), Last: f.head}
		}
		rows = append(rows, []any{f.head, stream, f.versions[stream], eventType, data, []byte("{}"), now, now, partition, f.ordinals[partition], batch})
	})
	_, err := f.pool.CopyFrom(context.Background(), pgx.Identifier{"events"},
		[]string{"position", "stream", "version", "type", "data", "metadata", "occurred_at", "recorded_at", "partition", "ordinal", "batch"},
		pgx.CopyFromRows(rows))
	must(f.t, err)
	return f.head
}

// fill appends n events over the given number of streams.
func (f *fixture) fill(n, streams int) int64 {
	f.t.Helper()
	var last int64
	for done := 0; done < n; {
		last = f.appendAll(func(add func(string, es.Fact)) {
			for range min(10_000, n-done) {
				add(fmt.Sprintf("tally-%d", done%streams), added{N: done})
				done++
			}
		})
	}
	return last
}

// row reads a stream's row at a position.
func (f *fixture) row(m *projector.Models, position int64, stream string) (t tally, err error) {
	ctx := es.WithPosition(f.t.Context(), position)
	sql := `SELECT count, sum, last FROM tally.streams WHERE stream = $1`
	err = m.Query(ctx, projector.Need{Projections: []string{"tally"}, Streams: []string{stream}}, sql, []any{stream}, func(rows pgx.Rows) error {
		_, err := pgx.ForEachRow(rows, []any{&t.Count, &t.Sum, &t.Last}, func() error { return nil })
		return err
	})
	return t, err
}

// rows reads all rows at a position.
func (f *fixture) rows(m *projector.Models, position int64) (map[string]tally, error) {
	found := make(map[string]tally)
	ctx := es.WithPosition(f.t.Context(), position)
	err := m.Query(ctx, projector.Need{Projections: []string{"tally"}}, `SELECT stream, count, sum, last FROM tally.streams`, nil, func(rows pgx.Rows) error {
		clear(found)
		var stream string
		var t tally
		_, err := pgx.ForEachRow(rows, []any{&stream, &t.Count, &t.Sum, &t.Last}, func() error {
			found[stream] = t
			return nil
		})
		return err
	})
	return found, err
}

// document reads a stream's document, nil for none.
func (f *fixture) document(m *projector.Models, position int64, stream string) *tally {
	f.t.Helper()
	documents, err := m.Documents(es.WithPosition(f.t.Context(), position), "tally", []projector.DocKey{{Stream: stream, Key: es.IDOf(stream)}})
	must(f.t, err)
	if documents[0] == nil {
		return nil
	}
	var t tally
	must(f.t, json.Unmarshal(documents[0], &t))
	return &t
}

// shows reads a stream in every way, at the position of its last event, and returns an error if it does not show just what was appended.
func (f *fixture) shows(m *projector.Models, position int64, stream string) error {
	f.mu.Lock()
	want := f.sums[stream]
	f.mu.Unlock()
	row, err := f.row(m, position, stream)
	if err != nil {
		return err
	}
	if row != want {
		return fmt.Errorf("at position %d the row of %s is %+v, want %+v", position, stream, row, want)
	}
	if d := f.document(m, position, stream); d != nil && *d != want {
		return fmt.Errorf("at position %d the document of %s is %+v, want %+v", position, stream, *d, want)
	}
	rows, err := f.rows(m, position)
	if err != nil {
		return err
	}
	if rows[stream] != want {
		return fmt.Errorf("at position %d the list shows %s as %+v, want %+v", position, stream, rows[stream], want)
	}
	return nil
}

// expect compares both stores with what was appended.
func (f *fixture) expect(m *projector.Models) {
	f.t.Helper()
	f.mu.Lock()
	head, want := f.head, f.sums
	f.mu.Unlock()
	var rows map[string]tally
	eventually(f.t, 2*patience, "the rows have come to the end of the log", func() (there bool) {
		var err error
		rows, err = f.rows(m, head)
		if err != nil && !errors.Is(err, projector.ErrStale) {
			f.t.Fatal(err)
		}
		return err == nil
	})
	if len(rows) != len(want) {
		f.t.Errorf("there are %d rows, want %d", len(rows), len(want))
	}
	for stream, t := range want {
		if rows[stream] != t {
			f.t.Errorf("row %s: %+v, want %+v", stream, rows[stream], t)
		}
		var d *tally
		eventually(f.t, 2*patience, "document "+stream, func() bool {
			d = f.document(m, head, stream)
			return d != nil
		})
		if *d != t {
			f.t.Errorf("document %s: %+v, want %+v", stream, *d, t)
		}
		if f.t.Failed() {
			f.t.FailNow()
		}
	}
}

// redisKey is the Redis key of the hash that holds a stream's document in a generation.
func (f *fixture) redisKey(stream string, generation int) string {
	return fmt.Sprintf("mr:%s.%d:tally.%d.%d", f.info.ID[:8], f.info.Epoch, generation, es.PartitionOf(stream, f.info.Partitions))
}
