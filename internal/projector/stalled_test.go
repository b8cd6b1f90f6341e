package projector_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/millrace/millrace/internal/breaker"
	"github.com/millrace/millrace/internal/devstack/stacktest"
	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/projector"
)

// behindProxies returns the models of a process that reaches a replica and the primary through proxies, with small pools.
func (f *fixture) behindProxies() (m *projector.Models, replica, primary *stacktest.Proxy) {
	f.t.Helper()
	through := func(url string) (*stacktest.Proxy, *pgxpool.Pool) {
		proxy, url := stacktest.ProxyURL(f.t, url)
		return proxy, connect(f.t, url)
	}
	replica, toReplica := through(f.replicas[0].Config().ConnString())
	primary, toPrimary := through(f.url)
	m = f.modelsWith(func(o *projector.ModelsOptions) {
		o.Replicas, o.Primary = []*pgxpool.Pool{toReplica}, toPrimary
		withAmpleWait(o)
	})
	return m, replica, primary
}

// A replica that takes questions and does not answer is left alone by all readers, however many wait for it, and the primary answers. When
// that stalls too, reads fail at once; and both come back by themselves.
func TestServersThatStall(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.worker("one")
	m, replica, primary := f.behindProxies()
	position := f.fill(100, 10)
	f.expect(m)

	replica.Stall()
	var group errgroup.Group
	for range 30 { // more than there are connections
		group.Go(func() error {
			_, err := f.row(m, position, "tally-3")
			if errors.Is(err, es.ErrUnavailable) {
				return nil // a machine that is busy with other tests has the primary answer late at times
			}
			return err
		})
	}
	must(t, group.Wait())
	eventually(t, patience, "the replica is left alone", func() bool { return slices.Equal(m.LeftAlone(), []string{"replica 1"}) })
	began := time.Now()
	row, err := f.row(m, position, "tally-3")
	if must(t, err); row.Last == 0 {
		t.Errorf("the primary's row is %+v", row)
	}
	t.Logf("a read took %v while the replica was left alone", time.Since(began))

	primary.Stall()
	eventually(t, patience, "both are left alone", func() bool {
		_, err := f.row(m, position, "tally-3")
		if err != nil && !errors.Is(err, es.ErrUnavailable) {
			t.Fatal(err)
		}
		return slices.Equal(m.LeftAlone(), []string{"primary", "replica 1"})
	})
	for began = time.Now(); time.Since(began) < 3*breaker.Pause; { // their breakers let somebody try them meanwhile
		_, err := f.row(m, position, "tally-3")
		if !errors.Is(err, es.ErrUnavailable) || strings.Count(err.Error(), "it is left alone") != 2 {
			t.Fatalf("a read waits for servers that stall, and ends with %v", err)
		}
	}

	primary.Heal()
	replica.Heal()
	eventually(t, patience, "both are asked again", func() bool { return len(m.LeftAlone()) == 0 })
	_, err = f.row(m, position, "tally-3")
	must(t, err)
}

// A server that stalls in the middle of an answer is given up on while there is time to ask another.
func TestAServerThatStallsInTheMiddle(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.worker("one")
	m, replica, _ := f.behindProxies()
	f.fill(100, 10)
	f.expect(m)
	const deadline = 20 * time.Second
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	attempts, read := 0, 0
	const half = 10_000
	stalling, stalled := make(chan struct{}), make(chan struct{})
	// Far more rows than what lies between the server and its reader holds, so that they come in parts.
	sql := `SELECT stream, repeat(md5(n::text), 32) FROM tally.streams, generate_series(1, 2000) n`
	err := m.Query(ctx, projector.Need{Projections: []string{"tally"}}, sql, nil, func(rows pgx.Rows) error {
		if attempts++; attempts == 1 {
			go func() { // the proxy stalls when what it has in hand has been read
				defer close(stalled)
				close(stalling)
				replica.Stall()
			}()
			<-stalling
		}
		read = 0
		for rows.Next() {
			if read++; read == half {
				<-stalled
			}
		}
		return rows.Err()
	})
	if err != nil || attempts != 2 || read != 2*half {
		t.Errorf("attempt %d showed %d rows: %v", attempts, read, err)
	}
}
