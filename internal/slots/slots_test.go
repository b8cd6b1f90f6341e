package slots_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/slots"
)

func TestMain(m *testing.M) { stacktest.Main(m) }

// TestTable fills a table with more than it has places for.
func TestTable(t *testing.T) {
	t.Parallel()
	const places, keys = 8, 200
	o, err := redis.ParseURL(stacktest.New(t, stacktest.WithoutNATS()).RedisURL)
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	info := es.Log{ID: uuid.NewString(), Epoch: 1}
	table := func(info es.Log, name string) *slots.Table {
		s, err := slots.New(slots.Options{Redis: client, Info: info, Name: name, Bytes: places * 100, ValueBytes: 100, TTL: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	one, later := table(info, "one"), info
	later.Epoch = 2
	key := func(i int) (k [slots.KeyBytes]byte) {
		k[7], k[31] = byte(i), 1 // the place depends on the first bytes alone
		return k
	}
	for i := range keys {
		one.Put(t.Context(), key(i), fmt.Append(nil, i))
		if value, ok := one.Get(t.Context(), key(i)); !ok || string(value) != fmt.Sprint(i) {
			t.Fatalf("%d was put, and %q is there", i, value)
		}
	}
	there := 0
	for i := range keys {
		if value, ok := one.Get(t.Context(), key(i)); ok {
			there++
			if string(value) != fmt.Sprint(i) {
				t.Errorf("the value of %d is %q", i, value)
			}
		}
	}
	if there != places {
		t.Errorf("%d values are there", there)
	}
	for what, other := range map[string]*slots.Table{"of another name": table(info, "two"), "of another epoch": table(later, "one")} {
		if value, ok := other.Get(t.Context(), key(keys-1)); ok {
			t.Errorf("a table %s has %q", what, value)
		}
	}
	long := key(keys)
	one.Put(t.Context(), long, []byte(strings.Repeat("x", 101)))
	if _, ok := one.Get(t.Context(), long); ok {
		t.Error("a value that is too long was put")
	}
	pattern := fmt.Sprintf("mr:%s.*", info.ID[:8])
	if found, err := client.Keys(t.Context(), pattern).Result(); err != nil || len(found) != places {
		t.Errorf("Redis has %d keys: %v", len(found), err)
	}
}
