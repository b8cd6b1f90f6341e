package projector

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
)

// logEnd is the feed of a log of one partition, of which no more is known than where it ends.
type logEnd struct {
	Feed
	head  int64
	since time.Time // of the last wait
}

func (l *logEnd) LastOf(func(string) bool) []int64 { return []int64{l.head} }

func (l *logEnd) WaitFor(_ context.Context, position int64, since time.Time) (bool, error) {
	l.since = since
	return position <= l.head, nil
}

// shelfModel has two generations of a projection with one document, which shows the position that it was folded to.
type shelfModel struct {
	t           *rapid.T
	client      *redis.Client
	models      *Models
	log         *logEnd
	generations [2]struct {
		keys           redisKeys
		at, remembered int64 // 0: it is not there
		dropped        bool
	}
	live   int
	shown  int64         // the highest that was read
	failed *failuresHook // reads that Redis did not answer in time
}

// failuresHook counts pipelines that have failed.
type failuresHook struct{ atomic.Int64 }

func (*failuresHook) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (*failuresHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (f *failuresHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, commands []redis.Cmder) error {
		err := next(ctx, commands)
		if err != nil {
			f.Add(1)
		}
		return err
	}
}

// write sets a generation to a position, as folding does, or as a Redis that has lost something finds it.
func (s *shelfModel) write(n int, to int64) {
	g := &s.generations[n]
	g.at = to
	ctx, key := context.Background(), g.keys.partition(0)
	err := s.client.Del(ctx, key).Err()
	if err == nil && to > 0 {
		err = s.client.HSet(ctx, key, checkpointField, mark{position: to}.text(), documentField("the one"), to).Err()
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// publish has readers know the generations as refresh would.
func (s *shelfModel) publish() {
	known := func(n int) *knownGeneration {
		g := s.generations[n]
		return &knownGeneration{number: n + 1, keys: g.keys, remembered: []int64{g.remembered}}
	}
	g := known(s.live)
	if !s.generations[1-s.live].dropped {
		g.before = known(1 - s.live)
	}
	s.models.documents.known.Store(&map[string]*knownGeneration{"shelf": g})
}

// want is what a read at a position has to show, 0 for nothing.
func (s *shelfModel) want(position int64) int64 {
	for _, n := range []int{s.live, 1 - s.live} {
		g := s.generations[n]
		if n != s.live && g.dropped || g.at == 0 || g.at < max(s.shown, g.remembered) {
			continue // it is behind what was seen
		}
		if g.at < position {
			return 0
		}
		return g.at
	}
	return 0
}

// read reads the document, 0 for none. A Redis that took too long is asked again: that is not what this is about.
func (s *shelfModel) read(position int64) (shown int64) {
	ctx, known := es.WithPosition(context.Background(), position), s.models.documents.breaker
	for again := true; again; {
		failed := s.failed.Load()
		documents, err := s.models.Documents(ctx, "shelf", []DocKey{{Stream: "shelf-1", Key: "the one"}})
		if err == nil && documents[0] != nil {
			shown, err = strconv.ParseInt(string(documents[0]), 10, 64)
		}
		if err != nil {
			s.t.Fatal(err)
		}
		again = s.failed.Load() > failed || !known.Closed()
	}
	return shown
}

// Whatever is folded, lost, remembered and switched to in between, documents are not older than the position asked for, nor than what was
// shown before; and there is an answer whenever one of the generations that are fed can give it.
func TestDocumentsNeverGoBack(t *testing.T) {
	t.Parallel()
	options, err := redis.ParseURL(stacktest.New(t, stacktest.WithoutNATS()).RedisURL)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() })
	failed := &failuresHook{}
	client.AddHook(failed)
	projection := Projection{Name: "shelf", Version: 1, Events: []string{"shelf.filled"}, Redis: Documents(
		func(*es.Event) string { return "the one" }, func(doc *json.Number, _ *es.Event) (*json.Number, error) { return doc, nil })}
	rapid.Check(t, func(t *rapid.T) {
		s := &shelfModel{t: t, client: client, log: &logEnd{head: 1}, failed: failed}
		info := es.Log{ID: rand.Text(), Epoch: 1, Partitions: 1}
		var err error
		s.models, err = NewModels(ModelsOptions{Redis: client, Feed: s.log, Info: info, Projections: []Projection{projection}, Wait: 8 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		for n := range s.generations {
			s.generations[n].keys = newRedisKeys(info, "shelf", n+1)
		}
		defer func() {
			for n := range s.generations {
				s.write(n, 0)
			}
		}()
		s.publish()
		generation := rapid.IntRange(0, 1)
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) { s.log.head += rapid.Int64Range(1, 3).Draw(t, "events") },
			"fold": func(t *rapid.T) {
				n := generation.Draw(t, "generation")
				if !s.generations[n].dropped {
					s.write(n, rapid.Int64Range(s.generations[n].at, s.log.head).Draw(t, "to"))
				}
			},
			"lose": func(t *rapid.T) {
				n := generation.Draw(t, "generation")
				s.write(n, rapid.Int64Range(0, s.generations[n].at).Draw(t, "to"))
			},
			"remember": func(t *rapid.T) {
				g := &s.generations[generation.Draw(t, "generation")]
				g.remembered = max(g.remembered, g.at)
				s.publish()
			},
			"switch": func(*rapid.T) {
				g := &s.generations[1-s.live]
				s.write(1-s.live, s.log.head)
				g.remembered, g.dropped = s.log.head, false
				s.live = 1 - s.live
				s.publish()
			},
			"drop": func(*rapid.T) {
				s.write(1-s.live, 0)
				s.generations[1-s.live].dropped = true
				s.publish()
			},
			"read": func(t *rapid.T) {
				position := rapid.Int64Range(0, s.log.head+1).Draw(t, "position")
				want := s.want(position)
				got := s.read(position)
				if got != 0 && (got < position || got < s.shown) {
					t.Fatalf("at position %d there is a document of %d; %d was shown before", position, got, s.shown)
				}
				if got != want {
					t.Fatalf("at position %d the document is of %d, want %d", position, got, want)
				}
				s.shown = max(s.shown, got)
			},
		})
	})
}
