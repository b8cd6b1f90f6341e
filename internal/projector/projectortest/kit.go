// Package projectortest tests projections as given / when / then: given events, when the projection has folded them, then its rows
// and documents are these.
//
//	kit := projectortest.New(t, orders.Projection(), commands.Codec())
//	kit.Case("an order that was paid").
//		Given(projectortest.On("order-1", placed, order.Confirmed{})).
//		Then(projectortest.Rows(`SELECT number, status FROM orders.orders`, projectortest.Row{"1", "CONFIRMED"}))
//
// The events are in the log of a database of the kit's own, workers fold them into PostgreSQL and Redis, and a rebuild folds them
// again. Only how they are handed out is the kit's, so that it says where batches end, and a worker has all partitions at once, without
// leases. Each case runs in every way in which the engine runs a fold (see [Kit]), and all have to come to the same, row by row and
// document by document, whatever the case expects.
package projectortest

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"

	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// Kit runs the cases of one projection, one after the other, on a log that is emptied between them.
//
// The events of a case are folded in these ways, each time into every store that the projection has:
//
//   - live, one at a time;
//   - live, in batches, each of which is undone in PostgreSQL and folded again; in between another worker takes over, and is
//     handed all events again from the first;
//   - by a worker that finds all of them recorded, and catches up;
//   - by a rebuild, in two rounds, at the end of which what was folded is saved.
//
// Where a batch ends, and where the other worker takes over, differs from case to case and is the same whenever a case runs.
//
// While they are folded one at a time it is seen to that no row is written by events of two partitions.
type Kit struct {
	t          *testing.T
	projection projector.Projection
	codec      *es.Codec
	pool       *pgxpool.Pool
	admin      *pgxpool.Pool // a superuser's: the log refuses to be emptied by others
	redis      redis.UniversalClient
	given      map[string]bool // by what the versions of a type have in common
	shrinking  time.Duration   // how long a smaller history is looked for than one that has failed
}

// New returns a kit for the projection, whose events the codec has to know. Its version does not matter. The package's TestMain is that
// of stacktest.
func New(t *testing.T, p projector.Projection, codec *es.Codec) *Kit {
	t.Helper()
	for _, name := range p.Events {
		if !codec.Knows(name) {
			t.Errorf("projectortest: %s names the event %q, which does not exist", p.Name, name)
		}
	}
	env := stacktest.New(t, stacktest.WithoutNATS())
	options, err := redis.ParseURL(env.RedisURL)
	if err != nil {
		t.Fatalf("projectortest: %v", err)
	}
	// A machine that is busy with other tests is no reason to give up.
	options.DialTimeout, options.ReadTimeout, options.WriteTimeout, options.PoolTimeout = patience, patience, patience, patience
	client := redis.NewClient(options)
	t.Cleanup(func() { _ = client.Close() }) // nothing is written any more
	k := &Kit{
		t: t, projection: p, codec: codec, redis: client, given: make(map[string]bool), shrinking: 20 * time.Second,
		pool: connect(t, env.DatabaseURL, 16), admin: connect(t, env.AdminURL, 2),
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	err = k.createGenerations(ctx)
	if err == nil {
		err = k.setWitness(ctx)
	}
	if err != nil {
		t.Fatalf("projectortest: preparing the tables of %s: %v", p.Name, err)
	}
	return k
}

func connect(t *testing.T, url string, connections int32) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatalf("projectortest: %v", err)
	}
	config.MaxConns = connections
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatalf("projectortest: %v", err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// EveryEventIsGiven fails the test if no case has given one of the events that the projection names. It comes behind the cases.
func (k *Kit) EveryEventIsGiven() {
	k.t.Helper()
	if missing := k.missing(); len(missing) > 0 {
		k.t.Errorf("%s names events that no case gives: %s", k.projection.Name, strings.Join(missing, ", "))
	}
}

func (k *Kit) missing() []string {
	return slices.DeleteFunc(slices.Clone(k.projection.Events), func(name string) bool { return k.given[es.Family(name)] })
}
