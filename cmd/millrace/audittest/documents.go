package audittest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// hashOf names the hash in which Redis has a partition of a generation.
func (l *eventLog) hashOf(g generation, partition int) string {
	return fmt.Sprintf("mr:%.8s.%d:%s.%d.%d", l.id, l.epoch, g.model, g.number, partition)
}

// compareRedis compares every document of a generation.
func compareRedis(ctx context.Context, client redis.UniversalClient, l *eventLog, g generation, want *model, f *findings) error {
	if want == nil || want.documents == nil {
		return nil
	}
	for partition := range l.partitions {
		hash, err := client.HGetAll(ctx, l.hashOf(g, partition)).Result()
		if err != nil {
			return fmt.Errorf("reading the documents of %s: %w", g, err)
		}
		subject := fmt.Sprintf("%s, partition %d", g, partition)
		for _, field := range slices.Sorted(maps.Keys(hash)) {
			key, isDocument := strings.CutPrefix(field, "d:")
			switch {
			case isDocument:
				difference(Redis, subject, key, want.documents[partition][key], decodeObject([]byte(hash[field])), f)
			case field != "checkpoint":
				f.add(Redis, subject, "there is a field %s, which the audit does not know", field)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(want.documents[partition])) {
			if _, there := hash["d:"+key]; !there {
				difference(Redis, subject, key, want.documents[partition][key], nil, f)
			}
		}
	}
	return nil
}
