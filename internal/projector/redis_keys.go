package projector

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/es"
)

// checkpointField is the field of a partition's hash that holds its checkpoint. Those of documents have a prefix.
const (
	checkpointField = "checkpoint"
	documentPrefix  = "d:"
)

func documentField(key string) string { return documentPrefix + key }

// redisKeys names the hashes of a generation. A partition is one hash, with its documents and its checkpoint: whatever
// deletes or evicts keys takes them together, and one script may touch all of them, in a cluster too. Log and epoch are
// part of the name: documents of another log are never found.
type redisKeys struct {
	prefix string // "<log>.<epoch>:<projection>.<generation>."
}

func newRedisKeys(info es.Log, projection string, generation int) redisKeys {
	id := info.ID
	if len(id) > 8 {
		id = id[:8]
	}
	return redisKeys{prefix: fmt.Sprintf("%s.%d:%s.%d.", id, info.Epoch, projection, generation)}
}

func (k redisKeys) partition(number int) string { return "mr:" + k.prefix + strconv.Itoa(number) }

// documentKeys calls found with the key of every document of a partition. While documents are written it may miss new
// ones and repeat others.
func (k redisKeys) documentKeys(ctx context.Context, client redis.UniversalClient, partition int, found func(key string)) error {
	for cursor := uint64(0); ; {
		fields, next, err := client.HScan(ctx, k.partition(partition), cursor, documentPrefix+"*", 1000).Result()
		if err != nil {
			return fmt.Errorf("projector: listing the documents %s: %w", k.partition(partition), err)
		}
		for i := 0; i < len(fields); i += 2 { // fields and values in turn
			found(strings.TrimPrefix(fields[i], documentPrefix))
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// drop deletes everything of the generation. A worker that has not heard of it finds another checkpoint than its own.
func (k redisKeys) drop(ctx context.Context, client redis.UniversalClient, partitions int) error {
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n := range partitions {
			p.Unlink(ctx, k.partition(n)) // one by one: they may belong to several slots
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("projector: deleting the documents %s: %w", k.prefix, err)
	}
	return nil
}
