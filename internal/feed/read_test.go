package feed

import (
	"testing"
	"time"

	"github.com/millrace/millrace/internal/es"
	"github.com/millrace/millrace/internal/postgres"
)

// TestConfirmedWhileEventsAreLate has Postgres say where the log ends before the events come, each time: what it says is confirmed when they do, as of
// when it was asked, and until then it is known that there is more.
func TestConfirmedWhileEventsAreLate(t *testing.T) {
	t.Parallel()
	f := New(Options{Info: es.Log{Partitions: 1}})
	f.window.start(3, []postgres.PartitionEnd{{Position: 3, Ordinal: 3}})
	expect := func(position int64, at time.Time, more bool) {
		t.Helper()
		if p, a, m := f.Confirmed(); p != position || !a.Equal(at) || m != more {
			t.Errorf("confirmed is %d at %v, more: %t; want %d at %v, more: %t", p, a, m, position, at, more)
		}
	}
	comes := func(position int64) {
		t.Helper()
		if err := f.extend([]es.Event{{Position: position, Ordinal: position}}, fromJetStream); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	at := func(n int) time.Time { return began.Add(time.Duration(n) * livePoll) }
	expect(0, time.Time{}, false)
	f.answered(3, at(0))
	expect(3, at(0), false)
	f.answered(5, at(1))
	expect(3, at(0), true)
	comes(4)
	f.answered(6, at(2)) // the one of before still counts
	expect(3, at(0), true)
	comes(5)
	expect(5, at(1), false)
	f.answered(6, at(3))
	expect(5, at(1), true)
	comes(6)
	expect(6, at(3), false)
}
