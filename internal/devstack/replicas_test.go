package devstack_test

import (
	"testing"
	"time"
)

func TestReplicasAtDifferentLags(t *testing.T) {
	t.Parallel()
	o := options(t.TempDir())
	o.Replicas = 3
	s := start(t, o)
	const current, delayed, paused = 0, 1, 2
	seen := func(replica int) int {
		n, err := queryOne[int](t.Context(), s.ReplicaURLs()[replica], `SELECT count(*) FROM seen`)
		must(t, err)
		return n
	}
	exec1(t, s.PostgresURL(), `CREATE TABLE seen AS SELECT 1 AS n`)
	for replica := range s.ReplicaURLs() {
		eventually(t, "a replica has the table", func() bool {
			n, err := queryOne[int](t.Context(), s.ReplicaURLs()[replica], `SELECT count(*) FROM seen`)
			return err == nil && n == 1
		})
	}
	const delay = 2 * time.Second
	must(t, s.PauseReplay(t.Context(), paused))
	must(t, s.DelayReplay(t.Context(), delayed, delay))
	eventually(t, "the delay is in force", func() bool {
		set, err := queryOne[string](t.Context(), s.ReplicaURLs()[delayed], `SHOW recovery_min_apply_delay`)
		return err == nil && set == "2s"
	})
	began := time.Now()
	exec1(t, s.PostgresURL(), `INSERT INTO seen VALUES (2)`)
	eventually(t, "the current replica has the row", func() bool { return seen(current) == 2 })
	eventually(t, "the delayed replica has the row", func() bool { return seen(delayed) == 2 })
	if took := time.Since(began); took < delay/2 { // the commit is older than its transaction's beginning, and clocks are coarse
		t.Errorf("the delayed replica had it after %v", took)
	}
	if n := seen(paused); n != 1 {
		t.Errorf("the paused replica has %d rows", n)
	}
	must(t, s.ResumeReplay(t.Context(), paused))
	eventually(t, "the resumed replica has the row", func() bool { return seen(paused) == 2 })
	must(t, s.DelayReplay(t.Context(), delayed, 0))
	exec1(t, s.PostgresURL(), `INSERT INTO seen VALUES (3)`)
	eventually(t, "the replica that was delayed has the row", func() bool { return seen(delayed) == 3 })
}
