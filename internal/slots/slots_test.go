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

// TestRedisThatStalls checks that a Redis that does not answer costs whoever asks next nothing, and is asked again.
func TestRedisThatStalls(t *testing.T) {
	t.Parallel()
	proxy, url := stacktest.ProxyURL(t, stacktest.New(t, stacktest.WithoutNATS()).RedisURL)
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	o.ContextTimeoutEnabled = true
	client := redis.NewClient(o)
	t.Cleanup(func() { _ = client.Close() })
	table, err := slots.New(slots.Options{
		Redis: client, Info: es.Log{ID: uuid.NewString(), Epoch: 1}, Name: "answers", Variant: "-1", Bytes: 100, ValueBytes: 100, TTL: time.Minute,
	})
	if err != nil {
		t.Fatal(err)
	}
	var key [slots.KeyBytes]byte
	put := func() bool {
		table.Put(t.Context(), key, []byte("there"))
		_, ok := table.Get(t.Context(), key)
		return ok
	}
	if !put() || len(table.LeftAlone()) > 0 {
		t.Fatalf("what was put is not there; left alone: %q", table.LeftAlone())
	}
	proxy.Stall()
	for len(table.LeftAlone()) == 0 {
		if put() {
			t.Fatal("a Redis that stalls has answered")
		}
	}
	if names := fmt.Sprint(table.LeftAlone()); names != "[redis answers]" {
		t.Errorf("left alone are %s", names)
	}
	const patience = 30 * time.Second
	began := time.Now()
	for range 1_000 { // each of them would wait for a tenth of a second, twice
		put()
	}
	if took := time.Since(began); took > patience {
		t.Errorf("1,000 calls took %s", took)
	}
	proxy.Heal()
	for deadline := time.Now().Add(patience); !put(); {
		if time.Now().After(deadline) {
			t.Fatal("Redis is not asked again")
		}
	}
}
