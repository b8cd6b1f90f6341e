package projector

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/es"
)

// writeDocuments is the one way in which documents and a checkpoint change: KEYS is the hash of one partition; ARGV the
// mark as it has to be, as it will be, and fields and documents in turn ("" deletes). It answers with the mark
// that it found. Documents without a checkpoint do not count, and must not be found again behind the next one.
var writeDocuments = redis.NewScript(`
local found = redis.call('HGET', KEYS[1], '` + checkpointField + `')
if not found then
  found = '0'
  redis.call('UNLINK', KEYS[1])
end
if found ~= ARGV[1] then return found end
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', KEYS[1], ARGV[i]) else redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1]) end
end
if ARGV[2] ~= ARGV[1] then redis.call('HSET', KEYS[1], '` + checkpointField + `', ARGV[2]) end
return found`)

// redisStore is a generation kept in Redis.
type redisStore struct {
	client     redis.UniversalClient
	projection *Projection
	keys       redisKeys
}

func newRedisStore(client redis.UniversalClient, p *Projection, generation int, info es.Log) *redisStore {
	return &redisStore{client: client, projection: p, keys: newRedisKeys(info, p.Name, generation)}
}

func (s *redisStore) name() string { return storeRedis }

func (s *redisStore) load(ctx context.Context, partitions []int) ([]mark, error) {
	commands, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, partition := range partitions {
			p.HGet(ctx, s.keys.partition(partition), checkpointField)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("projector: reading the checkpoints of %s in Redis: %w", s.projection.Name, err)
	}
	marks := make([]mark, len(partitions))
	for i, c := range commands {
		text, err := c.(*redis.StringCmd).Result() // "" where there is none
		if err == nil || errors.Is(err, redis.Nil) {
			marks[i], err = parseMark(text)
		}
		if err != nil {
			return nil, fmt.Errorf("projector: reading the checkpoints of %s in Redis: %w", s.projection.Name, err)
		}
	}
	return marks, nil
}

// apply makes a shelf for one batch. Runners keep theirs: see shelvedStore.
func (s *redisStore) apply(ctx context.Context, moves []move, events []es.Event, bulk bool) error {
	return s.applyWith(ctx, s.projection.Redis.newShelf(), moves, events)
}

// shelvedStore is a redisStore that remembers the documents that it wrote. It is not safe for concurrent use.
type shelvedStore struct {
	*redisStore
	shelf shelf
}

func (s *redisStore) shelved() *shelvedStore {
	return &shelvedStore{redisStore: s, shelf: s.projection.Redis.newShelf()}
}

// load forgets what belongs to marks of before: somebody else may have moved them since.
func (s *shelvedStore) load(ctx context.Context, partitions []int) ([]mark, error) {
	s.shelf.forget()
	return s.redisStore.load(ctx, partitions)
}

func (s *shelvedStore) apply(ctx context.Context, moves []move, events []es.Event, bulk bool) error {
	err := s.applyWith(ctx, s.shelf, moves, events)
	if err != nil {
		s.shelf.forget()
	} else {
		s.shelf.trim()
	}
	return err
}

func (s *redisStore) loadDocuments(ctx context.Context, sh shelf, missing []missingDocument) error {
	if len(missing) == 0 {
		return nil
	}
	commands, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, m := range missing {
			p.HGet(ctx, s.keys.partition(m.id.partition), documentField(m.id.key))
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return fmt.Errorf("projector: reading documents of %s: %w", s.projection.Name, err)
	}
	for i, c := range commands {
		data, err := c.(*redis.StringCmd).Bytes()
		if err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("projector: reading documents of %s: %w", s.projection.Name, err)
		}
		if err := sh.put(missing[i].place, data); err != nil {
			return &faultError{err: err}
		}
	}
	return nil
}

// missingDocument is one that has to be read before it can be folded.
type missingDocument struct {
	id    documentID
	place int
}

func (s *redisStore) applyWith(ctx context.Context, sh shelf, moves []move, events []es.Event) error {
	ctx, cancel := context.WithTimeout(ctx, applyTimeout)
	defer cancel()
	sh.turn()
	touched, err := s.fold(ctx, sh, moves, events, nil)
	if err != nil {
		return err
	}
	return s.write(ctx, sh, moves, touched)
}

// fold brings documents on the shelf up to date, and adds the places of those that the turn had not touched to touched.
func (s *redisStore) fold(ctx context.Context, sh shelf, moves []move, events []es.Event, touched []int) ([]int, error) {
	if len(events) == 0 {
		return touched, nil
	}
	fromNothing := make(map[int]bool, len(moves))
	for _, m := range moves {
		fromNothing[m.partition] = m.from == 0
	}
	const none = -1
	places := make([]int, len(events))
	var missing []missingDocument
	err := guarded(func() error {
		for i := range events {
			e := &events[i]
			id := documentID{partition: e.Partition, key: s.projection.Redis.key(e)}
			if places[i] = none; id.key == "" {
				continue
			}
			place, first, known := sh.find(id)
			if places[i] = place; !first {
				continue
			}
			touched = append(touched, place)
			switch {
			case fromNothing[id.partition]: // nothing of the partition is in Redis that counts
				if err := sh.put(place, nil); err != nil {
					return err
				}
			case !known:
				missing = append(missing, missingDocument{id, place})
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := s.loadDocuments(ctx, sh, missing); err != nil {
		return nil, err
	}
	return touched, guarded(func() error {
		for i := range events {
			if places[i] == none {
				continue
			}
			if err := sh.apply(places[i], &events[i]); err != nil {
				return &faultError{err: err}
			}
		}
		return nil
	})
}

// write writes the documents at these places and moves the checkpoints of their partitions, in one round trip.
func (s *redisStore) write(ctx context.Context, sh shelf, moves []move, places []int) error {
	changed := make(map[int][]any, len(moves)) // by partition: fields and documents in turn
	for _, place := range places {
		id, data, err := sh.encode(place)
		if err != nil {
			return &faultError{err: err}
		}
		changed[id.partition] = append(changed[id.partition], documentField(id.key), data)
	}
	send := func(run func(ctx context.Context, c redis.Scripter, keys []string, args ...any) *redis.Cmd) ([]*redis.Cmd, error) {
		commands := make([]*redis.Cmd, 0, len(moves))
		_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, m := range moves {
				c := changed[m.partition]
				args := append(make([]any, 0, len(c)+2), m.before().text(), m.after().text())
				commands = append(commands, run(ctx, p, []string{s.keys.partition(m.partition)}, append(args, c...)...))
			}
			return nil
		})
		return commands, err
	}
	commands, err := send(writeDocuments.EvalSha)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		// A server that was restarted. Sending the text again may repeat a script that another node of a cluster did
		// run: its comparison then fails, and the checkpoints are loaded again.
		commands, err = send(writeDocuments.Eval)
	}
	if err != nil {
		return fmt.Errorf("projector: writing documents of %s: %w", s.projection.Name, err)
	}
	for i, c := range commands {
		found, err := c.Text()
		if err != nil {
			return fmt.Errorf("projector: writing documents of %s: %w", s.projection.Name, err)
		}
		if found != moves[i].before().text() {
			return errMoved
		}
	}
	return nil
}
