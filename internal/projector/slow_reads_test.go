package projector_test

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/projector"
)

// TestSlowReads has all connections to a replica busy with what takes longer than a server may be silent: it is not taken for one that does not answer.
func TestSlowReads(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.worker("one")
	replica := connect(t, f.replicas[0].Config().ConnString())
	m := f.modelsWith(func(o *projector.ModelsOptions) { o.Replicas = []*pgxpool.Pool{replica} })
	f.fill(10, 10)
	f.expect(m)
	need := projector.Need{Projections: []string{"tally"}}
	const slow = 1500 * time.Millisecond
	connections := int(replica.Config().MaxConns)
	var readers errgroup.Group
	attempts := make([]int, connections)
	for i := range connections {
		readers.Go(func() error {
			return m.Query(t.Context(), need, `SELECT pg_sleep($1)`, []any{slow.Seconds()}, func(rows pgx.Rows) error {
				attempts[i]++
				rows.Close()
				return rows.Err()
			})
		})
	}
	if err := readers.Wait(); err != nil {
		t.Error(err)
	}
	for _, n := range attempts {
		if n != 1 {
			t.Errorf("a slow read was begun %d times", n)
		}
	}
	if away := m.LeftAlone(); len(away) > 0 {
		t.Errorf("left alone: %v", away)
	}
}
